//! Repositories as processes use them, and held against what is not ours: killed at any moment, at work all at once, on S3 servers
//! behind a proxy that breaks what passes it; disks against qemu-img.

mod kills;
mod lab;
mod nfs;
mod proxy;
mod room;
mod rounds;
mod servers;
mod targets;
mod vmdk;
mod writers;
