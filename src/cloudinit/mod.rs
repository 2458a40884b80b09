//! Cloud-init documents: user-data, meta-data and network-config from typed input, and how a guest receives them.
