//! The vim25 client for a standalone ESXi host: sessions, properties, tasks, files, faults.

pub mod checked;
