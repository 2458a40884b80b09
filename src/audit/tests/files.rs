//! What a log's file may be, what is refused, and how several processes share one.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::time::Duration;

use time::OffsetDateTime;

use super::super::disk::Disk;
use super::super::medium::{Machine, Medium};
use super::super::{Error, Log, Options, Sync, Verify};
use super::{Place, body, disk, note, verify};
use crate::units::Bytes;

fn refusal(place: &Place) -> Error {
    Disk::open(&place.options(), Box::new(Machine)).err().expect("it is refused")
}

#[test]
fn what_is_no_file_of_ones_own_is_refused() {
    let place = Place::new();
    let file = place.file();
    symlink(place.0.path().join("elsewhere"), &file).unwrap();
    assert_eq!(refusal(&place).kind(), "audit.untrusted_file");
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    assert_eq!(refusal(&place).kind(), "audit.untrusted_file");
    fs::remove_dir(&file).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&file).status().unwrap().success());
    assert_eq!(refusal(&place).kind(), "audit.untrusted_file");
    fs::remove_file(&file).unwrap();
    let device = Options::new("/dev/full");
    assert_eq!(Disk::open(&device, Box::new(Machine)).err().unwrap().kind(), "audit.untrusted_file");
    drop(disk(&place.options()));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o660)).unwrap();
    assert_eq!(refusal(&place).kind(), "audit.untrusted_file");
}

#[test]
fn a_folder_that_cannot_be_one_is_unwritable() {
    let place = Place::new();
    let file = place.0.path().join("a-file");
    fs::write(&file, "").unwrap();
    let error = Log::open(Options::new(file.join("audit.json"))).err().unwrap();
    assert_eq!(error.kind(), "audit.unwritable");
    let fault = crate::error::Fault::from(error);
    assert!(fault.hint_text().unwrap().contains("security.audit_log"));
}

#[test]
fn another_programs_file_and_a_newer_format_are_not_written_to() {
    for text in ["hello\nworld\n", "{\"a\":1}\n", "[]\n", &format!("{}\n", "x".repeat(20_000)), "\u{0}\u{0}\n"] {
        let place = Place::new();
        fs::write(place.file(), text).unwrap();
        fs::set_permissions(place.file(), fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(refusal(&place).kind(), "audit.format", "{text:?}");
        assert_eq!(place.text(), text);
    }
    let place = Place::new();
    drop(disk(&place.options()));
    let newer = place.text().replace("\"format\":1", "\"format\":2");
    fs::write(place.file(), &newer).unwrap();
    let error = refusal(&place);
    assert!(error.kind() == "audit.format" && error.to_string().contains("newer"), "{error}");
    assert_eq!(place.text(), newer);
}

#[test]
fn a_log_whose_end_does_not_verify_is_not_gone_on_with() {
    let place = Place::new();
    let mut first = disk(&place.options());
    for number in 0..5 {
        first.append(&[body(note(&number.to_string()))]).unwrap();
    }
    let text = place.text();
    for wrong in [text.replace("\"message\":\"3\"", "\"message\":\"x\""), text.replacen("note", "nope", 1), {
        let mut lines: Vec<&str> = text.lines().collect();
        lines.remove(3);
        lines.join("\n") + "\n"
    }] {
        fs::write(place.file(), &wrong).unwrap();
        let error = refusal(&place);
        assert!(error.kind() == "audit.damaged" && error.to_string().contains("byte"), "{error}");
        assert_eq!(place.text(), wrong);
    }
}

#[test]
fn a_lost_or_foreign_key_is_refused() {
    let place = Place::new();
    drop(disk(&place.options()));
    let key = place.file().with_extension("key");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let kept = fs::read(&key).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(refusal(&place).kind(), "audit.key");
    fs::remove_file(&key).unwrap();
    assert_eq!(refusal(&place).kind(), "audit.key");
    let other = Place::new();
    drop(disk(&other.options()));
    fs::copy(other.file().with_extension("key"), &key).unwrap();
    let error = refusal(&place);
    assert!(error.kind() == "audit.key" && !error.to_string().contains(std::str::from_utf8(&kept[..64]).unwrap()));
    fs::write(&key, &kept).unwrap();
    fs::remove_file(key.with_extension("pub")).unwrap();
    drop(disk(&place.options()));
    assert!(verify(&place).verified, "the public half is written anew");
}

#[test]
fn several_writers_share_a_log_and_its_files() {
    let place = Place::new();
    let options = Options { rotate_at: Bytes(40_000), checkpoint_every: 50, ..place.options() };
    // Each opens the file by itself, as a process does: a lock is held by an open file.
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let options = options.clone();
            scope.spawn(move || {
                let log = Log::open(options).unwrap();
                for number in 0..100 {
                    let sync = if number % 10 == 0 { Sync::Now } else { Sync::Grouped };
                    log.write_blocking(note(&format!("{writer}/{number}")), sync).unwrap();
                }
                log.close().unwrap();
            });
        }
    });
    let report = verify(&place);
    assert!(report.verified && report.files.len() > 2 && report.unsigned == 0, "{report:?}");
    let text: String = report.files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    for writer in 0..4 {
        let own: Vec<usize> = (0..100).map(|number| text.find(&format!("\"{writer}/{number}\"")).unwrap()).collect();
        assert!(own.is_sorted(), "each writer's own order is kept");
    }
    assert_eq!(text.matches("\"kind\":\"recovered\"").count(), 0);
}

#[test]
fn a_log_that_is_removed_or_replaced_while_it_is_open_is_not_begun_anew_in_silence() {
    let place = Place::new();
    let mut first = disk(&place.options());
    first.append(&[body(note("1"))]).unwrap();
    fs::remove_file(place.file()).unwrap();
    assert_eq!(first.append(&[body(note("2"))]).unwrap_err().kind(), "audit.damaged");
    let mut second = disk(&place.options());
    second.append(&[body(note("3"))]).unwrap();
    assert_eq!(first.append(&[body(note("4"))]).unwrap_err().kind(), "audit.damaged");
    assert!(verify(&place).verified);
}

#[test]
fn a_clock_that_is_set_back_is_told_and_breaks_nothing() {
    struct Clock(std::sync::atomic::AtomicI64);
    impl Medium for Clock {
        fn append(&mut self, file: &fs::File, bytes: &[u8]) -> std::io::Result<()> {
            Machine.append(file, bytes)
        }
        fn sync(&mut self, _: &fs::File) -> std::io::Result<()> {
            Ok(())
        }
        fn cut(&mut self, file: &fs::File, length: u64) -> std::io::Result<()> {
            Machine.cut(file, length)
        }
        fn create(&mut self, path: &std::path::Path) -> std::io::Result<fs::File> {
            Machine.create(path)
        }
        fn link(&mut self, from: &std::path::Path, to: &std::path::Path) -> std::io::Result<()> {
            Machine.link(from, to)
        }
        fn rename(&mut self, from: &std::path::Path, to: &std::path::Path) -> std::io::Result<()> {
            Machine.rename(from, to)
        }
        fn sync_folder(&mut self, _: &std::path::Path) -> std::io::Result<()> {
            Ok(())
        }
        fn now(&self) -> OffsetDateTime {
            let hours = self.0.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
            OffsetDateTime::UNIX_EPOCH + Duration::from_secs(3600 * hours as u64)
        }
    }
    let place = Place::new();
    let mut disk = Disk::open(&place.options(), Box::new(Clock(1000.into()))).unwrap();
    disk.append(&[body(note("1"))]).unwrap();
    disk.append(&[body(note("2"))]).unwrap();
    let report = verify(&place);
    assert!(report.verified && report.clock_set_back == 4, "{report:?}");
    assert_eq!(place.text().matches("\"kind\":\"clock\"").count(), 2);
}

#[test]
fn a_file_that_was_set_aside_verifies_with_those_before_it_and_a_missing_one_is_named() {
    let place = Place::new();
    let mut disk = disk(&Options { rotate_at: Bytes(3000), ..place.options() });
    for number in 0..30 {
        disk.append(&[body(note(&number.to_string()))]).unwrap();
    }
    let files = verify(&place).files;
    assert!(files.len() > 3);
    let second = Verify::new(&files[1]).run().unwrap();
    assert!(second.verified && second.files == files[..2], "{second:?}");
    fs::remove_file(&files[0]).unwrap();
    let report = verify(&place);
    assert!(report.problem.as_ref().unwrap().what.contains("audit-000000000001.json, is missing"), "{report:?}");
    assert!(Verify { partial: true, ..Verify::new(place.file()) }.run().unwrap().verified);
    fs::remove_file(&files[2]).unwrap();
    assert!(!Verify { partial: true, ..Verify::new(place.file()) }.run().unwrap().verified);
    fs::remove_file(place.file()).unwrap();
    let alone = Verify { partial: true, ..Verify::new(place.file()) }.run().unwrap();
    assert!(alone.problem.unwrap().what.contains("it is missing"));
}

#[test]
fn a_large_event_is_told_without_its_values() {
    let place = Place::new();
    let mut disk = disk(&place.options());
    let event = super::Event {
        arguments: Some(serde_json::json!({ "data": "x".repeat(3 << 20) })),
        objects: (0..100_000).map(|number| format!("vm-{number}")).collect(),
        message: Some("m".repeat(1 << 20)),
        ..note("")
    };
    disk.append(&[body(event)]).unwrap();
    let text = place.text();
    assert!(text.len() < 100_000 && text.contains("\"omitted_bytes\":3145739") && text.contains("and 99900 more"));
    assert!(verify(&place).verified);
}

#[test]
fn changes_that_were_written_without_the_key_are_told_and_marked_before_anything_is_signed() {
    use super::super::line::{self, Hash};
    let place = Place::new();
    let log = Log::open(place.options()).unwrap();
    for number in 0..3 {
        log.write_blocking(note(&number.to_string()), Sync::Now).unwrap();
    }
    let newest = log.close().unwrap().unwrap();
    let report = super::verify(&place);
    assert_eq!((report.unsigned, report.unsigned_changes, report.found_unsigned), (0, 0, 0), "{report:?}");

    // Somebody who can write the file, but not read the key, goes on with the chain.
    let stranger = super::super::key::Key::beside(&Place::new().file(), false).unwrap();
    let (mut bytes, boot) = (Vec::new(), "0".repeat(36));
    let at = super::super::time_text(time::OffsetDateTime::now_utc());
    let mut head: Hash = newest.head;
    for seq in newest.seq + 1..newest.seq + 3 {
        head = line::write(&mut bytes, &stranger, &boot, &super::body(note("forged")), &head, seq, &at);
    }
    let mut file = std::fs::OpenOptions::new().append(true).open(place.file()).unwrap();
    std::io::Write::write_all(&mut file, &bytes).unwrap();
    let report = super::verify(&place);
    assert!(report.verified && report.unsigned_changes == 2 && report.signed == Some(newest.seq), "{report:?}");

    // The next writer signs what comes after, and says what it found.
    let log = Log::open(place.options()).unwrap();
    log.write_blocking(note("honest"), Sync::Now).unwrap();
    log.close().unwrap();
    let report = super::verify(&place);
    assert_eq!((report.verified, report.unsigned_changes, report.found_unsigned), (true, 0, 1), "{report:?}");
    assert!(place.text().contains("{\"kind\":\"unsigned\",\"records\":2,\"signature\":\""), "{}", place.text());
}
