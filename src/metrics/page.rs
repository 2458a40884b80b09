//! All families as rows, for the reference.

use super::families::ALL;
use super::process;

/// One family as the reference tells it.
pub struct Row {
    pub name: &'static str,
    pub kind: &'static str,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

/// Every family that is served, in the order of the declarations.
pub fn rows() -> Vec<Row> {
    let own = ALL.iter().map(|family| Row {
        name: family.name,
        kind: family.kind.name(),
        labels: family.labels,
        help: family.help,
    });
    own.chain(process::FAMILIES.iter().map(|(name, kind, help)| Row { name, kind, labels: &[], help })).collect()
}
