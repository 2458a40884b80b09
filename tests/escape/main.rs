//! The attack suite: hostile scripts run through the real worker process.
//!
//! `attacks/` holds one file for each attack. Its first line says what it tries, its second how it must end: with `done`, with a kind of
//! fault, or `*` where several ends are right. Whatever the end: no file and no socket is reached, nothing of the
//! machine is told, and no worker outlives its deadline by more than 250 ms.
//!
//! The suite measures that time on whatever machine runs it, next to other tests. A worker that was killed late by the scheduler is
//! no failure, so [`SLACK`] is added before a test fails; the largest excess that was seen is printed.

mod bench;
mod ground;
mod stops;
mod worker;

use std::io::Write;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bench::{Ran, Run};
use ceso::run::output::Output;
use ceso::run::process::GRACE;
use ceso::units::Bytes;
use ground::{Ground, SECRET};

/// What a busy machine may add to the 250 ms, in this suite only.
const SLACK: Duration = Duration::from_secs(3);

/// The deadline of attacks that are meant to meet it.
const SHORT: Duration = Duration::from_millis(600);

struct Attack {
    name: String,
    expect: String,
    text: String,
}

fn attacks() -> Vec<Attack> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/escape/attacks");
    let mut attacks: Vec<Attack> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let mut lines = text.lines();
            assert!(lines.next().unwrap().starts_with("-- tries "), "{name}: the first line says what it tries");
            let expect =
                lines.next().unwrap().strip_prefix("-- expect: ").unwrap_or_else(|| panic!("{name}: expects what?"));
            Attack { expect: expect.to_owned(), name, text }
        })
        .collect();
    attacks.sort_by(|a, b| a.name.cmp(&b.name));
    attacks
}

/// Runs every attack, several at once, and gives what is wrong with each; and the largest excess over a deadline.
fn sweep(look: impl Fn(&Attack, &Ground) -> (Ran, Duration, Vec<String>) + Sync) {
    let attacks = attacks();
    assert!(attacks.len() >= 120, "{} attacks", attacks.len());
    let next = AtomicUsize::new(0);
    let wrong = Mutex::new(Vec::new());
    let worst = Mutex::new((Duration::ZERO, String::new()));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let ground = Ground::new();
                while let Some(attack) = attacks.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (ran, deadline, mut found) = look(attack, &ground);
                    let excess = ran.took.saturating_sub(deadline);
                    let mut worst = worst.lock().unwrap();
                    if excess > worst.0 {
                        *worst = (excess, attack.name.clone());
                    }
                    drop(worst);
                    if excess > GRACE + SLACK {
                        found.push(format!("outlived its deadline by {excess:?}"));
                    }
                    if ran.said().contains(SECRET) {
                        found.push("read the file".to_owned());
                    }
                    found.extend(ground.reached().into_iter().map(|what| format!("reached {what}")));
                    if Path::new(&format!("/proc/{}", ran.pid)).exists() && is_worker(ran.pid) {
                        found.push("left its process behind".to_owned());
                    }
                    wrong.lock().unwrap().extend(found.into_iter().map(|what| format!("{}: {what}", attack.name)));
                }
            });
        }
    });
    let (excess, name) = worst.into_inner().unwrap();
    println!("{} attacks; the latest end was {excess:?} past its deadline ({name})", attacks.len());
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// Whether a process that should be gone is still running: one that ends takes a moment to be reaped.
fn is_worker(pid: u32) -> bool {
    for _ in 0..100 {
        match std::fs::read(format!("/proc/{pid}/cmdline")) {
            Ok(line) if line.windows(8).any(|part| part == b"__worker") => {
                std::thread::sleep(Duration::from_millis(20))
            }
            _ => return false,
        }
    }
    true
}

#[test]
fn every_attack_ends_as_its_file_says() {
    sweep(|attack, ground| {
        let (out, err) = (Page::default(), Page::default());
        let output = Output::new(out.clone(), err.clone(), Bytes(256 << 10)).unwrap();
        let deadline = match attack.expect.as_str() {
            "limit.run_time" | "*" => SHORT,
            _ => Duration::from_secs(30),
        };
        let run = Run::new(ground.fill(&attack.text)).within(deadline).modules(&ground.modules).writing_to(&output);
        let ran = run.go();
        let mut found = Vec::new();
        if attack.expect != "*" && ran.kind() != attack.expect {
            found.push(format!("expected {}, found {}", attack.expect, ran.outcome()));
        }
        if let Some(fault) = ran.fault.as_ref().filter(|fault| fault.is("script") || fault.is("jail")) {
            found.push(format!("the process was lost: {fault:?}"));
        }
        assert!(output.finish(Some(Duration::from_secs(10))));
        for (page, lines) in [(out.text(), ran.printed.len()), (err.text(), ran.logged.len())] {
            if page.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
                found.push("a control character got through".to_owned());
            }
            if page.lines().count() > lines {
                found.push("a line was forged".to_owned());
            }
        }
        let said = ran.said();
        if tells_addresses(&said) {
            found.push(format!("told a native address: {said}"));
        }
        if said.contains(env!("CARGO_MANIFEST_DIR")) || said.contains("/rustc/") || said.contains(".cargo") {
            found.push(format!("told a path of the machine: {said}"));
        }
        (ran, deadline, found)
    });
}

#[test]
fn the_process_boundary_holds_alone() {
    sweep(|attack, ground| {
        let run = Run::new(ground.fill(&attack.text)).soft().within(SHORT).modules(&ground.modules);
        (run.go(), SHORT, Vec::new())
    });
}

/// `0x` and enough digits to be a place in memory.
fn tells_addresses(text: &str) -> bool {
    text.match_indices("0x").any(|(at, _)| text[at + 2..].chars().take_while(char::is_ascii_hexdigit).count() >= 8)
}

#[test]
fn no_attack_outlives_its_deadline_while_the_output_is_stuck() {
    for attack in ["output_flood_caught", "output_flood", "time_loop", "output_progress_flood", "frame_flood"] {
        let (stuck, end) = full_pipe();
        let output = Output::new(stuck, std::io::sink(), Bytes(256 << 10)).unwrap();
        let ground = Ground::new();
        let text = attacks().into_iter().find(|known| known.name == attack).unwrap().text;
        for soft in [false, true] {
            let run = Run::new(ground.fill(&text)).within(SHORT).writing_to(&output);
            let ran = if soft { run.soft() } else { run }.go();
            assert!(ran.took < SHORT + GRACE + SLACK, "{attack}: {:?}", ran.took);
            assert!(!is_worker(ran.pid), "{attack}");
        }
        output.print("one more").ok();
        assert!(!output.finish(Some(Duration::from_millis(1))), "the output was not stuck");
        drop(end);
    }
}

/// A pipe that takes nothing more and that nobody reads.
fn full_pipe() -> (std::io::PipeWriter, std::io::PipeReader) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    while writer.write(&[0; 1]).is_ok() {}
    rustix::io::ioctl_fionbio(&writer, false).unwrap();
    (writer, reader)
}

/// A file in memory that two can hold.
#[derive(Clone, Default)]
pub struct Page(std::sync::Arc<Mutex<Vec<u8>>>);

impl Page {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
