//! The catalog with a million backups of ten thousand machines: how long a machine's list takes, from opening the file to closing it,
//! and how much memory. `CESO_CATALOG_MACHINES` sets the number of machines, each of which has a hundred backups.
//!
//! Run it alone: `cargo bench --bench catalog`.

use std::time::{Duration, Instant};

use ceso::catalog::{Backup, Catalog, Disk, Id, State, Wanted};
use time::OffsetDateTime;

const EACH: u64 = 100;

fn backup(machine: u64, number: u64) -> Backup {
    let mut id = [0; 32];
    for (part, seed) in id.chunks_mut(8).zip(1u64..) {
        let mixed = (machine * EACH + number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17 * seed as u32);
        part.copy_from_slice(&mixed.wrapping_mul(seed | 1).to_be_bytes());
    }
    let seconds = 1_700_000_000 + (number * 86_400 + machine * 7) as i64;
    Backup {
        id: Id(id),
        repository: uuid::Uuid::from_u128(1),
        machine: format!("machine-{machine:05}"),
        name: format!("machine-{machine:05}"),
        time: OffsetDateTime::from_unix_timestamp(seconds).unwrap(),
        state: if number % 50 == 7 { State::Failed } else { State::Complete },
        tags: vec![if number.is_multiple_of(7) { "weekly" } else { "daily" }.to_owned()],
        parent: None,
        disks: vec![Disk { name: "disk-0".to_owned(), size: 64 << 30, used: 20 << 30, added: 1 << 30 }],
        files: 4096,
    }
}

/// What this process takes, and took at most, in KiB.
fn memory() -> (u64, u64) {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let of = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
    };
    (of("VmRSS:"), of("VmHWM:"))
}

/// Prints how long a piece of work takes, and gives the median in milliseconds.
fn measured(what: &str, rounds: u64, mut work: impl FnMut(u64) -> usize) -> f64 {
    let mut times: Vec<Duration> = Vec::new();
    let mut rows = 0;
    for round in 0..rounds {
        let began = Instant::now();
        rows += work(round);
        times.push(began.elapsed());
    }
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    let (now, most) = memory();
    println!(
        "{what:40} median {:7.3} ms  99 % {:7.3} ms  {:4} rows each  memory {now} KiB (at most {most})",
        at(0.5),
        at(0.99),
        rows as u64 / rounds
    );
    at(0.5)
}

fn main() {
    let machines: u64 =
        std::env::var("CESO_CATALOG_MACHINES").ok().and_then(|text| text.parse().ok()).unwrap_or(10_000);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("catalog.redb");
    let catalog = Catalog::new(&file);
    let began = Instant::now();
    for first in (0..machines).step_by(100) {
        let last = (first + 100).min(machines);
        let rows: Vec<Backup> =
            (first..last).flat_map(|machine| (0..EACH).map(move |number| backup(machine, number))).collect();
        catalog.add(&rows).unwrap();
    }
    let size = std::fs::metadata(&file).unwrap().len() >> 20;
    let (now, most) = memory();
    println!(
        "{} backups of {machines} machines: made in {:.1} s, {size} MiB, memory {now} KiB (at most {most})",
        machines * EACH,
        began.elapsed().as_secs_f64()
    );
    let any = |round: u64| round.wrapping_mul(7919) % machines;
    let page = |wanted: Wanted| catalog.backups(&wanted, &|_| true).unwrap().rows.len();
    let of =
        |round: u64| Wanted { machine: Some(format!("machine-{:05}", any(round))), limit: 100, ..Wanted::default() };
    let list = measured("a machine's list", 2000, |round| page(of(round)));
    println!("  → a machine's list: {list:.3} ms, target 1 ms: {}", if list <= 1.0 { "met" } else { "MISSED" });
    measured("a machine's failed backups", 2000, |round| page(Wanted { state: Some(State::Failed), ..of(round) }));
    measured("a machine's history", 2000, |round| {
        catalog.machine(&format!("machine-{:05}", any(round))).unwrap().map_or(0, |known| known.sum.backups as usize)
    });
    measured("the newest hundred of all", 500, |_| page(Wanted { limit: 100, ..Wanted::default() }));
    measured("the newest hundred weekly ones", 500, |_| {
        page(Wanted { tag: Some("weekly".to_owned()), limit: 100, ..Wanted::default() })
    });
    measured("a hundred machines", 100, |round| {
        let from = format!("machine-{:05}", any(round));
        catalog.machines(100, Some(&from), &|_| true).unwrap().rows.len()
    });
    measured("one more backup", 100, |round| {
        catalog.add(&[backup(any(round), EACH + round)]).unwrap();
        1
    });
}
