//! The wire between the worker and its parent: values, the messages that hold them, and the frames that carry those.
//!
//! The worker is not trusted: lengths and nesting are bounded before anything is kept. A handle carries an index into its own run's
//! table of objects, so a forged index names at most what the run was given anyway.

mod eager;
mod frame;
mod message;
mod value;

pub use eager::Eager;
pub use frame::{FrameError, MAX_FRAME, decode_frame, encode_frame, read_frame, write_frame};
pub use message::{
    Difference, FromWorker, Jail, JailPart, Known, Level, Limits, Outcome, Purpose, Raised, ScriptError, Source, Start,
    ToWorker, What,
};
pub use value::{Handle, MAX_DEPTH, MAX_VALUES, Value};

#[cfg(test)]
mod tests;
