//! Servers of every kind, and what is made of them.

use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::*;
use crate::error::Fault;
use crate::units::Bytes;
use serve::{Asked, Server, Serving, give, say};

#[path = "../../tests/support/web.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod serve;

fn limits() -> Limits {
    Limits {
        stall: Duration::from_millis(300),
        answer: Duration::from_secs(5),
        window: (Duration::from_millis(500), Bytes(64 << 10)),
        tries: (3, Duration::from_millis(1)),
        ..Limits::default()
    }
}

fn anywhere() -> Rules {
    Rules { url: Arc::new(|_| Ok(())), address: Arc::new(|_| Ok(())) }
}

fn web() -> Arc<Web> {
    Arc::new(Web::new(anywhere(), limits()).unwrap())
}

fn content(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7 + (at >> 9)) as u8).collect()
}

async fn open(server: &Server) -> Result<Arc<File>, Error> {
    File::open(web(), Address::parse(&server.url("/x.ova?token=abc")).unwrap()).await.map(Arc::new)
}

/// What comes of a file, or why not all of it does.
async fn read(file: &Arc<File>, from: u64, length: Option<u64>) -> Result<Vec<u8>, Error> {
    let mut stream = file.stream(from, length);
    let read = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).map(|_| bytes)
    });
    read.await.unwrap().map_err(|_| file.failure().expect("a failure is told"))
}

#[tokio::test]
async fn a_file_is_read_whole_from_any_place_and_in_windows() {
    let file = content(300_000);
    let own = file.clone();
    let server = Server::start(move |asked, to| {
        give(&own, asked, to, &Serving { ranges: true, tag: Some("\"v1\"".to_owned()), ..Serving::default() })
    });
    let opened = open(&server).await.unwrap();
    assert!(opened.has_ranges() && opened.length() == Some(300_000));
    assert!(read(&opened, 0, None).await.unwrap() == file);
    assert!(read(&opened, 1000, Some(2000)).await.unwrap() == file[1000..3000]);
    assert!(read(&opened, 0, Some(10)).await.unwrap() == file[..10]);
    let (mut window, want) = (opened.window(), file.clone());
    let seen = tokio::task::spawn_blocking(move || {
        for at in [0, 299_990, 70_000, 65_530, 300_000] {
            let mut bytes = Vec::new();
            window.seek(SeekFrom::Start(at)).unwrap();
            window.by_ref().take(100).read_to_end(&mut bytes).unwrap();
            assert!(bytes == want[at as usize..(at as usize + 100).min(want.len())], "{at}");
        }
    });
    seen.await.unwrap();
    let asked = server.asked();
    assert!(asked.iter().all(|asked| asked.path == "/x.ova?token=abc" && asked.head.contains("identity")), "{asked:?}");
    assert!(asked[1].range.is_none() && asked[2].if_range.as_deref() == Some("\"v1\""));
    for head in asked.iter().map(|asked| asked.head.to_ascii_lowercase()) {
        assert!(!head.contains("cookie") && !head.contains("authorization") && !head.contains("referer"), "{head}");
    }
}

#[tokio::test]
async fn what_breaks_off_goes_on_where_it_broke_off() {
    let file = content(500_000);
    let own = file.clone();
    let server = Server::start(move |asked, to| {
        let cut = (asked.number > 0).then_some(150_000);
        give(&own, asked, to, &Serving { ranges: true, tag: Some("\"v1\"".to_owned()), cut, ..Serving::default() })
    });
    let opened = open(&server).await.unwrap();
    assert!(read(&opened, 0, None).await.unwrap() == file);
    let from: Vec<u64> = server.asked().iter().filter_map(|asked| asked.range).map(|(from, _)| from).collect();
    assert_eq!(from, [0, 150_000, 300_000, 450_000]);
}

#[tokio::test]
async fn what_breaks_off_and_cannot_go_on_is_an_error() {
    let file = content(500_000);
    let own = file.clone();
    // No parts: what broke off in its middle is lost.
    let server =
        Server::start(move |asked, to| give(&own, asked, to, &Serving { cut: Some(1000), ..Serving::default() }));
    let opened = open(&server).await.unwrap();
    assert!(!opened.has_ranges());
    let error = read(&opened, 0, None).await.unwrap_err();
    assert_eq!(error.kind(), "web.connection_lost", "{error}");
    assert!(!error.to_string().contains("token"), "{error}");
    // Another file by now, or other parts than were asked for: never a mixture.
    type Second = fn(&[u8], &Asked, &mut dyn Write) -> std::io::Result<()>;
    let seconds: [(&str, Second); 5] = [
        ("web.changed", |file, asked, to| {
            give(file, asked, to, &Serving { ranges: true, tag: Some("\"v2\"".to_owned()), ..Serving::default() })
        }),
        ("web.changed", |file, asked, to| {
            let asked = Asked { if_range: None, ..asked.clone() };
            give(&file[..400_000], &asked, to, &Serving { ranges: true, ..Serving::default() })
        }),
        ("web.bad_answer", |file, asked, to| {
            let asked = Asked { range: Some((0, None)), if_range: None, ..asked.clone() };
            give(file, &asked, to, &Serving { ranges: true, ..Serving::default() })
        }),
        ("web.changed", |_, _, to| say(to, "416 Range Not Satisfiable", &[("Content-Range", "bytes */10")])),
        ("web.not_found", |_, _, to| say(to, "404 Not Found", &[])),
    ];
    for (kind, second) in seconds {
        let own = file.clone();
        let server = Server::start(move |asked, to| match asked.number {
            0 | 1 => {
                let tag = Some("\"v1\"".to_owned());
                give(&own, asked, to, &Serving { ranges: true, tag, cut: Some(1000), ..Serving::default() })
            }
            _ => second(&own, asked, to),
        });
        let opened = open(&server).await.unwrap();
        let error = read(&opened, 0, None).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
    }
}

#[tokio::test]
async fn what_gets_nowhere_is_given_up() {
    let own = content(500_000);
    let server = Server::start(move |asked, to| {
        let cut = Some(if asked.number < 2 { 1000 } else { 10 });
        give(&own, asked, to, &Serving { ranges: true, cut, ..Serving::default() })
    });
    let opened = open(&server).await.unwrap();
    assert_eq!(read(&opened, 0, None).await.unwrap_err().kind(), "web.connection_lost");
    assert_eq!(server.asked().len(), 5, "the first, and three more");
}

#[tokio::test]
async fn a_server_that_says_one_thing_and_sends_another_is_no_server() {
    let answers: [(&str, &str); 7] = [
        ("web.bad_answer", "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 5-5/10\r\nContent-Length: 1\r\n\r\nx"),
        ("web.bad_answer", "HTTP/1.1 206 Partial Content\r\nContent-Length: 1\r\n\r\nx"),
        ("web.bad_answer", "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes=0-0/1\r\nContent-Length: 1\r\n\r\nx"),
        ("web.bad_answer", "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx"),
        ("web.bad_answer", "HTTP/1.1 204 No Content\r\n\r\n"),
        ("web.refused", "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"),
        ("web.unreachable", "junk\r\n\r\n"),
    ];
    for (kind, answer) in answers {
        let server = Server::start(move |_, to| to.write_all(answer.as_bytes()));
        assert_eq!(open(&server).await.map(drop).unwrap_err().kind(), kind, "{answer}");
    }
    // Parts where all was asked for.
    let server = Server::start(|asked, to| {
        let asked = Asked { range: asked.range.or(Some((0, None))), ..asked.clone() };
        give(&content(1000), &asked, to, &Serving { ranges: true, ..Serving::default() })
    });
    let opened = open(&server).await.unwrap();
    assert_eq!(read(&opened, 0, None).await.unwrap_err().kind(), "web.bad_answer");
}

#[tokio::test]
async fn a_trickle_and_a_silence_are_no_transfer() {
    for silent in [false, true] {
        let server = Server::start(move |asked, to| {
            if asked.range == Some((0, Some(0))) {
                return give(&content(100_000), asked, to, &Serving::default());
            }
            to.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")?;
            for _ in 0..200 {
                if !silent {
                    to.write_all(b"x")?;
                    to.flush()?;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            Ok(())
        });
        let opened = open(&server).await.unwrap();
        assert_eq!(read(&opened, 0, None).await.unwrap_err().kind(), "web.too_slow", "silent: {silent}");
    }
}

#[tokio::test]
async fn a_body_without_an_end_is_read_only_as_far_as_somebody_reads() {
    let sent = Arc::new(AtomicUsize::new(0));
    let own = sent.clone();
    let server = Server::start(move |_, to| {
        to.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
        loop {
            to.write_all(&[0; 65536])?;
            own.fetch_add(65536, Ordering::Relaxed);
        }
    });
    let opened = open(&server).await.unwrap();
    assert_eq!(opened.length(), None);
    let mut stream = opened.stream(0, None);
    let read = tokio::task::spawn_blocking(move || {
        let mut bytes = vec![1; 1 << 20];
        stream.read_exact(&mut bytes).map(|()| stream)
    });
    let stream = read.await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(sent.load(Ordering::Relaxed) < 32 << 20, "what nobody reads is not fetched");
    opened.stop();
    drop(stream);
}

#[tokio::test]
async fn redirects_are_followed_a_few_times_each_by_the_rules() {
    let server = Server::start(|asked, to| match asked.path.as_str() {
        "/x.ova?token=abc" => say(to, "302 Found", &[("Location", "/there?signature=0123456789abcdef")]),
        "/there?signature=0123456789abcdef" => give(b"content", asked, to, &Serving::default()),
        "/loop" => say(to, "301 Moved Permanently", &[("Location", "/loop")]),
        "/nowhere" => say(to, "302 Found", &[]),
        "/file" => say(to, "302 Found", &[("Location", "file:///etc/passwd")]),
        "/denied" => say(to, "307 Temporary Redirect", &[("Location", "http://169.254.169.254/secret")]),
        _ => say(to, "404 Not Found", &[]),
    });
    let opened = open(&server).await.unwrap();
    assert_eq!(opened.went().iter().map(Address::name).collect::<Vec<_>>(), [server.url("/there")]);
    assert_eq!(read(&opened, 0, None).await.unwrap(), b"content");
    let rules = Rules {
        url: Arc::new(|address| match address.literal().and_then(reserved) {
            Some(whose) if !whose.contains("own") => Err(Fault::new("door.network", "denied").hint("no")),
            _ => Ok(()),
        }),
        ..anywhere()
    };
    let ruled = Arc::new(Web::new(rules, limits()).unwrap());
    for (path, kind) in [
        ("/loop", "web.bad_answer"),
        ("/nowhere", "web.bad_answer"),
        ("/file", "web.bad_answer"),
        ("/denied", "door.network"),
    ] {
        let error = File::open(ruled.clone(), Address::parse(&server.url(path)).unwrap()).await.map(drop).unwrap_err();
        assert_eq!(Fault::from(error).kind(), kind, "{path}");
    }
    assert_eq!(server.asked().iter().filter(|asked| asked.path == "/loop").count(), 6);
}

#[tokio::test]
async fn a_name_leads_only_to_addresses_that_are_allowed() {
    let rules = Rules {
        address: Arc::new(|ip| match reserved(ip) {
            Some(whose) => Err(Fault::new("door.network", format!("{ip} is {whose}")).hint("no")),
            None => Ok(()),
        }),
        ..anywhere()
    };
    let server = Server::start(|_, to| say(to, "200 OK", &[]));
    let url = format!("http://localhost:{}/x.ova", server.address.port());
    let web = Arc::new(Web::new(rules, limits()).unwrap());
    let error = File::open(web, Address::parse(&url).unwrap()).await.map(drop).unwrap_err();
    assert_eq!(Fault::from(error).kind(), "door.network");
    assert!(server.asked().is_empty());
}

#[tokio::test]
async fn a_certificate_that_nobody_trusts_ends_it() {
    let server = Server::start_tls(|_, to| say(to, "200 OK", &[]));
    assert_eq!(open(&server).await.map(drop).unwrap_err().kind(), "web.certificate");
    assert!(server.asked().is_empty(), "nothing was sent");
}
