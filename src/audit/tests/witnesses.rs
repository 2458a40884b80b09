//! Witnesses, each a real socket of the test's own: what they hear, and what it costs when nobody listens.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

use super::super::{Log, Options, Pin, Sends, Sync, Verify, Witness};
use super::{Place, eventually, note, verify};

fn log(place: &Place, witness: &str, sends: Sends) -> Log {
    let options = Options { witnesses: vec![witness.parse().unwrap()], sends, ..place.options() };
    Log::open(options).unwrap()
}

/// Answers HTTP requests with what `answer` says; the bodies.
fn webhook(answer: impl Fn(usize) -> &'static str + Send + 'static) -> (String, Receiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook?key=k", listener.local_addr().unwrap());
    let (tell, told) = channel();
    std::thread::spawn(move || {
        let mut requests = 0;
        for stream in listener.incoming() {
            let mut reader = BufReader::new(stream.unwrap());
            loop {
                let mut head = String::new();
                while reader.read_line(&mut head).unwrap_or(0) > 2 {}
                let Some(length) = head
                    .to_lowercase()
                    .split("content-length: ")
                    .nth(1)
                    .map(|rest| rest.split_whitespace().next().unwrap().parse::<usize>().unwrap())
                else {
                    break;
                };
                assert!(head.starts_with("POST /hook?key=k ") && head.to_lowercase().contains("application/json"));
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                requests += 1;
                let status = answer(requests);
                write!(reader.get_mut(), "HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").unwrap();
                if status.starts_with("200") && tell.send(serde_json::from_slice(&body).unwrap()).is_err() {
                    return;
                }
            }
        }
    });
    (url, told)
}

#[test]
fn addresses_of_witnesses_are_read_and_say_what_is_wrong() {
    for (text, shown, kind) in [
        ("udp://loghost", "udp://loghost:514", "syslog"),
        ("tcp://[::1]:601", "tcp://[::1]:601", "syslog"),
        ("unix:///dev/log", "unix:///dev/log", "syslog"),
        ("https://hooks.example/a?b=c", "https://hooks.example/a?b=c", "webhook"),
    ] {
        let witness: Witness = text.parse().unwrap();
        assert_eq!((witness.to_string().as_str(), witness.kind()), (shown, kind));
    }
    for wrong in
        ["", "loghost", "udp://", "ftp://x/", "udp://h/path", "unix://host/x", "unix:///", "https://u:secret@h/"]
    {
        let why = wrong.parse::<Witness>().unwrap_err();
        assert!(why.contains("https://HOST/PATH") && !why.contains("secret"), "{why}");
    }
}

#[test]
fn syslog_over_udp_hears_each_checkpoint_and_it_is_a_pin() {
    let place = Place::new();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let log = log(&place, &format!("udp://{}", socket.local_addr().unwrap()), Sends::Checkpoints);
    log.write_blocking(note("a\u{202e}b"), Sync::Now).unwrap();
    let newest = log.close().unwrap().unwrap();
    let mut bytes = [0; 9000];
    let text = loop {
        let length = socket.recv(&mut bytes).unwrap();
        let text = String::from_utf8(bytes[..length].to_vec()).unwrap();
        assert!(
            text.starts_with("<109>1 2") && text.contains(" ceso ") && text.contains(" audit [audit@32473 log=\""),
            "{text}"
        );
        if text.contains(&format!(" seq=\"{}\" ", newest.seq)) {
            break text;
        }
    };
    assert!(text.contains(&format!("head=\"{}\"", newest.head)) && !text.contains("\"event\""), "{text}");
    let pin: Pin = newest.to_string().parse().unwrap();
    assert!(Verify { pins: vec![pin], ..Verify::new(place.file()) }.run().unwrap().verified);
    assert!(log.witness_lag().iter().all(|lag| lag.records == 0 && lag.failing.is_none()), "{:?}", log.witness_lag());
}

#[test]
fn syslog_over_tcp_and_sockets_of_the_machine_hears_every_record_in_order() {
    fn frames(stream: impl Read, count: usize) -> Vec<Value> {
        let mut reader = BufReader::new(stream);
        (0..count)
            .map(|_| {
                let mut length = Vec::new();
                reader.read_until(b' ', &mut length).unwrap();
                let length: usize = std::str::from_utf8(&length).unwrap().trim().parse().unwrap();
                let mut bytes = vec![0; length];
                reader.read_exact(&mut bytes).unwrap();
                let text = String::from_utf8(bytes).unwrap();
                serde_json::from_str(text.split_once("] ").unwrap().1).unwrap()
            })
            .collect()
    }
    let place = Place::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let witness = format!("tcp://{}", listener.local_addr().unwrap());
    let log = log(&place, &witness, Sends::Records);
    for number in 0..20 {
        log.write_blocking(note(&number.to_string()), Sync::Now).unwrap();
    }
    let records = frames(listener.accept().unwrap().0, 21);
    assert!(records.iter().enumerate().all(|(at, record)| record["seq"] == at + 1), "{records:?}");
    assert_eq!(records[20]["event"]["message"], "19");
    eventually(|| log.witness_lag()[0].records == 0);
    log.close().unwrap();

    let place = Place::new();
    let path = place.0.path().join("stream");
    let listener = UnixListener::bind(&path).unwrap();
    let stream = self::log(&place, &format!("unix://{}", path.display()), Sends::Records);
    stream.write_blocking(note("x"), Sync::Now).unwrap();
    assert_eq!(frames(listener.accept().unwrap().0, 2)[1]["event"]["message"], "x");
    drop(stream);

    let path = place.0.path().join("datagram");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let datagram = self::log(&place, &format!("unix://{}", path.display()), Sends::Records);
    datagram.write_blocking(note("y"), Sync::Now).unwrap();
    let mut bytes = [0; 9000];
    loop {
        let length = socket.recv(&mut bytes).unwrap();
        if String::from_utf8_lossy(&bytes[..length]).contains("\"message\":\"y\"") {
            break;
        }
    }
}

#[test]
fn a_webhook_is_asked_again_until_it_takes_every_record_once() {
    let place = Place::new();
    let (url, told) = webhook(|request| if request < 3 { "503 Busy" } else { "200 OK" });
    let log = log(&place, &url, Sends::Records);
    let mut newest = None;
    for number in 0..30 {
        newest = log.write_blocking(note(&number.to_string()), Sync::Now).unwrap();
    }
    let mut numbers = Vec::new();
    while numbers.len() < 31 {
        let body = told.recv_timeout(Duration::from_secs(30)).unwrap();
        numbers.extend(body["records"].as_array().unwrap().iter().map(|record| record["seq"].as_u64().unwrap()));
        if numbers.len() == 31 {
            let newest = newest.unwrap();
            assert_eq!((&body["seq"], &body["head"]), (&json!(newest.seq), &json!(newest.head.to_string())));
            assert!(body["log"].as_str().unwrap().len() == 36 && body["ts"].is_string());
        }
    }
    assert!(numbers.iter().enumerate().all(|(at, number)| *number == at as u64 + 1), "{numbers:?}");
    log.close().unwrap();
    // The next process goes on where this one ended.
    let log = self::log(&place, &url, Sends::Records);
    log.write_blocking(note("next"), Sync::Now).unwrap();
    let mut last = Vec::new();
    while last.last() != Some(&json!("next")) {
        let body = told.recv_timeout(Duration::from_secs(30)).unwrap();
        last.extend(body["records"].as_array().unwrap().iter().map(|record| record["event"]["message"].clone()));
    }
    assert!(!last.contains(&json!("29")), "{last:?}");
}

#[test]
fn a_dead_witness_costs_nothing_but_lag() {
    let place = Place::new();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let options = Options {
        witnesses: [format!("tcp://{closed}"), format!("http://{}/x?key=secret", silent.local_addr().unwrap())]
            .map(|text| text.parse().unwrap())
            .to_vec(),
        sends: Sends::Records,
        ..place.options()
    };
    let log = Log::open(options.clone()).unwrap();
    for number in 0..200 {
        log.write_blocking(note(&number.to_string()), Sync::Now).unwrap();
    }
    eventually(|| {
        let lags = log.witness_lag();
        lags.iter().all(|lag| lag.records > 0 && lag.failing.is_some())
    });
    let lags = log.witness_lag();
    assert!(lags.iter().all(|lag| !lag.failing.as_ref().unwrap().contains("secret")), "{lags:?}");
    assert_eq!(lags.iter().map(|lag| lag.kind).collect::<Vec<_>>(), ["syslog", "webhook"]);
    log.close().unwrap();
    assert!(verify(&place).verified);
    // The next process knows that it need not ask yet.
    let log = Log::open(options).unwrap();
    log.write_blocking(note("x"), Sync::Now).unwrap();
    eventually(|| log.witness_lag().iter().all(|lag| lag.records >= 200 && lag.behind > Duration::ZERO));
    log.close().unwrap();
}
