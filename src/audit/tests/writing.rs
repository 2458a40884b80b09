//! What is written, and when it is on disk.

use serde_json::Value;

use super::super::{Event, Kind, Log, Reader, Sync};
use super::{Place, note};

#[test]
fn every_line_is_canonical_json_and_follows_from_the_one_before() {
    let place = Place::new();
    let log = Log::open(place.options()).unwrap();
    let event = Event {
        arguments: Some(
            serde_json::json!({ "name": "wéb\u{202e}\n", "size": 1.0, "big": u64::MAX, "a": [null, true] }),
        ),
        operation: Some("vm.create".into()),
        objects: vec!["web-1".into()],
        duration: Some(std::time::Duration::from_millis(3)),
        ..Event::of_run(Kind::Outcome, "run-1")
    };
    let receipt = log.write_blocking(event, Sync::Now).unwrap().unwrap();
    assert_eq!(log.write_blocking(note("grouped"), Sync::Grouped).unwrap(), None);
    let last = log.close().unwrap().unwrap();
    assert!(last.seq > receipt.seq && log.write_blocking(note("late"), Sync::Now).is_err());

    let mut head = "0".repeat(64);
    for (number, line) in place.text().lines().enumerate() {
        let value: Value = serde_json::from_str(line).unwrap();
        assert_eq!(serde_jcs::to_string(&value).unwrap(), line);
        assert_eq!((value["seq"].as_u64(), value["prev"].as_str()), (Some(number as u64 + 1), Some(head.as_str())));
        head = value["hash"].as_str().unwrap().to_owned();
    }
    assert_eq!(last.head.to_string(), head);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_now_is_in_the_file_when_the_call_returns() {
    let place = Place::new();
    let log = Log::open(place.options()).unwrap();
    let writes = (0..64).map(|number| {
        let (log, place) = (log.clone(), &place);
        async move {
            let receipt = log.write(note(&number.to_string()), Sync::Now).await.unwrap().unwrap();
            assert!(place.text().contains(&receipt.head.to_string()));
            receipt.seq
        }
    });
    let mut numbers = futures_util::future::join_all(writes).await;
    numbers.sort_unstable();
    assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{numbers:?}");
}

#[test]
fn grouped_records_are_written_soon_and_signed_in_time() {
    let place = Place::new();
    let options = super::Options { checkpoint_after: std::time::Duration::from_millis(200), ..place.options() };
    let log = Log::open(options).unwrap();
    for number in 0..2000 {
        log.write_blocking(note(&number.to_string()), Sync::Grouped).unwrap();
    }
    super::eventually(|| {
        let report = super::verify(&place);
        report.records >= 2002 && report.unsigned == 0
    });
    // Nothing new: nothing more is written.
    let receipt = log.receipt();
    assert_eq!(log.close().unwrap(), receipt);
}

#[test]
fn a_reader_begins_anywhere_without_reading_what_comes_before() {
    let place = Place::new();
    let mut disk = super::disk(&super::Options { rotate_at: crate::units::Bytes(700_000), ..place.options() });
    for chunk in 0..50 {
        let bodies: Vec<_> = (0..60).map(|number| super::body(note(&format!("{chunk}/{number}")))).collect();
        disk.append(&bodies).unwrap();
    }
    let newest = disk.receipt().unwrap();
    assert!(super::verify(&place).files.len() >= 2);
    for from in (1..newest.seq).step_by(97).chain([newest.seq, newest.seq + 1]) {
        let mut reader = Reader::since(&place.file(), from).unwrap();
        let first = reader.next_entry().unwrap().map(|entry| entry.seq);
        assert_eq!(first, (from <= newest.seq).then_some(from));
    }
    let mut reader = Reader::last(&place.file(), 2000).unwrap();
    let mut numbers = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        numbers.push(entry.seq);
    }
    assert_eq!(numbers, (newest.seq - 1999..=newest.seq).collect::<Vec<_>>());
    assert_eq!(super::super::newest(&place.file()).unwrap(), Some(newest));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_to_hear_of_a_record_does_although_nobody_waits_for_it() {
    let place = Place::new();
    let log = Log::open(place.options()).unwrap();
    for number in 0..200 {
        let (tell, told) = std::sync::mpsc::channel();
        let write = log.write_then(note(&number.to_string()), move |written| tell.send(written.is_ok()).unwrap());
        // Its future is dropped at the first wait.
        assert!(futures_util::FutureExt::now_or_never(write).is_none_or(|written| written.is_ok()));
        let log = log.clone();
        tokio::task::spawn_blocking(move || log.drain_blocking()).await.unwrap();
        assert_eq!(told.try_recv(), Ok(true), "{number}");
    }
    log.close().unwrap();
    assert_eq!(place.text().matches("\"note\"").count(), 200);
}
