//! Hosts that are away, refuse, changed or are none; and files of ceso's own that are corrupt.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ceso::sim::Options;

use crate::support::{Done, Machine, Sim, done};

fn list(machine: &Machine, variables: &[(&str, &str)]) -> Done {
    let both = [("CESO_USERNAME", "root"), ("CESO_PASSWORD", "hunter2")];
    machine.run_with(&[&both[..], variables].concat(), &["vm", "list"])
}

#[test]
fn bad_input_host_that_is_away_fails_quickly_with_code_4() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let begun = Instant::now();
    let failed = list(&Machine::new(), &[("CESO_URL", &format!("https://{closed}"))]).failed(4, "esxi.unreachable");
    assert!(begun.elapsed() < Duration::from_secs(20) && failed.err.contains("retry"), "{failed:?}");
    assert!(!failed.err.contains("hunter2") && failed.out.is_empty(), "{failed:?}");
    let verbose = [("CESO_URL", "https://127.0.0.1:1"), ("CESO_USERNAME", "root"), ("CESO_PASSWORD", "hunter2")];
    let told = Machine::new().run_with(&verbose, &["vm", "list", "--verbose"]);
    assert!(told.err.contains("  cause: ") && !told.err.contains("hunter2"), "{told:?}");
    list(&Machine::new(), &[("CESO_URL", "https://no-such-host.invalid")]).failed(4, "esxi.unreachable");
    assert_eq!(list(&Machine::new(), &[("CESO_URL", "ftp://x")]).code, 2);
    let both = Machine::new().run(&["vm", "list", "--host", "lab"]).failed(2, "usage.unknown_host");
    assert!(both.err.contains("ceso host add"), "{both:?}");
}

#[test]
fn bad_input_wrong_password_is_tried_once() {
    let host = Sim::start(Options::default());
    let machine = Machine::new();
    let mut variables = host.variables();
    variables.retain(|(name, _)| *name != "CESO_PASSWORD");
    let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let wrong = machine.run_with(&[&variables[..], &[("CESO_PASSWORD", "hunter2")]].concat(), &["vm", "list"]);
    let wrong = wrong.failed(4, "esxi.invalid_login");
    assert_eq!(host.calls("Login"), 1, "a wrong password is never repeated");
    assert!(!wrong.err.contains("hunter2") && wrong.out.is_empty(), "{wrong:?}");
    let none = machine.run_with(&variables, &["vm", "list"]).failed(4, "host.no_password");
    assert!(none.err.contains("CESO_PASSWORD"), "{none:?}");
    assert_eq!(host.calls("Login"), 1);
}

#[test]
fn bad_input_changed_certificate_is_refused_with_both_fingerprints_and_told_nothing() {
    let host = Sim::start(Options::default());
    let pinned = ["AB"; 32].join(":");
    let mut variables = host.variables();
    variables.retain(|(name, _)| *name != "CESO_FINGERPRINT");
    variables.push(("CESO_FINGERPRINT", pinned.clone()));
    let machine = Machine::new();
    let failed = done(machine.command(&["vm", "list"]).envs(variables).output().unwrap());
    let failed = failed.failed(4, "esxi.certificate_changed");
    assert!(failed.err.contains(&pinned) && failed.err.contains(host.server.fingerprint()), "{failed:?}");
    assert_eq!(host.server.requests().values().sum::<u64>(), 0, "nothing was sent");
}

/// A server that answers every request with this text; over TLS where it has a certificate.
fn answering(answer: &'static [u8], tls: Option<Arc<rustls::ServerConfig>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, tls) = (stream.unwrap(), tls.clone());
            std::thread::spawn(move || {
                stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                let mut request = vec![0; 1 << 16];
                // Whoever breaks off is the client, which is what is tested.
                let _: std::io::Result<()> = (|| match tls {
                    None => {
                        let _read = stream.read(&mut request)?;
                        stream.write_all(answer)
                    }
                    Some(config) => {
                        let connection = rustls::ServerConnection::new(config).unwrap();
                        let mut stream = rustls::StreamOwned::new(connection, stream);
                        let _read = stream.read(&mut request)?;
                        stream.write_all(answer)?;
                        stream.conn.send_close_notify();
                        stream.flush()
                    }
                })();
            });
        }
    });
    format!("https://{address}")
}

const HTML: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 42\r\nConnection: close\r\n\r\n\
                      <html><body>Welcome to nginx!</body></html>";

fn certificate() -> (Arc<rustls::ServerConfig>, String) {
    use sha2::Digest as _;
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let der = made.cert.der().clone();
    let print: Vec<String> = sha2::Sha256::digest(&der).iter().map(|byte| format!("{byte:02X}")).collect();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![der], key)
        .unwrap();
    (Arc::new(config), print.join(":"))
}

#[test]
fn bad_input_host_that_is_a_web_server_is_told_as_such() {
    let plain = list(&Machine::new(), &[("CESO_URL", &answering(HTML, None))]);
    assert!(plain.code == 4 && plain.err.contains("error[esxi.") && plain.err.contains("hint: "), "{plain:?}");
    let (config, print) = certificate();
    let machine = Machine::new();
    let html = list(&machine, &[("CESO_URL", &answering(HTML, Some(config.clone()))), ("CESO_FINGERPRINT", &print)]);
    let html = html.failed(4, "esxi.not_a_host");
    assert!(!html.err.contains("hunter2") && !html.err.contains("<body>"), "{html:?}");
    for answer in [
        &b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: 500\r\n\r\n<?xml version=\"1.0\"?><a>"[..],
        b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: 60\r\n\r\n<!DOCTYPE a [<!ENTITY b SYSTEM \"file:///etc/passwd\">]><a>&b;</a>",
        b"\x00\xff\x00rubbish",
        b"",
    ] {
        let url = answering(answer, Some(config.clone()));
        let failed = list(&machine, &[("CESO_URL", &url), ("CESO_FINGERPRINT", &print)]);
        assert!(failed.code == 4 && failed.err.contains("error[esxi.") && failed.out.is_empty(), "{failed:?}");
        assert!(!failed.err.contains("panicked") && !failed.err.contains("root:"), "{failed:?}");
    }
}

#[test]
fn bad_input_corrupt_session_file_costs_a_login_and_nothing_else() {
    let host = Sim::start(Options::default());
    let machine = Machine::new();
    machine.on(&host, &["vm", "list"]).ok();
    assert_eq!(host.calls("Login"), 1);
    machine.on(&host, &["vm", "list"]).ok();
    assert_eq!(host.calls("Login"), 1, "the session is kept between commands");
    let file = fs::read_dir(machine.home().join("sessions")).unwrap().next().unwrap().unwrap().path();
    for rubbish in [&b""[..], b"{", b"\xff\xff", b"[1,2]"] {
        fs::write(&file, rubbish).unwrap();
        let list = machine.on(&host, &["vm", "list"]).ok();
        assert!(list.out.contains("debian-12") && list.err.contains("session"), "{list:?}");
    }
    host.server.expire_sessions();
    machine.on(&host, &["vm", "list"]).ok();
}

#[test]
fn bad_input_session_that_expires_in_the_middle_of_a_playbook_is_renewed() {
    let host = Sim::start(Options::default());
    let machine = Machine::new();
    machine.file(
        "script.luau",
        "local host = esxi.connect()\nlocal a = #host:find({ name = '*' })\nlog.info('first')\n\
         require('@ceso/task').sleep('2 s')\nreturn a + #host:find({ name = '*' })",
    );
    let run = machine.start(&host.variables(), &["run", "script.luau"]);
    run.says("first");
    assert_eq!(host.server.expire_sessions(), 1);
    let (code, err) = run.end();
    assert_eq!(code, 0, "{err}");
    assert_eq!(host.calls("Login"), 2);
}

#[test]
fn bad_input_corrupt_simulator_is_named_and_left_as_it_is() {
    let machine = Machine::new();
    machine.run(&["--host", "sim", "vm", "create", "a", "--disk", "1GiB"]).ok();
    let folder = machine.home().join("sim");
    let record = fs::read_dir(folder.join("vms")).unwrap().next().unwrap().unwrap().path();
    for file in [folder.join("host.json"), record, folder.join("certificate.pem")] {
        let good = fs::read(&file).unwrap();
        for rubbish in [&b""[..], b"{", b"\xff", b"[]"] {
            fs::write(&file, rubbish).unwrap();
            let failed = machine.run(&["--host", "sim", "vm", "list"]).failed(4, "sim.state");
            assert!(failed.err.contains(&file.display().to_string()) && failed.out.is_empty(), "{failed:?}");
            assert_eq!(fs::read(&file).unwrap(), rubbish, "nothing is overwritten");
        }
        fs::write(&file, good).unwrap();
    }
    machine.run(&["--host", "sim", "vm", "info", "a"]).ok();
}
