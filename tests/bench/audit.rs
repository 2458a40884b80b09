//! The audit log's costs: what a caller waits for, how soon a long log opens, how fast it verifies.
//!
//! `cargo bench --bench audit -- [RECORDS]`, a million records unless told otherwise. The log lies in a folder of its own below the
//! current one, because a sync costs what the disk under it takes. Prints medians; decides nothing.

use std::time::{Duration, Instant};

use ceso::audit::{Event, Kind, Log, Options, Sync, Verify};
use ceso::units::Bytes;

fn main() {
    let records = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(1_000_000u64);
    let folder = tempfile::tempdir_in("target").expect("the bench is run where the project is built");
    let options = Options { rotate_at: Bytes(1 << 40), ..Options::new(folder.path().join("audit.json")) };

    let log = Log::open(options.clone()).expect("a new log opens");
    let begun = Instant::now();
    let mut waited = Vec::new();
    for number in 0..records {
        let event = event(Kind::Read, number);
        let call = Instant::now();
        log.write_blocking(event, Sync::Grouped).expect("a read is written");
        waited.push(call.elapsed());
    }
    let called = begun.elapsed();
    log.close().expect("the log closes");
    let size = std::fs::metadata(&options.file).expect("it is there").len();
    println!("{records} reads ({} bytes each)", size / records);
    println!("  caller, median            {:>10.2} µs", micros(median(&mut waited)));
    println!("  caller, mean, queue full  {:>10.2} µs", micros(called) / records as f64);
    println!("  on disk, each             {:>10.2} µs", micros(begun.elapsed()) / records as f64);

    let mut opened: Vec<Duration> = (0..9)
        .map(|_| {
            let begun = Instant::now();
            let log = Log::open(options.clone()).expect("the log opens again");
            let took = begun.elapsed();
            drop(log);
            took
        })
        .collect();
    println!("open, {:>6} MiB             {:>10.2} µs", size >> 20, micros(median(&mut opened)));

    let log = Log::open(options.clone()).expect("the log opens again");
    let changes = (records / 1000).clamp(20, 500);
    let mut waited = changes_of(&log, changes);
    let alone = median(&mut waited);
    println!("change (intent and outcome, each synced)");
    println!("  one at a time, median     {:>10.2} µs", micros(alone));
    println!("  one at a time, 95 %       {:>10.2} µs", micros(waited[waited.len() * 95 / 100]));
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| changes_of(&log, changes / 4));
        }
    });
    println!("  16 at once, each          {:>10.2} µs", micros(begun.elapsed()) / (16 * (changes / 4)) as f64);
    log.close().expect("the log closes");

    let (mut all, mut one) = (Vec::new(), Vec::new());
    let mut found = 0;
    for _ in 0..3 {
        for (threads, times) in [(None, &mut all), (Some(1), &mut one)] {
            let begun = Instant::now();
            let report = Verify { threads, ..Verify::new(&options.file) }.run().expect("the log is read");
            times.push(begun.elapsed());
            assert!(report.verified, "{:?}", report.problem);
            found = report.records;
        }
    }
    let rate = |times: &mut Vec<Duration>| found as f64 / median(times).as_secs_f64();
    println!("verify, {found} records");
    println!("  all cores                 {:>10.0} records a second (target: 1000000)", rate(&mut all));
    println!("  one thread                {:>10.0} records a second", rate(&mut one));
}

fn changes_of(log: &Log, count: u64) -> Vec<Duration> {
    (0..count)
        .map(|number| {
            let begun = Instant::now();
            let intent = log.write_blocking(event(Kind::Intent, number), Sync::Now).expect("an intent is written");
            let outcome = Event { intent: intent.map(|intent| intent.seq), ..event(Kind::Outcome, number) };
            log.write_blocking(outcome, Sync::Now).expect("an outcome is written");
            begun.elapsed()
        })
        .collect()
}

fn event(kind: Kind, number: u64) -> Event {
    Event {
        call: Some(number),
        principal: Some("ops".into()),
        mode: Some("standard".into()),
        operation: Some("vm.info".into()),
        effect: Some("read".into()),
        host: Some("esx1".into()),
        objects: vec!["web-1".into()],
        duration: Some(Duration::from_micros(1234)),
        outcome: Some("done".into()),
        ..Event::of_run(kind, "0198f3a2-7c11-7d4e-9b60-5a4c3f1e2d10")
    }
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
