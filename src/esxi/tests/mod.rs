//! The client against a host of canned answers: hostile ones, sessions that end, connections that break, work that fails halfway.
#![allow(clippy::disallowed_methods)]

mod cloning;
mod fake;
mod hostile;
mod merging;
mod pool;
mod sessions;
mod vouched;
mod waiting;

use super::checked::Checked;

fn checked<T>(object: T) -> Checked<T> {
    Checked::by_the_door(object)
}
