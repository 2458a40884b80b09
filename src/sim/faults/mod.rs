//! Faults on demand: what goes wrong with which requests, how often, and when.
//!
//! A rule is about one method of the API (`PowerOnVM_Task`) or one kind of file transfer (`PUT folder`); the first rule that is due
//! decides. A typed fault is answered where a host answers it: of a `…_Task` method most faults end the task, and those that are
//! found before a task begins come at once. It decides nothing by itself: who asks for no faults gets none.

mod read;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::esx;
use super::fault::VimFault;
use super::schema::{Kind, schema};
use super::value::Value;
use super::vm::question::Topic;
use crate::error::{Fault, nearest};

pub use read::read;

/// The most rules that may be set at once.
const MOST: usize = 1000;
/// The longest a request may be held up.
const LONGEST: Duration = Duration::from_secs(600);

/// Faults that a host answers at once, also to a method that begins a task.
const AT_ONCE: &[&str] = &[
    "InvalidArgument",
    "InvalidRequest",
    "InvalidType",
    "ManagedObjectNotFound",
    "NotSupported",
    "NotImplemented",
    "NoPermission",
    "NotAuthenticated",
    "RestrictedVersion",
    "TaskInProgress",
    "HostNotReachable",
];

/// The method that may lie.
const CHANGES: &str = "QueryChangedDiskAreas";

/// Methods that merge deltas, and may leave them behind.
const REMOVING: &[&str] = &["RemoveSnapshot_Task", "RemoveAllSnapshots_Task"];

/// What happens to a request that a rule catches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// The method fails with this fault of the API, with a message of its own or the usual one.
    Fault { kind: String, message: Option<String> },
    /// It is carried out after a while.
    Delay(Duration),
    /// The connection is closed without an answer, and nothing was done.
    Drop,
    /// It is carried out, and the connection closed without an answer.
    DropAnswer,
    /// The web server answers with this status, and nothing was done.
    Status(u16),
    /// The caller's session has ended.
    Expire,
    /// Snapshots are removed, and the merge of their deltas fails: they stay behind.
    LeaveDelta,
    /// Of a file transfer: the connection is closed after so many bytes of the file.
    Cut(u64),
    /// Of a file transfer: a Range is not heeded, as some hosts do not.
    NoRanges,
    /// Of a file transfer: success is said, and a page about an error comes in place of the file; what is sent is thrown away.
    Page,
    /// Of a query for changed blocks: it is answered wrongly, as hosts have been seen to.
    Lie(Lie),
    /// The machine asks something before its task is done, which runs until somebody answers.
    Ask(Topic),
    /// Before it is carried out somebody fills the datastore, but for so many bytes.
    Fill(u64),
    /// It is carried out, and the answer comes after a while.
    Late(Duration),
    /// It is carried out, and the network fails: all connections are cut, and for so long nobody is answered.
    Partition(Duration),
    /// It is carried out, and the host's agent starts anew: sessions, tasks and leases are forgotten, all connections are cut, and for so
    /// long nobody is answered. The work of tasks that are under way goes on to its end, or stops where it is.
    Restart { away: Duration, finishes: bool },
}

/// What a host says of changed blocks that is not so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// Areas that changed are left out, the first and every other: nobody can see it, and a backup that trusts it is damaged.
    Missing,
    /// All of the disk has changed.
    Everything,
    /// The `changeId` is none of this disk's, as after a crash of the host.
    Unknown,
}

/// The word for a rule that catches each request, whatever its method.
pub const ANY: &str = "*";

/// One rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// A method, or `*` for each of them, or `GET folder`, `PUT folder`, `HEAD folder`, `DELETE folder`, `GET nfc`, `PUT nfc`, `POST nfc`.
    pub method: String,
    pub trouble: Trouble,
    /// How many requests pass before the first that is caught.
    pub after: u64,
    /// How many are caught; without it, all from then on.
    pub times: Option<u64>,
    /// Which share of the requests that are due is caught, 0 to 1, by a generator whose seed makes each run the same.
    pub chance: f64,
}

/// The rules of a simulator, and how often each came up.
#[derive(Debug, Default)]
pub struct Faults(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    rules: Vec<Counted>,
    random: u64,
}

#[derive(Debug)]
struct Counted {
    rule: Rule,
    fault: Option<VimFault>,
    seen: u64,
    caught: u64,
}

/// What a rule has in store for a request that it caught.
#[derive(Debug, Clone)]
pub struct Caught {
    pub trouble: Trouble,
    /// Of [`Trouble::Fault`]: what stands in place of the method, made when the rule was added.
    pub fault: Option<InPlace>,
}

/// A fault in place of a method.
#[derive(Debug, Clone)]
pub struct InPlace {
    pub fault: VimFault,
    /// Whether it is the end of the method's task, or comes at once.
    pub in_task: bool,
}

/// How often a rule has come up.
#[derive(Debug, Clone, PartialEq)]
pub struct Tally {
    pub rule: Rule,
    /// Requests that it was asked about.
    pub seen: u64,
    /// Requests that it caught.
    pub caught: u64,
}

impl Faults {
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(State { rules: Vec::new(), random: seed }))
    }

    /// Adds a rule behind those that are there. Faults: `sim.fault` for a method or a fault that the API does not have.
    pub fn add(&self, rule: Rule) -> Result<(), Fault> {
        let wrong = |what: String| Fault::new("sim.fault", what);
        let transfer = rule.method.rsplit_once(' ').is_some_and(|(method, place)| {
            matches!((method, place), ("GET" | "PUT" | "HEAD" | "DELETE", "folder") | ("GET" | "PUT" | "POST", "nfc"))
        });
        if !transfer && rule.method != ANY && !schema().knows_method(&rule.method) {
            let shown: String = rule.method.chars().take(60).collect();
            let near = nearest(&shown, schema().method_names());
            let hint = near.first().map_or_else(
                || {
                    "methods are named as in the vSphere API, such as PowerOnVM_Task; file transfers PUT folder"
                        .to_owned()
                },
                |near| format!("did you mean {near}?"),
            );
            return Err(wrong(format!("the API has no method {shown:?}")).hint(hint));
        }
        let fault = match &rule.trouble {
            Trouble::Fault { .. } if transfer => {
                return Err(wrong(format!("{}: a file transfer has no typed faults", rule.method))
                    .hint("give a status, such as 507, or drop the connection"));
            }
            Trouble::Cut(_) | Trouble::NoRanges | Trouble::Page if !transfer => {
                return Err(wrong(format!(
                    "{}: only a file transfer is cut off, has ranges or gives a page",
                    rule.method
                ))
                .hint("such as GET folder"));
            }
            Trouble::Fault { kind, message } => Some(typed(kind, message.as_deref())?),
            Trouble::Delay(delay)
            | Trouble::Late(delay)
            | Trouble::Partition(delay)
            | Trouble::Restart { away: delay, .. }
                if *delay > LONGEST =>
            {
                return Err(wrong(format!("a request is held up for {LONGEST:?} at most")));
            }
            Trouble::Status(code) if !(400..=599).contains(code) => {
                return Err(wrong(format!("{code} is no status of an error: 400 to 599")));
            }
            Trouble::Lie(_) if rule.method != CHANGES => {
                return Err(wrong(format!("{} tells nothing of changed blocks", rule.method)).hint(CHANGES));
            }
            Trouble::Ask(_)
                if !rule.method.ends_with("_Task") || schema().method("VirtualMachine", &rule.method).is_none() =>
            {
                return Err(wrong(format!("{} is no task of a machine, which could ask something", rule.method))
                    .hint("such as PowerOnVM_Task"));
            }
            Trouble::LeaveDelta if !REMOVING.contains(&rule.method.as_str()) => {
                return Err(wrong(format!("{} leaves no delta behind", rule.method))
                    .hint(format!("methods that do: {}", REMOVING.join(", "))));
            }
            _ => None,
        };
        if !(0.0..=1.0).contains(&rule.chance) {
            return Err(wrong(format!("the chance of a fault is a number from 0 to 1, not {}", rule.chance)));
        }
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.rules.len() >= MOST {
            return Err(wrong(format!("there are {MOST} rules already, as many as there may be")));
        }
        state.rules.push(Counted { rule, fault, seen: 0, caught: 0 });
        Ok(())
    }

    /// Forgets all rules.
    pub fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).rules.clear();
    }

    /// The rules in their order, with how often each came up.
    pub fn tally(&self) -> Vec<Tally> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let tally =
            |counted: &Counted| Tally { rule: counted.rule.clone(), seen: counted.seen, caught: counted.caught };
        state.rules.iter().map(tally).collect()
    }

    /// What is to happen to a request, which is counted by each rule that it reaches.
    pub fn due(&self, method: &str) -> Option<Caught> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let State { rules, random } = &mut *state;
        for counted in rules.iter_mut().filter(|counted| counted.rule.method == method || counted.rule.method == ANY) {
            counted.seen += 1;
            let over = counted.rule.times.is_some_and(|times| counted.caught >= times);
            if counted.seen <= counted.rule.after || over || draw(random) >= counted.rule.chance {
                continue;
            }
            counted.caught += 1;
            let trouble = counted.rule.trouble.clone();
            let at_once = matches!(&trouble, Trouble::Fault { kind, .. } if AT_ONCE.contains(&kind.as_str()));
            let in_task = method.ends_with("_Task") && !at_once;
            let fault = counted.fault.clone().map(|fault| InPlace { fault, in_task });
            return Some(Caught { trouble, fault });
        }
        None
    }
}

/// The next number from 0 to 1 of the generator (SplitMix64).
fn draw(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

/// A fault of the API by its name, with what its type requires.
fn typed(kind: &str, message: Option<&str>) -> Result<VimFault, Fault> {
    let known = schema().data_type(kind).filter(|found| schema().is_a(found.name, "MethodFault"));
    let Some(known) = known else {
        let shown: String = kind.chars().take(60).collect();
        let near = nearest(&shown, schema().derived("MethodFault"));
        let hint = near
            .first()
            .map_or_else(|| "such as NoDiskSpace or InvalidState".to_owned(), |near| format!("did you mean {near}?"));
        return Err(Fault::new("sim.fault", format!("the API has no fault {shown:?}")).hint(hint));
    };
    let mut data = esx::filled(known.name);
    let lineage: Vec<_> = schema().lineage(known.name).collect();
    for field in lineage.into_iter().rev().flat_map(|one| one.own.iter()).filter(|field| !field.optional) {
        let value = match (field.name, field.kind) {
            ("datastore", Kind::Text) => Value::from("datastore1"),
            ("file", Kind::Text) => Value::from("[datastore1] simulated"),
            ("host", Kind::Named("ManagedObjectReference")) => esx::HOST.into(),
            (_, Kind::Named(name)) => match schema().enumeration(name).and_then(|words| words.first()) {
                Some(word) => Value::from(*word),
                None => continue,
            },
            _ => continue,
        };
        data.set(field.name, value);
    }
    Ok(VimFault { data, message: message.map_or_else(|| usual(known.name), str::to_owned) })
}

/// What a host says of a fault, where it is one that people meet.
fn usual(kind: &str) -> String {
    match kind {
        "NoDiskSpace" => "There is not enough space on the datastore datastore1.".to_owned(),
        "FileLocked" => "Unable to access file since it is locked".to_owned(),
        "InvalidState" => "The operation is not allowed in the current state.".to_owned(),
        "InvalidPowerState" => {
            "The attempted operation cannot be performed in the current state (Powered off).".to_owned()
        }
        "NotAuthenticated" => "The session is not authenticated.".to_owned(),
        "NoPermission" => "Permission to perform this operation was denied.".to_owned(),
        "TaskInProgress" => {
            "The operation is not allowed in the current state: another task is in progress.".to_owned()
        }
        "RestrictedVersion" => {
            "Current license or ESXi version prohibits execution of the requested operation.".to_owned()
        }
        other => format!("{other} (asked for)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(method: &str, kind: &str) -> Rule {
        let trouble = Trouble::Fault { kind: kind.to_owned(), message: None };
        Rule { method: method.to_owned(), trouble, after: 0, times: None, chance: 1.0 }
    }

    #[test]
    fn a_rule_comes_up_as_often_as_it_says() {
        let faults = Faults::new(1);
        faults.add(Rule { after: 1, times: Some(2), ..rule("PowerOnVM_Task", "NoDiskSpace") }).unwrap();
        let due: Vec<bool> = (0..5).map(|_| faults.due("PowerOnVM_Task").is_some()).collect();
        assert_eq!(due, [false, true, true, false, false]);
        assert!(faults.due("PowerOffVM_Task").is_none());
    }

    #[test]
    fn the_same_seed_gives_the_same_chances() {
        let drawn = |seed| {
            let faults = Faults::new(seed);
            faults.add(Rule { chance: 0.3, ..rule("Login", "InvalidLogin") }).unwrap();
            (0..1000).map(|_| faults.due("Login").is_some()).collect::<Vec<_>>()
        };
        assert_eq!(drawn(7), drawn(7));
        assert_ne!(drawn(7), drawn(8));
        let caught = drawn(7).into_iter().filter(|caught| *caught).count();
        assert!((200..400).contains(&caught), "{caught}");
    }

    #[test]
    fn what_the_api_does_not_have_is_refused_with_the_nearest_name() {
        let faults = Faults::new(1);
        let fault = faults.add(rule("PowerOnVM_Tusk", "NoDiskSpace")).unwrap_err();
        assert_eq!((fault.kind(), fault.hint_text()), ("sim.fault", Some("did you mean PowerOnVM_Task?")));
        let fault = faults.add(rule("PowerOnVM_Task", "NoDiskSpece")).unwrap_err();
        assert_eq!(fault.hint_text(), Some("did you mean NoDiskSpace?"));
        for kind in ["VirtualMachineConfigSpec", "", "VirtualMachine"] {
            assert!(faults.add(rule("PowerOnVM_Task", kind)).is_err(), "{kind}");
        }
        assert!(faults.add(rule("PUT folder", "NoDiskSpace")).is_err());
        let bad = [Trouble::Status(200), Trouble::Status(999), Trouble::Delay(Duration::from_secs(86_400))];
        for trouble in bad {
            assert!(faults.add(Rule { trouble, ..rule("Login", "") }).is_err());
        }
        for chance in [-0.1, 1.1, f64::NAN] {
            assert!(faults.add(Rule { chance, ..rule("Login", "InvalidLogin") }).is_err());
        }
    }

    #[test]
    fn every_fault_of_the_api_can_be_made_with_what_it_requires() {
        let mut count = 0;
        for kind in schema().derived("MethodFault") {
            let fault = typed(kind, Some("x")).unwrap();
            let data = &fault.data;
            for field in
                schema().lineage(kind).flat_map(|one| one.own.iter()).filter(|field| !field.optional && !field.many)
            {
                let simple = matches!(field.kind, Kind::Text | Kind::Int | Kind::Long | Kind::Boolean);
                assert!(!simple || data.get(field.name).is_some(), "{kind}.{}", field.name);
            }
            count += 1;
        }
        assert!(count > 300, "{count}");
    }
}
