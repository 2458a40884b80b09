//! The repository and its disks, held against what is not ours: S3 servers, a proxy that breaks what passes it, qemu-img.

mod proxy;
mod rounds;
mod servers;
mod targets;
mod vmdk;
