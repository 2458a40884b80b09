//! One run of one script: load, grant, spawn the worker, answer its calls, end it in time.

pub mod connect;
pub mod declaration;
pub mod modules;
pub mod output;
pub mod params;
pub mod process;
