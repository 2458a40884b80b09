//! The audit log on disk: what happened, in an order and with a content that cannot be changed unseen.
//!
//! Knows files, hashes, keys and witnesses; knows nothing of doors, runs or scripts: whoever writes an [`Event`] says what it means, and
//! has taken the secrets out of it.
//!
//! # What it promises
//!
//! - What [`Sync::Now`] returned for is on the disk. [`Sync::Grouped`] is within a tenth of a second, or at the close.
//! - Changed, removed, added, moved or doubled lines are found, and the first of them is named ([`Verify`]). What is found by whom:
//!   anybody finds a change by somebody who does not make the hashes after it anew; who has the public key finds one by somebody who does,
//!   but lacks the private key; who has a receipt or a witness's record finds any change up to it, even by the owner of the key.
//! - What nobody can see: that records are missing at the end, behind the newest that a pin or a witness knows of.
//! - A machine that stops at any moment leaves a log that goes on.
//!
//! # The files
//!
//! ```text
//! audit.json                the log; security.audit_log names it
//! audit-000000000001.json   a full file that was set aside, by the number of its first record
//! audit.key                 the private key: 64 hex digits, mode 0600
//! audit.pub                 the public key: 64 hex digits
//! audit.witnessed-1a2b3c4d  how far a witness is (the first digits of the SHA-256 of its address)
//! .audit.json.new           the next file, until it has its name
//! ```
//!
//! # A line
//!
//! Each record is one line: the canonical JSON (RFC 8785) of an object of six members, and a line feed. Their order is the alphabet's, so
//! all but the event lies where it must, to the byte, counted from the line's two ends:
//!
//! ```text
//! {"boot":"B","event":E,"hash":"H","prev":"P","seq":N,"ts":"T"}
//!
//! B   36 characters   the kernel's id of this boot: a clock that was set is told from a machine that was started anew
//! E   an object       what happened; its member "kind" says of which kind it is
//! H   64 hex digits   the hash of this record
//! P   64 hex digits   the hash of the record before; zeros in the first of a log
//! N   1, 2, 3, …      the number of the record, without gaps over all files; below 2^53
//! T   27 characters   2026-05-01T12:00:00.000000Z
//! ```
//!
//! `H = SHA-256("ceso audit record 1\0" ‖ P as 32 bytes ‖ R)`, where R is the line without its line feed and without the member `hash`
//! (`{"boot":"B","event":E,"prev":"P","seq":N,"ts":"T"}`). A line that is not the canonical form of what it says is no record, so no byte
//! can be changed to one that means the same. Members of an event are what [`Event`] declares; whole numbers beyond 2^53, which JSON's
//! doubles would round, are texts.
//!
//! # The log's own records
//!
//! ```text
//! begun       the first record of a log      checkpoint_every, format (1), key, log (a UUID), signature
//! continued   the first of a further file    the same, and file: the name that the file before got
//! rotated     the last of a full file        signature
//! checkpoint                                 signature
//! recovered   a broken line was cut off      bytes
//! lost        events that nobody waited for could not be written    records
//! unsigned    changes were found at the end that no signature covers    records, signature
//! clock       the clock was set back         before: the time that it had shown
//! ```
//!
//! `signature` is the last member of its event: Ed25519, 128 hex digits, over `"ceso audit checkpoint 1\0" ‖ S`, where S is what H would be
//! with an empty signature. So it is over the record itself and over all before it. Every record whose number can be divided by the file's
//! `checkpoint_every` must be a signed one: taking the signatures out is seen. Records are signed too at the close, when a file is full,
//! when they have not been for `checkpoint_after`, and whenever somebody waits for the disk: the last line of such a write is signed, whatever
//! its kind. So a change is never left without a signature but by a machine that stops within a write; what a writer finds of that, or of
//! somebody who writes without the key, it marks by a record `unsigned` before it signs anything itself.
//!
//! # Writing
//!
//! Every append holds an exclusive `flock` on the file. The writer first sees whether the path still names the file that it has open, else
//! opens it anew; reads what others wrote behind the last line that it knows, and holds it to follow from that one; then writes all its
//! lines at once. What stands behind the last line feed was torn by a crash: it is cut off, which a `recovered` record says. A write that fails
//! is taken back. A sync that fails ends the writer for good, because what was written before may be lost.
//!
//! Opening a log reads its first line and its last 64 KiB. Where they do not verify, or are of another key, it is refused: `ceso audit verify`
//! says what is wrong, `ceso audit set-aside` moves it away.
//!
//! # Rotation
//!
//! With the lock held: write `rotated`, sync; write the next file under its temporary name, sync; give the full file its second name
//! (a hard link); rename the next one over the first name; sync the folder. So there is a log at every moment. Whoever finds a file whose
//! last record is `rotated` under the first name does the rest. Readers and `tail -F` follow by name.

mod canonical;
mod disk;
mod error;
mod event;
mod key;
mod line;
mod log;
mod medium;
mod own;
mod read;
mod series;
mod state;
mod tail;
mod verify;
mod witness;

pub use self::error::Error;
pub use self::event::{Event, FaultNote, Kind};
pub use self::key::PublicKey;
pub use self::line::{Hash, Receipt, time_text};
pub use self::log::{Log, Options, Sync};
pub use self::own::KINDS as OWN_KINDS;
pub use self::read::{Entry, Reader, newest};
pub use self::series::move_away;
pub use self::state::State;
pub use self::verify::{Pin, Problem, Report, Verify};
pub use self::witness::{Lag, Sends, Witness};

#[cfg(test)]
mod tests;
