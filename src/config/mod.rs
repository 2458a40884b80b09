//! Layered configuration: defaults, `/etc`, the user's, the project's, the environment, flags; each value knows where it came from.
