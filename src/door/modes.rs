//! What each mode allows: the widest that any script may get in it.

use super::table::{Entry, Pattern, Table};
use super::vocabulary;
pub use crate::config::Mode;

/// All modes, the narrowest first.
pub const ALL: [Mode; 3] = [Mode::Restricted, Mode::Standard, Mode::Unrestricted];

/// The mode's capability table.
pub fn table(mode: Mode) -> Table {
    let mut table = Table::default();
    for noun in vocabulary::NOUNS {
        for (verb, _) in noun.verbs {
            if let Some(pattern) = pattern(mode, verb) {
                let (noun, verb) = (noun.name.to_owned(), (*verb).to_owned());
                table.entries.push(Entry { noun, verb, patterns: vec![pattern], max: None });
            }
        }
    }
    table
}

fn pattern(mode: Mode, verb: &str) -> Option<Pattern> {
    match (mode, verb) {
        (_, "read" | "connect") | (Mode::Unrestricted, _) => Some(Pattern::Any),
        (Mode::Standard, "destroy" | "delete" | "revert" | "remove_snapshot" | "register") => Some(Pattern::Made),
        // The host itself is changed by who may do everything.
        (Mode::Standard, "administer" | "passthrough" | "copy_config" | "shut_down") => None,
        (Mode::Standard, _) => Some(Pattern::Any),
        (Mode::Restricted, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mode_allows_what_its_name_promises() {
        let allows = |mode, noun, verb, made| table(mode).allowing(noun, verb, "x", made).is_some();
        assert!(allows(Mode::Restricted, "vm", "read", false));
        for verb in
            ["create", "copy_from", "configure", "snapshot", "revert", "remove_snapshot", "power", "reach", "destroy"]
        {
            assert!(!allows(Mode::Restricted, "vm", verb, true), "{verb}");
            assert!(allows(Mode::Unrestricted, "vm", verb, false), "{verb}");
        }
        assert!(!allows(Mode::Restricted, "secret", "use", false) && allows(Mode::Standard, "secret", "use", false));
        for verb in ["destroy", "revert", "remove_snapshot", "register"] {
            assert!(!allows(Mode::Standard, "vm", verb, false), "{verb}");
            assert!(allows(Mode::Standard, "vm", verb, true), "{verb}");
        }
        for verb in ["administer", "passthrough", "copy_config", "shut_down"] {
            assert!(
                !allows(Mode::Standard, "host", verb, true) && allows(Mode::Unrestricted, "host", verb, false),
                "{verb}"
            );
        }
        assert!(allows(Mode::Standard, "vm", "create", false));
        assert!(!allows(Mode::Restricted, "datastore", "copy_from", false), "what files hold may be secret");
        assert!(!allows(Mode::Standard, "datastore", "delete", false));
        assert!(allows(Mode::Standard, "datastore", "delete", true));
    }
}
