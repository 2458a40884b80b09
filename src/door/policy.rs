//! Three tables, each of which must allow a call: what the script needs, what its mode allows, what its principal was granted.
//!
//! They are evaluated one after the other at every call. An intersection of globs is no glob, so no merged table exists.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::grammar::selector;
use super::modes::{self, Mode};
use super::table::{Entry, Pattern, Table};
use crate::error::Fault;

/// The most names that are remembered for one verb of a run's account.
const MAX_NOTED: usize = 10_000;

/// Which of the three tables refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    Needs,
    Mode(Mode),
    Grant,
}

/// The three tables of one run, what they let through so far, and how often.
pub struct Policy {
    needs: Mutex<Option<Table>>,
    mode: Mode,
    mode_table: Table,
    grant: Option<Table>,
    used: Mutex<BTreeMap<(&'static str, &'static str), Vec<Pattern>>>,
    spent: Mutex<BTreeMap<(u8, usize), u64>>,
}

/// Uses of quotas that are given back unless the call is [kept](Reservation::keep).
#[derive(Debug, Default)]
pub struct Reservation {
    slots: Vec<(u8, usize)>,
}

impl Policy {
    /// A run in this mode; without a grant the principal may do all that the mode allows.
    pub fn new(mode: Mode, grant: Option<Table>) -> Self {
        Self {
            needs: Mutex::new(None),
            mode,
            mode_table: modes::table(mode),
            grant,
            used: Mutex::default(),
            spent: Mutex::default(),
        }
    }

    /// The same three tables as they are now, with an account of their own.
    pub(super) fn frozen(&self) -> Self {
        let frozen = Self::new(self.mode, self.grant.clone());
        *lock(&frozen.needs) = lock(&self.needs).clone();
        frozen
    }

    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// What the principal was granted, where that is less than what the mode allows.
    pub fn granted(&self) -> Option<&Table> {
        self.grant.as_ref()
    }

    /// Sets what the playbook asks for. A plain script has no such table and is held by its mode and grant alone.
    pub fn set_needs(&self, needs: Table) {
        *lock(&self.needs) = Some(needs);
    }

    /// Whether all three tables allow the verb on the object of that name.
    pub fn allows(&self, noun: &'static str, verb: &'static str, name: &str, made: bool) -> bool {
        self.refusing(noun, verb, name, made).is_none()
    }

    /// Whether all three have any entry for the verb: what a filtered list needs.
    pub fn check_filtered(&self, noun: &'static str, verb: &'static str) -> Result<(), Fault> {
        let needs = lock(&self.needs);
        let layer = if needs.as_ref().is_some_and(|table| !table.mentions(noun, verb)) {
            Layer::Needs
        } else if !self.mode_table.mentions(noun, verb) {
            Layer::Mode(self.mode)
        } else if self.grant.as_ref().is_some_and(|table| !table.mentions(noun, verb)) {
            Layer::Grant
        } else {
            lock(&self.used).entry((noun, verb)).or_default();
            return Ok(());
        };
        Err(denial(layer, noun, verb, None))
    }

    /// Whether all three allow the verb on everything: what is of no single object.
    pub fn check_all(&self, noun: &'static str, verb: &'static str) -> Result<(), Fault> {
        match self.refusing(noun, verb, "*", false) {
            Some(layer) => Err(denial(layer, noun, verb, None)),
            None => {
                self.note_all(noun, verb);
                Ok(())
            }
        }
    }

    /// Checks one object by name, without remembering it: the same object is checked again when it is bound.
    pub fn check_now(&self, noun: &'static str, verb: &'static str, name: &str, made: bool) -> Result<(), Fault> {
        match self.refusing(noun, verb, name, made) {
            Some(layer) => Err(denial(layer, noun, verb, Some(name))),
            None => Ok(()),
        }
    }

    /// Checks one object by name, and remembers the entry as used when it is allowed.
    pub fn check(&self, noun: &'static str, verb: &'static str, name: &str, made: bool) -> Result<(), Fault> {
        self.check_now(noun, verb, name, made)?;
        self.note_use(noun, verb, name);
        Ok(())
    }

    /// Checks a name before anything is sent, when it is not yet known whether the run made the object: `@made` may still match.
    ///
    /// It counts as used also where all held already and nothing had to be done: without the entry the call would be refused.
    pub fn check_literal(&self, noun: &'static str, verb: &'static str, name: &str) -> Result<(), Fault> {
        match self.refusing(noun, verb, name, false) {
            Some(layer) if self.refusing(noun, verb, name, true).is_some() => {
                Err(denial(layer, noun, verb, Some(name)))
            }
            Some(_) => Ok(()),
            None => {
                self.note_use(noun, verb, name);
                Ok(())
            }
        }
    }

    /// Remembers that the run used this entry for this name.
    pub fn note_use(&self, noun: &'static str, verb: &'static str, name: &str) {
        self.note(noun, verb, Pattern::Exact(name.to_owned()));
    }

    /// Remembers that the run listed whatever it may.
    pub fn note_all(&self, noun: &'static str, verb: &'static str) {
        self.note(noun, verb, Pattern::Any);
    }

    fn note(&self, noun: &'static str, verb: &'static str, pattern: Pattern) {
        let mut used = lock(&self.used);
        let patterns = used.entry((noun, verb)).or_default();
        // A script that asks for ever new names must not make an account without an end.
        if patterns.len() < MAX_NOTED && !patterns.contains(&pattern) {
            patterns.push(pattern);
        }
    }

    /// Whether an entry names something that begins so: one of what was granted, or of the needs where all was granted.
    pub fn names(&self, noun: &str, verb: &str, beginning: &str) -> bool {
        let needs = lock(&self.needs);
        let names = |table: &Table| {
            let mut patterns = table.of(noun, verb).flat_map(|entry| &entry.patterns);
            patterns.any(|pattern| match pattern {
                Pattern::Exact(text) | Pattern::Prefix(text) => text.starts_with(beginning),
                Pattern::Any | Pattern::Made => false,
            })
        };
        self.grant.as_ref().or(needs.as_ref()).is_some_and(names)
    }

    /// Takes one use of each quota that the verb on this name stands under.
    pub fn reserve(
        &self,
        reservation: &mut Reservation,
        noun: &'static str,
        verb: &'static str,
        name: &str,
        made: bool,
    ) -> Result<(), Fault> {
        let needs = lock(&self.needs);
        let tables = [(0, needs.as_ref()), (1, Some(&self.mode_table)), (2, self.grant.as_ref())];
        let mut spent = lock(&self.spent);
        for (layer, table) in tables {
            let Some((index, entry)) = table.and_then(|table| table.allowing(noun, verb, name, made)) else { continue };
            let Some(max) = entry.max else { continue };
            let count = spent.entry((layer, index)).or_default();
            if *count >= max {
                return Err(Fault::new(
                    "door.quota",
                    format!("denied: {noun}.{verb} on {name:?}: the entry allows {max} in a run, and all are used"),
                )
                .hint(format!("raise max in the entry {noun}.{verb}, or split the work over several runs"))
                .missing(format!("{noun}.{verb} {name:?}")));
            }
            *count += 1;
            reservation.slots.push((layer, index));
        }
        Ok(())
    }

    /// The entries that allow the verb, table by table: `vm.power: needs "web-*", mode "*"`. Without a name, all of the verb.
    pub fn allowing(&self, noun: &str, verb: &str, name: Option<&str>, made: bool) -> String {
        let needs = lock(&self.needs);
        let tables = [("needs", needs.as_ref()), ("mode", Some(&self.mode_table)), ("grant", self.grant.as_ref())];
        let told = tables.into_iter().filter_map(|(layer, table)| {
            let matching = |pattern: &&Pattern| name.is_none_or(|name| pattern.matches(name, made));
            let patterns: Vec<String> = table?
                .of(noun, verb)
                .flat_map(|entry| entry.patterns.iter().filter(matching))
                .take(if name.is_some() { 1 } else { 5 })
                .map(|pattern| format!("{:?}", pattern.to_string()))
                .collect();
            Some(format!("{layer} {}", patterns.join(" ")))
        });
        format!("{noun}.{verb}: {}", told.collect::<Vec<_>>().join(", "))
    }

    /// Gives reserved uses back: the call failed for certain, so nothing was used.
    pub fn release(&self, reservation: Reservation) {
        let mut spent = lock(&self.spent);
        for slot in reservation.slots {
            if let Some(count) = spent.get_mut(&slot) {
                *count = count.saturating_sub(1);
            }
        }
    }

    /// The entries that the run used, with exact names; a list that showed nothing has no names and stands as "*".
    pub fn used(&self) -> Table {
        let entries = lock(&self.used)
            .iter()
            .map(|((noun, verb), patterns)| {
                let mut patterns = patterns.clone();
                patterns.sort_unstable();
                if patterns.is_empty() || patterns.contains(&Pattern::Any) {
                    patterns = vec![Pattern::Any];
                }
                Entry { noun: (*noun).to_owned(), verb: (*verb).to_owned(), patterns, max: None }
            })
            .collect();
        Table { entries }
    }

    fn refusing(&self, noun: &str, verb: &str, name: &str, made: bool) -> Option<Layer> {
        let denies = |table: &Table| table.allowing(noun, verb, name, made).is_none();
        if lock(&self.needs).as_ref().is_some_and(denies) {
            return Some(Layer::Needs);
        }
        if denies(&self.mode_table) {
            return Some(Layer::Mode(self.mode));
        }
        self.grant.as_ref().is_some_and(denies).then_some(Layer::Grant)
    }
}

/// A denial names the capability that is missing and the entry that would grant it.
pub fn denial(layer: Layer, noun: &str, verb: &str, name: Option<&str>) -> Fault {
    let on = name.map(|name| format!(" on {name:?}")).unwrap_or_default();
    let Some(selector) = selector(&name.map_or(Pattern::Any, |name| Pattern::Exact(name.to_owned()))) else {
        // To advise `web-*` for a machine that calls itself so would be to advise far more than it.
        return Fault::new("door.denied", format!("denied: {noun}.{verb}{on}"))
            .missing(format!("{noun}.{verb} {:?}", name.unwrap_or_default()))
            .hint("its name reads as a pattern, so no entry can allow it alone: rename it");
    };
    let entry = format!("{noun} = {{ {verb} = {selector} }}");
    let (reason, hint) = match layer {
        Layer::Needs => ("the script's needs do not ask for it".to_owned(), format!("add {entry} to needs")),
        Layer::Mode(mode) => {
            let wider = Mode::ALL.into_iter().find(|wider| {
                *wider > mode && modes::table(*wider).allowing(noun, verb, name.unwrap_or("x"), false).is_some()
            });
            let hint = match wider {
                Some(wider) => format!("run it with --mode {wider}, which allows {entry}"),
                None => format!("no mode allows {entry}"),
            };
            (format!("the mode {mode} does not allow it"), hint)
        }
        Layer::Grant => ("it was not granted".to_owned(), format!("the grant would need {entry}")),
    };
    Fault::new("door.denied", format!("denied: {noun}.{verb}{on}: {reason}"))
        .missing(format!("{noun}.{verb} {selector}"))
        .hint(hint)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(entries: &[(&str, &str, &str, Option<u64>)]) -> Table {
        let entries = entries
            .iter()
            .map(|(noun, verb, pattern, max)| Entry {
                noun: (*noun).into(),
                verb: (*verb).into(),
                patterns: vec![Pattern::parse(pattern).unwrap()],
                max: *max,
            })
            .collect();
        Table { entries }
    }

    #[test]
    fn each_of_the_three_tables_must_allow_a_call() {
        let policy = Policy::new(Mode::Standard, Some(table(&[("vm", "power", "web-*", None)])));
        policy.set_needs(table(&[("vm", "power", "web-1", None), ("vm", "destroy", "web-1", None)]));
        policy.check("vm", "power", "web-1", false).unwrap();
        let denied = |verb, name| policy.check("vm", verb, name, false).unwrap_err();
        assert!(denied("power", "web-2").hint_text().unwrap().contains("add vm = { power = \"web-2\" } to needs"));
        assert!(denied("destroy", "web-1").hint_text().unwrap().contains("--mode unrestricted"));
        policy.set_needs(table(&[("vm", "power", "*", None)]));
        assert!(denied("power", "db-1").message().contains("not granted"));
        assert_eq!(policy.used().entries.len(), 1);
    }

    #[test]
    fn a_name_that_reads_as_a_pattern_is_never_advised_or_told_as_one() {
        let policy = Policy::new(Mode::Standard, None);
        for name in ["web-*", "*", "@made", "{name}"] {
            let hint = denial(Layer::Needs, "vm", "power", Some(name)).hint_text().unwrap().to_owned();
            assert!(hint.contains("rename"), "{name}: {hint}");
            policy.check("vm", "power", name, false).unwrap();
        }
        policy.check("vm", "power", "web-1", false).unwrap();
        let text = crate::door::grammar::write(&policy.used());
        assert!(text.contains("power = \"web-1\" }"), "{text}");
        for line in text.lines().filter(|line| line.contains("web-*") || line.contains("@made")) {
            assert!(line.trim_start().starts_with("--"), "{text}");
        }
    }

    #[test]
    fn a_quota_is_given_back_only_when_asked() {
        let policy = Policy::new(Mode::Standard, None);
        policy.set_needs(table(&[("vm", "create", "web-*", Some(2))]));
        let take = || {
            let mut reservation = Reservation::default();
            policy.reserve(&mut reservation, "vm", "create", "web-1", false).map(|()| reservation)
        };
        let first = take().unwrap();
        take().unwrap();
        assert_eq!(take().unwrap_err().kind(), "door.quota");
        policy.release(first);
        take().unwrap();
        assert!(take().is_err());
    }
}
