//! What is written, and when it is on disk.

use serde_json::Value;

use super::super::{Event, Kind, Log, Sync};
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
