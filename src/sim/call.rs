//! One request on its way: who calls which method of which object with what, and what the method answers.

use std::sync::Arc;

use super::fault::VimFault;
use super::faults::Lie;
use super::schema::Version;
use super::server::Host;
use super::value::{Data, Ref, Value};
use super::vm::question::Topic;
use super::world::World;

/// A checked request: the session is alive, the object is there, the arguments fit the tables.
pub struct Call {
    pub host: Arc<Host>,
    /// The key of the caller's session; `None` for what needs no session.
    pub session: Option<String>,
    pub version: Version,
    pub this: Ref,
    pub method: &'static str,
    pub args: Data,
    /// Whether somebody asked that snapshots are removed and their deltas stay.
    pub leave_delta: bool,
    /// The lie about changed blocks that somebody asked for.
    pub lie: Option<Lie>,
    /// What somebody asked for that the machine asks before its task is done.
    pub ask: Option<Topic>,
}

/// What a method answers.
#[derive(Debug)]
pub enum Reply {
    Nothing,
    Value(Value),
    /// `returnval` elements that are already written.
    Written(String),
}

impl<T: Into<Value>> From<T> for Reply {
    fn from(value: T) -> Self {
        Self::Value(value.into())
    }
}

pub type Answer = Result<Reply, VimFault>;

impl Call {
    /// The session's key; the dispatcher lets no method but the public ones run without one.
    pub fn session(&self) -> Result<&str, VimFault> {
        self.session.as_deref().ok_or_else(VimFault::not_authenticated)
    }

    /// A required text argument.
    pub fn text(&self, name: &str) -> Result<&str, VimFault> {
        self.args.text(name).ok_or_else(|| VimFault::invalid_argument(name, "it is required"))
    }

    /// A required data argument.
    pub fn data(&self, name: &str) -> Result<&Data, VimFault> {
        self.args.data(name).ok_or_else(|| VimFault::invalid_argument(name, "it is required"))
    }

    /// A required reference argument.
    pub fn reference(&self, name: &str) -> Result<&Ref, VimFault> {
        self.args.reference(name).ok_or_else(|| VimFault::invalid_argument(name, "it is required"))
    }

    /// A reference argument to an object that exists and is of the managed type `kind`.
    pub fn object(&self, world: &World, name: &str, kind: &str) -> Result<Option<Ref>, VimFault> {
        let Some(given) = self.args.reference(name) else { return Ok(None) };
        let found = world.find(given).ok_or_else(|| VimFault::not_found(given))?;
        match super::schema::schema().is_a(found.kind, kind) {
            true => Ok(Some(found)),
            false => Err(VimFault::invalid_argument(name, format!("{found} is not a {kind}"))),
        }
    }
}
