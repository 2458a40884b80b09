//! What this host can: the one place that is asked before a transport is chosen.
//!
//! Releases of the same product differ in what they do. What a probe has found out about this very host and build is used; where nothing
//! is known, or the host is of another build since, each answer is the one that is safe with any host. It tries nothing itself.

use std::sync::PoisonError;
use std::time::Duration;

use crate::units::Bytes;

use super::error::Error;
use super::host::Host;
use super::link::Link;

/// What a probe has found out about a host of one build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probed {
    /// The product with its version and build, as the host says it.
    pub product: String,
    pub abilities: Abilities,
}

/// What a host does and does not do; `None` where that is not known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Abilities {
    /// Whether a download may begin in the middle of a file, and brings what is there.
    pub ranges: Option<bool>,
    /// Whether a snapshot can be exported while its machine runs.
    pub snapshot_export: Option<bool>,
    /// Whether what it says of changed blocks stood every trial.
    pub tracked_changes: Option<bool>,
    /// Whether the copy of a disk can be told its form.
    pub disk_forms: Option<bool>,
    /// Whether a disk can build on another machine's, and that survives the end of the child.
    pub linked_clones: Option<bool>,
    /// The most sessions that it took at once.
    pub sessions: Option<usize>,
    /// How much it copies on its datastore in a second.
    pub copy_speed: Option<Bytes>,
}

/// How a snapshot is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotWay {
    /// By a lease on the snapshot itself.
    Export,
    /// Its disks are copied into a throw-away machine, which is exported.
    CloneThenExport,
}

impl Abilities {
    /// Whether a download that broke off is asked for from where it was. A host that sends all of it instead is coped with, so this is
    /// so unless the host is known to answer wrongly.
    pub fn resumes(&self) -> bool {
        self.ranges != Some(false)
    }

    /// How a snapshot is read; where nothing is known, the way that writes nothing is tried.
    pub fn snapshot_way(&self) -> SnapshotWay {
        if self.snapshot_export == Some(false) { SnapshotWay::CloneThenExport } else { SnapshotWay::Export }
    }

    /// Whether the host is known to have told of changed blocks what is not so: then all of a disk is read.
    pub fn lies_of_changes(&self) -> bool {
        self.tracked_changes == Some(false)
    }

    /// Whether linked clones are known not to work, or to take their parent's disks with them.
    pub fn refuses_linked(&self) -> bool {
        self.linked_clones == Some(false)
    }

    /// How many requests may be under way at once, of so many that the configuration allows.
    pub fn most_connections(&self, configured: usize) -> usize {
        self.sessions.map_or(configured, |sessions| sessions.min(configured)).max(1)
    }

    /// How long the host takes to copy so much; `None` where its speed is not known.
    pub fn copy_time(&self, size: Bytes) -> Option<Duration> {
        let speed = self.copy_speed.filter(|speed| speed.0 > 0)?;
        Some(Duration::from_secs(size.0 / speed.0))
    }
}

impl Link {
    fn abilities(&self) -> Abilities {
        let contract = self.contract();
        let probed = self.probed.read().unwrap_or_else(PoisonError::into_inner);
        let own = probed.as_ref().filter(|probed| probed.product == contract.content.about.full_name);
        own.map(|probed| probed.abilities.clone()).unwrap_or_default()
    }

    /// Has no more requests under way than this host takes.
    pub(super) fn fit(&self) {
        self.transport.limit(self.abilities().most_connections(self.options.max_connections));
    }
}

impl Host {
    /// What this host can, as far as a probe has found out about its present build.
    pub fn abilities(&self) -> Abilities {
        self.link.abilities()
    }

    /// Whether a probe's result is known, but of another build than the host has now.
    pub fn is_probe_stale(&self) -> bool {
        let product = self.about().full_name;
        let probed = self.link.probed.read().unwrap_or_else(PoisonError::into_inner);
        probed.as_ref().is_some_and(|probed| probed.product != product)
    }

    /// Takes what a probe has found out just now.
    pub fn learn(&self, abilities: Abilities) {
        let probed = Probed { product: self.about().full_name, abilities };
        *self.link.probed.write().unwrap_or_else(PoisonError::into_inner) = Some(probed);
        self.link.fit();
    }

    /// Whether the form of a disk's copy is told: a vCenter takes none, and a standalone host makes thick disks without.
    pub(super) fn tells_disk_form(&self) -> bool {
        !self.link.contract().content.is_vcenter() && self.abilities().disk_forms != Some(false)
    }

    /// Refuses a linked clone where the host is known not to make them well. Errors: `esxi.not_supported`.
    pub(super) fn check_linked(&self) -> Result<(), Error> {
        if !self.abilities().refuses_linked() {
            return Ok(());
        }
        Err(Error::Lacking {
            host: self.name().to_owned(),
            reason: "a probe found that its linked clones do not work, or take their parent's disks with them"
                .to_owned(),
            hint: "make a full clone; `ceso host show` tells what was seen".to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_nothing_is_known_each_choice_is_the_safe_one() {
        let unknown = Abilities::default();
        assert!(unknown.resumes() && !unknown.lies_of_changes() && !unknown.refuses_linked());
        assert_eq!(unknown.snapshot_way(), SnapshotWay::Export);
        assert_eq!((unknown.most_connections(8), unknown.most_connections(0)), (8, 1));
        assert_eq!(unknown.copy_time(Bytes(1 << 30)), None);
    }

    #[test]
    fn what_a_probe_found_decides() {
        let poor = Abilities {
            ranges: Some(false),
            snapshot_export: Some(false),
            tracked_changes: Some(false),
            disk_forms: Some(false),
            linked_clones: Some(false),
            sessions: Some(3),
            copy_speed: Some(Bytes(10 << 20)),
        };
        assert!(!poor.resumes() && poor.lies_of_changes() && poor.refuses_linked());
        assert_eq!(poor.snapshot_way(), SnapshotWay::CloneThenExport);
        assert_eq!((poor.most_connections(8), poor.most_connections(2)), (3, 2));
        assert_eq!(poor.copy_time(Bytes(600 << 20)), Some(Duration::from_secs(60)));
        let none = Abilities { sessions: Some(0), copy_speed: Some(Bytes(0)), ..Abilities::default() };
        assert_eq!((none.most_connections(8), none.copy_time(Bytes(1))), (1, None));
    }
}
