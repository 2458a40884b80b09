//! What a target does with answers of a server, each from a list: without a server, on this machine's own addresses.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::backup::place::Keys;

const SECRET: &str = "a-secret-that-nobody-may-see";

/// A server that gives these answers, one for each request, and the last one for ever.
struct Told {
    address: SocketAddr,
    requests: Arc<AtomicU64>,
}

fn told(answers: &[(u16, &str)]) -> Told {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let requests = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&requests);
    let mut answers: VecDeque<(u16, String)> =
        answers.iter().map(|(status, body)| (*status, (*body).to_owned())).collect();
    // The thread ends with the program of the tests.
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let mut request = Vec::new();
            let mut buffer = [0; 4096];
            while !request.windows(4).any(|window| window == b"\r\n\r\n") {
                let read = client.read(&mut buffer).unwrap_or(0);
                if read == 0 {
                    break;
                }
                request.extend_from_slice(&buffer[..read]);
            }
            count.fetch_add(1, Ordering::SeqCst);
            let (status, body) =
                if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() }.unwrap();
            let length = body.len();
            write!(
                client,
                "HTTP/1.1 {status} X\r\nDate: Sun, 22 Nov 2026 22:18:54 GMT\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            )
            .ok();
            // What of the body was not read would reset the connection before the answer is.
            client.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            while client.read(&mut buffer).is_ok_and(|read| read > 0) {}
        }
    });
    Told { address, requests }
}

fn access(endpoint: &str) -> Access {
    Access {
        endpoint: Some(endpoint.to_owned()),
        keys: Some(Keys { id: "an-id".to_owned().into(), secret: SECRET.to_owned().into(), token: None }),
        ..Access::default()
    }
}

fn target(told: &Told) -> S3Target {
    let patience = Patience {
        attempts: 3,
        first: Duration::from_millis(2),
        longest: Duration::from_millis(9),
        ..Patience::default()
    };
    S3Target::with_patience("bucket", "pre/fix", &access(&format!("http://{}", told.address)), patience).unwrap()
}

const LIST: (u16, &str) = (200, "<ListBucketResult></ListBucketResult>");

#[test]
fn wrong_keys_are_told_once_and_without_the_secret() {
    let body = format!(
        "<Error><Code>SignatureDoesNotMatch</Code><Message>No.</Message><StringToSign>{SECRET}</StringToSign></Error>"
    );
    for status in [403, 401] {
        let server = told(&[(status, &body)]);
        for error in [
            target(&server).get_all("config", 10).unwrap_err(),
            target(&server).put("config", b"x").unwrap_err(),
            target(&server).now().unwrap_err(),
        ] {
            let text = format!("{error} {error:?}");
            assert!(text.contains("SignatureDoesNotMatch") && !text.contains(SECRET), "{text}");
            assert_eq!(crate::error::Fault::from(error).kind(), "backup.denied");
        }
        assert_eq!(server.requests.load(Ordering::SeqCst), 3, "it is not asked again");
    }
}

#[test]
fn a_bucket_that_is_missing_is_no_empty_one() {
    let server = told(&[LIST, (404, "<Error><Code>NoSuchBucket</Code><Message>None.</Message></Error>")]);
    let target = target(&server);
    for error in [
        target.get_all("config", 10).unwrap_err(),
        target.get("config", 0..4).unwrap_err(),
        target.list("data", &mut |_| Ok(())).unwrap_err(),
        target.put("config", b"x").unwrap_err(),
    ] {
        assert!(!error.is_missing() && error.to_string().contains("make the bucket first"), "{error}");
    }
}

#[test]
fn a_server_that_lets_a_file_be_overwritten_is_refused_before_anything_is_written() {
    let server = told(&[LIST, (200, "")]);
    let error = target(&server).put("config", b"x").unwrap_err();
    assert!(matches!(&error, Error::Option(text) if text.contains("If-None-Match")), "{error}");
    assert_eq!(server.requests.load(Ordering::SeqCst), 3, "a greeting, and the probe twice");
    let server = told(&[LIST, (501, "<Error><Code>NotImplemented</Code><Message>A header</Message></Error>")]);
    let error = target(&server).put("config", b"x").unwrap_err();
    assert!(matches!(&error, Error::Option(text) if text.contains("If-None-Match")), "{error}");
}

#[test]
fn a_busy_server_is_asked_again() {
    let busy = (503, "<Error><Code>SlowDown</Code><Message>Later.</Message></Error>");
    let missing = (404, "<Error><Code>NoSuchKey</Code></Error>");
    let server = told(&[LIST, (412, ""), busy, missing, (200, "")]);
    target(&server).put("config", b"x").unwrap();
    assert_eq!(server.requests.load(Ordering::SeqCst), 5, "greeting, probe, busy, read back, again");
}

#[test]
fn a_full_server_is_told_as_a_full_disk() {
    let server = told(&[LIST, (412, ""), (507, "<Error><Code>XMinioStorageFull</Code></Error>")]);
    let error = target(&server).put("config", b"x").unwrap_err();
    assert_eq!(crate::error::Fault::from(error).kind(), "backup.full");
}

#[test]
fn answers_that_make_no_sense_are_errors() {
    for answer in [(200, "no xml"), (200, "<a>"), (302, ""), (200, "")] {
        let server = told(&[LIST, answer]);
        target(&server).list("data", &mut |_| Ok(())).unwrap_err();
    }
    let server = told(&[LIST, (200, "whole")]);
    assert!(target(&server).get("config", 0..3).is_err(), "a range was asked for, and all of it comes");
    let page = "<ListBucketResult><NextContinuationToken>x</NextContinuationToken></ListBucketResult>";
    let server = told(&[LIST, (200, page)]);
    let error = target(&server).list("data", &mut |_| Ok(())).unwrap_err();
    assert!(error.to_string().contains("for ever"), "{error}");
}

#[test]
fn names_of_others_in_a_list_are_left_out() {
    let one = |key: &str| {
        format!("<Contents><Key>{key}</Key><Size>1</Size><LastModified>2026-11-22T10:00:00Z</LastModified></Contents>")
    };
    let keys = ["pre/fix/data/", "pre/fix/data/.x", "pre/fix/data/00/aa", "pre/fix/data/A B"];
    let page = format!("<ListBucketResult>{}</ListBucketResult>", keys.map(one).concat());
    let server = told(&[LIST, (200, &page)]);
    let found = super::super::listed(&target(&server), "data").unwrap();
    assert_eq!(found.iter().map(|file| file.name.as_str()).collect::<Vec<_>>(), ["data/00/aa"]);
}

/// A page of a list with these keys, and the token of another page.
fn page(keys: &[&str], token: Option<&str>) -> String {
    let one = |key: &&str| {
        format!("<Contents><Key>{key}</Key><Size>1</Size><LastModified>2026-11-22T10:00:00Z</LastModified></Contents>")
    };
    let keys: String = keys.iter().map(one).collect();
    let token = token.map(|token| format!("<NextContinuationToken>{token}</NextContinuationToken>"));
    format!("<ListBucketResult>{keys}{}</ListBucketResult>", token.unwrap_or_default())
}

#[test]
fn a_list_that_does_not_go_on_as_lists_do_ends_in_an_error() {
    let (a, b) = ("pre/fix/data/00/aa", "pre/fix/data/00/bb");
    let endless: Vec<String> = (0..150).map(|token: u32| page(&[], Some(&token.to_string()))).collect();
    let wrong: [(&str, Vec<String>); 6] = [
        ("for ever", vec![page(&[a], Some("1")), page(&[b], Some("2")), page(&["pre/fix/data/00/cc"], Some("1"))]),
        ("for ever", endless),
        ("out of their order", vec![page(&[b, a], None)]),
        ("out of their order", vec![page(&[a], Some("1")), page(&[a], Some("2")), page(&[], None)]),
        ("not asked for", vec![page(&[a, "pre/fix/database"], None)]),
        ("not asked for", vec![page(&["other/data/00/bb"], None)]),
    ];
    for (what, pages) in wrong {
        let answers = std::iter::once(LIST).chain(pages.iter().map(|page| (200, page.as_str()))).collect::<Vec<_>>();
        let error = target(&told(&answers)).list("data", &mut |_| Ok(())).unwrap_err();
        assert!(error.to_string().contains(what), "{what}: {error}");
    }
    let pages = [page(&[a], Some("1")), page(&[], Some("2")), page(&[b], None)];
    let answers = std::iter::once(LIST).chain(pages.iter().map(|page| (200, page.as_str()))).collect::<Vec<_>>();
    assert_eq!(super::super::listed(&target(&told(&answers)), "data").unwrap().len(), 2);
}

#[test]
fn an_answer_without_end_fills_no_memory() {
    let long = page(&[&"x".repeat(9 << 20)], None);
    let error = target(&told(&[LIST, (200, &long)])).list("data", &mut |_| Ok(())).unwrap_err();
    assert!(error.to_string().contains("longer than"), "{error}");
    // What is no success is told by what comes first of it.
    let text = format!("<Error><Code>AccessDenied</Code><Message>No.</Message></Error>{}", " ".repeat(9 << 20));
    let error = target(&told(&[LIST, (403, &text)])).list("data", &mut |_| Ok(())).unwrap_err();
    assert!(error.to_string().contains("AccessDenied"), "{error}");
}

/// A server that greets, and then gives one byte of each body after the other, for ever: after so many requests nothing more.
fn trickling() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for (number, client) in listener.incoming().enumerate() {
            let mut client = client.unwrap();
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                let read = client.read(&mut buffer).unwrap_or(0);
                let head = "HTTP/1.1 200 X\r\nDate: Sun, 22 Nov 2026 22:18:54 GMT\r\nConnection: close\r\n\
                            Last-Modified: Sun, 22 Nov 2026 22:18:54 GMT\r\nETag: \"x\"\r\nContent-Length: ";
                if number == 0 || read == 0 {
                    let (length, body) = (LIST.1.len(), LIST.1);
                    write!(client, "{head}{length}\r\n\r\n{body}").ok();
                    return;
                }
                write!(client, "{head}1000000\r\n\r\n").ok();
                while client.write_all(b" ").is_ok() {
                    std::thread::sleep(Duration::from_millis(5));
                }
            });
        }
    });
    address
}

#[test]
fn a_server_that_trickles_holds_up_no_call() {
    let patience = Patience {
        attempts: 2,
        first: Duration::from_millis(2),
        longest: Duration::from_millis(9),
        slowest: bounds::Slowest { after: Duration::from_millis(50), floor: 1 << 20 },
        ..Patience::default()
    };
    let access = access(&format!("http://{}", trickling()));
    let target = S3Target::with_patience("bucket", "pre/fix", &access, patience).unwrap();
    for error in [
        target.get_all("config", 2_000_000).unwrap_err(),
        target.get("config", 0..1_000_000).unwrap_err(),
        target.list("data", &mut |_| Ok(())).unwrap_err(),
    ] {
        assert!(!error.is_damage() && !error.is_missing(), "{error}");
    }
}

/// A server that takes a file slowly: each piece after a pause. It has nothing else, and counts the files that came whole and those begun.
fn swallowing(piece: usize, pause: Duration) -> (SocketAddr, Arc<[AtomicU64; 2]>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let counts: Arc<[AtomicU64; 2]> = Arc::default();
    let counted = Arc::clone(&counts);
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (client, counts) = (client.unwrap(), Arc::clone(&counted));
            std::thread::spawn(move || swallow(client, piece, pause, &counts));
        }
    });
    (address, counts)
}

fn swallow(mut client: std::net::TcpStream, piece: usize, pause: Duration, [whole, begun]: &[AtomicU64; 2]) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && client.read(&mut byte).is_ok_and(|read| read > 0) {
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
    let (mut left, is_probe) = (length.unwrap_or(0), head.contains("/probe http"));
    let is_file = head.starts_with("put ") && !is_probe;
    begun.fetch_add(u64::from(is_file), Ordering::SeqCst);
    let mut buffer = vec![0; piece];
    while left > 0 {
        if is_file {
            std::thread::sleep(pause);
        }
        let most = left.min(buffer.len());
        match client.read(&mut buffer[..most]) {
            Ok(read) if read > 0 => left -= read,
            // The client has gone.
            _ => return,
        }
    }
    whole.fetch_add(u64::from(is_file), Ordering::SeqCst);
    let (status, body) = match () {
        () if head.contains("list-type") => LIST,
        () if is_file => (200, ""),
        () if is_probe => (412, "<Error><Code>PreconditionFailed</Code></Error>"),
        () => (404, "<Error><Code>NoSuchKey</Code></Error>"),
    };
    let date = "Date: Sun, 22 Nov 2026 22:18:54 GMT\r\nConnection: close";
    write!(client, "HTTP/1.1 {status} X\r\n{date}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).ok();
}

/// Uploads a file of so many MiB.
fn upload(address: SocketAddr, mib: usize, slowest: bounds::Slowest) -> (Result<()>, tempfile::TempDir) {
    let patience = Patience {
        attempts: 2,
        first: Duration::from_millis(2),
        longest: Duration::from_millis(9),
        slowest,
        ..Patience::default()
    };
    let folder = tempfile::tempdir().unwrap();
    let access = Access { spool: Some(folder.path().to_owned()), ..access(&format!("http://{address}")) };
    let target = S3Target::with_patience("bucket", "pre/fix", &access, patience).unwrap();
    let mut spool = target.spool().unwrap();
    for _ in 0..mib {
        spool.write(&[7; 1 << 20]).unwrap();
    }
    (target.put_spool("data/ab/abcd", spool), folder)
}

#[test]
fn an_upload_that_is_taken_too_slowly_is_tried_again_and_then_an_error() {
    // More than the buffers of both ends, which take in what nobody reads.
    let slowest = bounds::Slowest { after: Duration::from_millis(50), floor: 1 << 30 };
    let (address, counts) = swallowing(1, Duration::from_millis(5));
    let (done, spool) = upload(address, 24, slowest);
    let error = done.unwrap_err();
    assert!(error.to_string().contains("trickles"), "{error}");
    assert!(!error.is_damage() && !error.is_missing(), "{error}");
    let [whole, begun] = &*counts;
    assert_eq!((whole.load(Ordering::SeqCst), begun.load(Ordering::SeqCst)), (0, 3));
    assert_eq!(std::fs::read_dir(spool.path()).unwrap().count(), 0, "what was to be sent stays on this machine");
}

#[test]
fn an_upload_that_is_slow_and_not_too_slow_arrives() {
    let slowest = bounds::Slowest { after: Duration::from_millis(50), floor: 8 << 10 };
    let (address, counts) = swallowing(1 << 20, Duration::from_millis(20));
    let (done, _spool) = upload(address, 24, slowest);
    done.unwrap();
    let [whole, begun] = &*counts;
    assert_eq!((whole.load(Ordering::SeqCst), begun.load(Ordering::SeqCst)), (1, 1));
}

#[test]
fn what_is_locked_is_told_after_the_others_were_deleted() {
    let body = "<DeleteResult><Deleted><Key>pre/fix/index/a</Key></Deleted><Error><Key>pre/fix/index/b</Key>\
                <Code>AccessDenied</Code><Message>Access Denied because object protected by object lock.</Message></Error></DeleteResult>";
    let server = told(&[LIST, (200, body)]);
    let error = target(&server).delete(&["index/a".to_owned(), "index/b".to_owned()]).unwrap_err();
    assert!(matches!(&error, Error::Locked { file, count: 1, .. } if file == "index/b"), "{error}");
}

#[test]
fn of_two_that_delete_the_same_both_succeed() {
    let body = "<DeleteResult><Deleted><Key>pre/fix/index/a</Key></Deleted><Error><Key>pre/fix/index/b</Key>\
                <Code>NoSuchKey</Code><Message>The specified key does not exist.</Message></Error></DeleteResult>";
    let server = told(&[LIST, (200, body)]);
    target(&server).delete(&["index/a".to_owned(), "index/b".to_owned()]).unwrap();
}

#[test]
fn a_server_that_is_not_there_is_told_soon() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = Told { address: listener.local_addr().unwrap(), requests: Arc::default() };
    drop(listener);
    let error = target(&gone).get_all("config", 10).unwrap_err();
    assert_eq!(crate::error::Fault::from(error).kind(), "backup.target");
}

#[test]
fn the_time_is_the_servers() {
    let server = told(&[LIST]);
    let now = target(&server).now().unwrap();
    assert_eq!(now.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs(), 1_795_385_934);
}

#[test]
fn endpoints_that_would_lose_tls_or_carry_keys_are_refused() {
    let new = |endpoint: &str, change: &dyn Fn(&mut Access)| {
        let mut access = access(endpoint);
        change(&mut access);
        S3Target::new("bucket", "", &access).map(drop)
    };
    let as_it_is = |_: &mut Access| {};
    for good in [
        "https://s3.example",
        "https://s3.example:9000/base",
        "http://127.0.0.1:1",
        "http://localhost:1",
        "http://[::1]:1",
    ] {
        new(good, &as_it_is).unwrap();
    }
    for wrong in [
        "http://s3.example",
        "http://10.0.0.1:9000",
        "ftp://127.0.0.1",
        "s3.example",
        "https://key:secret@s3.example",
        "https://s3.example/?x",
        "",
    ] {
        let error = new(wrong, &as_it_is).unwrap_err();
        assert!(matches!(error, Error::Option(_)) && !error.to_string().contains("secret@"), "{wrong}");
    }
    new("http://s3.example", &|access| access.plain_http = true).unwrap();
    for change in [
        &|access: &mut Access| access.keys = None,
        &|access: &mut Access| access.region = Some("a b".to_owned()),
        &|access: &mut Access| access.ca = Some(b"no certificate".to_vec()),
        &|access: &mut Access| access.keys.as_mut().unwrap().secret = "line\nbreak".to_owned().into(),
        &|access: &mut Access| access.keys.as_mut().unwrap().id = String::new().into(),
    ] as [&dyn Fn(&mut Access); 5]
    {
        assert!(matches!(new("https://s3.example", change), Err(Error::Option(_))));
    }
}

#[tokio::test]
async fn a_target_may_be_used_and_dropped_on_a_thread_of_another_runtime() {
    let server = told(&[LIST]);
    let target = target(&server);
    tokio::task::spawn_blocking(move || target.now().map(drop)).await.unwrap().unwrap();
    drop(S3Target::new("bucket", "", &access("https://s3.example")).unwrap());
}
