//! Inside the worker: one hardened Luau VM, its bindings and its jail. It holds nothing; it asks the parent through a pipe.
