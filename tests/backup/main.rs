//! The repository held against what is not ours: S3 servers, and a proxy that breaks what passes it.

mod proxy;
mod rounds;
mod servers;
mod targets;
