//! What the door must know of an operation: its name, effect, and what it touches.
//!
//! An operation is one argument struct that implements [`Operation`]; everything else (the binding, the checks, the docs, the types,
//! the schema, the record) is made from that one declaration. The declarations themselves live in `ops/`.

use std::future::Future;

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::acting::Pass;
use super::bind::Binder;
use crate::error::Fault;

/// What an operation does to the world, in order of weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// Computes only; legal at a file's top level.
    Pure,
    /// Reads from a host.
    Read,
    /// Makes or changes something that can be made or changed back.
    Change,
    /// Removes or overwrites something for good.
    Destroy,
}

impl Effect {
    /// As the reference and the record call it: `change`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pure => "pure",
            Self::Read => "read",
            Self::Change => "change",
            Self::Destroy => "destroy",
        }
    }
}

/// Where a script finds an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A function of a binding: `esxi.connect`.
    Function { binding: &'static str, name: &'static str },
    /// A method of a handle: `vm:power_on`. The receiver is the argument named after the kind.
    Method { kind: &'static str, name: &'static str },
    /// Nowhere: only a person's own command calls it, for it reads or writes files of this machine, or asks for a new secret.
    Command { name: &'static str },
}

/// One thing that an operation touches: the entry `noun.verb` that must allow it, and the argument that selects it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Touch {
    pub noun: &'static str,
    pub verb: &'static str,
    pub selector: Selector,
}

/// Which object a [`Touch`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selector {
    /// The object that this argument names or holds. Where the argument is left out, the object is found while binding.
    Argument(&'static str),
    /// The object that `argument` names or holds, where the argument `given` is given: without it the entry is not needed.
    Given { argument: &'static str, given: &'static str },
    /// The object that `argument` names or holds, where the call is meant and no dry run (its argument `dry_run`), and where the argument
    /// `given`, if there is one, is given: else the entry is not needed. A dry run is a read.
    Meant { argument: &'static str, given: Option<&'static str> },
    /// An object that no argument names: it is found while binding (the datastore of a template).
    Found,
    /// The URL that this argument holds, where it is given: without it the entry is not needed.
    Url(&'static str),
    /// Whatever the tables allow: a list, filtered.
    Filtered,
}

/// Shorthand for declarations.
pub const fn touch(noun: &'static str, verb: &'static str, selector: Selector) -> Touch {
    Touch { noun, verb, selector }
}

/// One operation. Implemented by the struct of its arguments, whose doc comment is the operation's reference.
pub trait Operation: DeserializeOwned + JsonSchema + Send + Sync + 'static {
    /// `noun.verb` in snake case: `vm.power_on`.
    const NAME: &'static str;
    const EFFECT: Effect;
    const PLACE: Place;
    /// The arguments that may be given without a name, in order.
    const POSITIONAL: &'static [&'static str] = &[];
    const TOUCHES: &'static [Touch];
    /// Arguments whose values are contents (documents, files, extra configuration) and not names or amounts: the record keeps their
    /// size alone. `*` stands for all of them.
    const CONTENTS: &'static [&'static str] = &[];
    /// Whether it undoes, or removes what ceso itself put there (its own snapshots and leases): it then goes on where it cannot be
    /// recorded, for what it leaves behind would be worse.
    const UNDOES: bool = false;
    /// An example in Luau, shown by `ceso doc` and run by a test against the simulator with `host` and `vm` at hand.
    const USAGE: &'static str = "";

    /// The objects, resolved and checked.
    type Bound: Send + Sync;
    type Output: Serialize + JsonSchema + Send;

    /// Resolves names to objects, once, and has the binder check each.
    fn bind(&self, binder: &Binder<'_>) -> impl Future<Output = Result<Self::Bound, Fault>> + Send;

    /// For the `ensure` forms: the result where all that was asked holds already. Then nothing is written and nothing is sent.
    fn settled(
        &self,
        _bound: &Self::Bound,
        _pass: &Pass<'_>,
    ) -> impl Future<Output = Result<Option<Self::Output>, Fault>> + Send {
        async { Ok(None) }
    }

    /// Does it. The intent has been recorded.
    fn act(self, bound: Self::Bound, pass: &Pass<'_>) -> impl Future<Output = Result<Self::Output, Fault>> + Send;
}
