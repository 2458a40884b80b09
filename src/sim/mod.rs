//! A simulator of a standalone ESXi host that speaks vim25 over a real socket and refuses what ESXi refuses.
