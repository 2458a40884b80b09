//! `ceso vm import URL`: appliances that lie on web servers, good and bad ones, and what a script may fetch.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use ceso::sim::{Options, Rule, Trouble};
use sha2::{Digest, Sha256};

use crate::appliance_commands::{archive, members, sum_of};
use crate::support::{Done, Machine, Sim};
use crate::web::{Asked, Server, Serving, give, say};

/// An appliance as an archive and as single files, made by an export of a machine with content.
struct Made {
    machine: Machine,
    archive: Vec<u8>,
    parts: Vec<(String, Vec<u8>)>,
    /// The SHA-256 of its disk's content.
    disk: String,
}

/// Made once: what is imported is the same for all tests.
fn made() -> &'static Made {
    static MADE: OnceLock<Made> = OnceLock::new();
    MADE.get_or_init(make)
}

fn make() -> Made {
    let machine = Machine::new();
    machine.run(&["vm", "create", "small", "--disk", "16 MiB", "--host", "sim"]).ok();
    let folder = machine.home().join("sim/datastore1");
    let flat = std::fs::OpenOptions::new().write(true).open(folder.join("small/small-flat.vmdk")).unwrap();
    // What does not pack, so that there is something to break off in.
    let mut noise = 0x9e37_79b9_7f4a_7c15_u64;
    let bytes = std::iter::repeat_with(|| {
        noise ^= noise << 13;
        noise ^= noise >> 7;
        noise ^= noise << 17;
        noise.to_le_bytes()
    });
    let bytes: Vec<u8> = bytes.take(2 << 17).flatten().collect();
    std::os::unix::fs::FileExt::write_all_at(&flat, &bytes, 1 << 20).unwrap();
    machine.run(&["vm", "export", "small", "out.ova", "--host", "sim"]).ok();
    let path = machine.project().join("out.ova");
    let (archive, parts) = (std::fs::read(&path).unwrap(), members(&path));
    Made { machine, archive, parts, disk: sum_of(&folder.join("small/small-flat.vmdk")) }
}

impl Made {
    fn packed(&self, parts: &[(String, Vec<u8>)]) -> Vec<u8> {
        let file = tempfile::NamedTempFile::new().unwrap();
        archive(file.path(), parts);
        std::fs::read(file.path()).unwrap()
    }

    fn part(&self, name: &str) -> usize {
        self.parts.iter().position(|(own, _)| own == name).unwrap()
    }

    /// With its manifest behind everything else.
    fn manifest_last(&self) -> Vec<(String, Vec<u8>)> {
        let mut parts = self.parts.clone();
        let manifest = parts.remove(self.part("small.mf"));
        parts.push(manifest);
        parts
    }

    fn import(&self, host: &Sim, url: &str, name: &str) -> Done {
        self.machine.on(host, &["vm", "import", url, name, "--output", "json"])
    }

    /// Whether nothing is there of a machine, on the host or its datastore.
    #[track_caller]
    fn left_nothing(&self, host: &Sim, done: &Done) {
        assert!(!done.err.contains("left behind"), "{done:?}");
        let machines: Vec<String> = host.server.machines().into_iter().map(|vm| vm.name).collect();
        assert_eq!(machines, ["debian-12"]);
        let listed = self.machine.on(host, &["datastore", "ls", "[datastore1]", "--output", "json"]).ok().json();
        assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
    }
}

/// A host with nothing on it but its template.
fn host() -> Sim {
    Sim::start(Options::default())
}

/// A server of one file under every name, served so.
fn server(file: Vec<u8>, serving: Serving) -> Server {
    Server::start(move |asked, to| give(&file, asked, to, &serving))
}

fn ranged() -> Serving {
    Serving { ranges: true, tag: Some("\"v1\"".to_owned()), ..Serving::default() }
}

/// The SHA-256 of the one disk of a machine on a simulator of this process.
fn disk_of(host: &Sim, name: &str) -> String {
    let mut whole = Sha256::new();
    (0..16).for_each(|piece| whole.update(host.server.read_disk(name, 0, piece << 20, 1 << 20).unwrap()));
    whole.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn an_appliance_is_fetched_from_servers_that_give_parts_and_from_those_that_do_not() {
    let made = made();
    let plain = Serving::default();
    let endless = Serving { endless: true, ..Serving::default() };
    let last = made.packed(&made.manifest_last());
    for (name, file, serving) in [
        ("ranged", &made.archive, ranged()),
        ("ranged, its manifest last", &last, ranged()),
        ("plain", &made.archive, plain.clone()),
        ("plain, its manifest last", &last, plain),
        ("of no told length", &made.archive, endless),
    ] {
        let (host, server) = (host(), server(file.clone(), serving));
        let done = made.import(&host, &server.url("/a/small.ova?token=0123456789abcdef"), "again").ok().json();
        assert_eq!(done["disks"][0]["thin"], true, "{name}: {done}");
        assert_eq!(disk_of(&host, "again"), made.disk, "{name}");
        assert!(done["nics"][0]["network"].is_string(), "{name}: {done}");
    }
    // The files of a descriptor lie beside it, each with the query that it was asked with.
    let files: BTreeMap<String, Vec<u8>> = made.parts.iter().cloned().collect();
    for without in ["none", "small.mf"] {
        let files = files.clone();
        let server = Server::start(move |asked, to| {
            let name = asked.path.strip_prefix("/a/").and_then(|name| name.strip_suffix("?token=0123456789abcdef"));
            match name.and_then(|name| files.get(name).filter(|_| name != without)) {
                Some(file) => give(file, asked, to, &Serving::default()),
                None => say(to, "404 Not Found", &[]),
            }
        });
        let host = host();
        made.import(&host, &server.url("/a/small.ovf?token=0123456789abcdef"), "again").ok();
        assert_eq!(disk_of(&host, "again"), made.disk);
    }
}

#[test]
fn a_certificate_is_verified() {
    let made = made();
    let file = made.archive.clone();
    let server = Server::start_tls(move |asked, to| give(&file, asked, to, &ranged()));
    let host = host();
    let done = made.import(&host, &server.url("/small.ova"), "again").failed(4, "web.certificate");
    made.left_nothing(&host, &done);
    let authority = made.machine.file("authority.pem", server.certificate.as_deref().unwrap());
    let mut variables = host.variables();
    variables.push(("SSL_CERT_FILE", authority.display().to_string()));
    let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    made.machine.run_with(&variables, &["vm", "import", &server.url("/small.ova"), "again"]).ok();
    assert_eq!(disk_of(&host, "again"), made.disk);
}

#[test]
fn what_breaks_off_goes_on_where_the_server_can_and_leaves_nothing_where_it_cannot() {
    let made = made();
    let half = made.archive.len() / 2;
    let cut = |serving: Serving| Serving { cut: Some(half), ..serving };
    let ranged_host = host();
    let ranged_server = server(made.archive.clone(), cut(ranged()));
    made.import(&ranged_host, &ranged_server.url("/small.ova"), "again").ok();
    assert_eq!(disk_of(&ranged_host, "again"), made.disk);
    let (host, plain) = (host(), server(made.archive.clone(), cut(Serving::default())));
    let done = made.import(&host, &plain.url("/small.ova?token=0123456789abcdef"), "again");
    assert!(!done.err.contains("0123456789abcdef"), "{done:?}");
    made.left_nothing(&host, &done.failed(4, "web.connection_lost"));
    // It is another file by the time it goes on.
    let file = made.archive.clone();
    let changing = Server::start(move |asked, to| {
        let late = asked.range.is_some_and(|(from, to)| from > 0 && to.is_none());
        let tag = Some(if late { "\"v2\"" } else { "\"v1\"" }.to_owned());
        give(&file, asked, to, &Serving { ranges: true, tag, cut: Some(half), ..Serving::default() })
    });
    let done = made.import(&host, &changing.url("/small.ova"), "again");
    assert!(done.code == 0 || done.err.contains("error[web.changed]"), "{done:?}");
}

#[test]
fn a_wrong_sum_is_found_on_the_way_and_nothing_stays() {
    let made = made();
    let (disk, descriptor) = (made.part("small-disk1.vmdk"), made.part("small.ovf"));
    for (member, at) in [(disk, 70_000), (disk, 20), (descriptor, 100)] {
        for last in [false, true] {
            let mut parts = if last { made.manifest_last() } else { made.parts.clone() };
            let name = made.parts[member].0.clone();
            let (_, bytes) = parts.iter_mut().find(|(own, _)| *own == name).unwrap();
            let at = at.min(bytes.len() - 1);
            bytes[at] ^= 1;
            let file = made.packed(&parts);
            for serving in [ranged(), Serving::default()] {
                // Where the sums come last, the host may have seen before that a disk is none.
                let late = last && !serving.ranges;
                let (host, told) = (host(), format!("{name} at {at}, last: {last}, {serving:?}"));
                let server = server(file.clone(), serving);
                let done = made.import(&host, &server.url("/small.ova"), "bad");
                let refused = late && done.err.contains("error[esxi.file_refused]");
                assert!(refused || done.code == 1 && done.err.contains("error[ova."), "{told}: {done:?}");
                made.left_nothing(&host, &done);
            }
        }
    }
}

#[test]
fn what_is_no_honest_appliance_is_refused_from_a_url_too() {
    let made = made();
    let mut missing = made.parts.clone();
    missing.remove(made.part("small-disk1.vmdk"));
    let mut extra = made.parts.clone();
    extra.push(("extra.bin".to_owned(), vec![1; 10]));
    let mut unsummed: Vec<(String, Vec<u8>)> =
        made.parts.iter().filter(|(name, _)| name != "small.mf").cloned().collect();
    let mut large = unsummed.clone();
    large.push(("extra.bin".to_owned(), vec![1; 5 << 20]));
    let text = String::from_utf8(unsummed[0].1.clone()).unwrap();
    unsummed[0].1 = text.replacen("ovf:href=\"small-disk1.vmdk\"", "ovf:href=\"../../etc/passwd\"", 1).into_bytes();
    let mut capacity = unsummed.clone();
    capacity[0].1 = text.replacen("ovf:capacity=\"", "ovf:capacity=\"9", 1).into_bytes();
    let mut link = made.packed(&made.parts);
    // The second header's kind becomes a link, and its sum what it must be then.
    let at = 512 + made.parts[0].1.len().next_multiple_of(512);
    link[at + 156] = b'2';
    link[at + 148..at + 156].fill(b' ');
    let total: u32 = link[at..at + 512].iter().map(|byte| u32::from(*byte)).sum();
    link[at + 148..at + 155].copy_from_slice(format!("{total:06o}\0").as_bytes());
    for (name, kind, before, file) in [
        ("a part is missing", "ova.invalid", true, made.packed(&missing)),
        ("no sum is for a part", "ova.sum", true, made.packed(&extra)),
        ("a name leads elsewhere", "ova.invalid", true, made.packed(&unsummed)),
        ("a disk is larger than it says", "ova.invalid", true, made.packed(&capacity)),
        ("a link", "ova.invalid", true, link),
        ("cut off", "ova.invalid", true, made.archive[..made.archive.len() / 2].to_vec()),
        ("junk", "ova.invalid", true, vec![0x5a; 4096]),
        ("nothing", "ova.invalid", true, Vec::new()),
        ("a large part that nothing names", "ova.invalid", false, made.packed(&large)),
    ] {
        for serving in [ranged(), Serving::default()] {
            let (host, ranges) = (host(), serving.ranges);
            if ranges && !before {
                // It is never fetched.
                continue;
            }
            let server = server(file.clone(), serving);
            let done = made.import(&host, &server.url("/small.ova"), "bad");
            assert!(done.code == 1 && done.err.contains(&format!("error[{kind}]")), "{name}, {ranges}: {done:?}");
            assert!(!ranges || host.calls("ImportVApp") == 0, "{name}: the host heard of it");
            made.left_nothing(&host, &done);
        }
    }
    // A member that says that it is endless, of a server that sends without an end.
    let mut bomb = made.packed(&unsummed[..0].iter().chain(&made.parts[..1]).cloned().collect::<Vec<_>>());
    bomb.truncate(bomb.len() - 1024);
    let mut header = tar::Header::new_gnu();
    header.set_path("small-disk1.vmdk").unwrap();
    header.set_size(1 << 60);
    header.set_cksum();
    bomb.extend_from_slice(header.as_bytes());
    let bomb = Arc::new(bomb);
    let server = Server::start(move |_: &Asked, to| {
        to.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
        to.write_all(&bomb)?;
        loop {
            to.write_all(&[0; 65536])?;
        }
    });
    let host = host();
    let done = made.import(&host, &server.url("/small.ova"), "bad");
    assert!(done.code == 1 && done.err.contains("error[ova.invalid]"), "{done:?}");
    made.left_nothing(&host, &done);
}

/// With another size for its disk, and sums that fit again where it is to have them.
fn with_size(made: &Made, size: u64, sums: Option<usize>) -> Vec<u8> {
    let mut parts = made.parts.clone();
    let text = String::from_utf8(parts[0].1.clone()).unwrap();
    let old = format!("ovf:size=\"{}\"", parts[made.part("small-disk1.vmdk")].1.len());
    assert!(text.contains(&old), "{text}");
    parts[0].1 = text.replacen(&old, &format!("ovf:size=\"{size}\""), 1).into_bytes();
    parts.retain(|(name, _)| name != "small.mf");
    if let Some(at) = sums {
        let sum = |bytes: &[u8]| Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let lines = parts.iter().map(|(name, bytes)| format!("SHA256({name})= {}\n", sum(bytes))).collect::<String>();
        parts.insert(at, ("small.mf".to_owned(), lines.into_bytes()));
    }
    made.packed(&parts)
}

#[test]
fn a_size_that_lies_needs_a_sum_from_a_url_too() {
    let made = made();
    let last = made.parts.len() - 1;
    for serving in [ranged(), Serving::default()] {
        let host = host();
        for (name, size, sums) in [("capacity", 16 << 20, None), ("first", 12345, Some(1)), ("last", 12345, Some(last))]
        {
            let server = server(with_size(made, size, sums), serving.clone());
            made.import(&host, &server.url("/small.ova"), name).ok();
            assert_eq!(disk_of(&host, name), made.disk);
        }
    }
    for serving in [ranged(), Serving::default()] {
        let host = host();
        let server = server(with_size(made, 12345, None), serving);
        let done = made.import(&host, &server.url("/small.ova"), "bad").failed(1, "ova.invalid");
        assert!(done.err.contains("no manifest has its sum"), "{done:?}");
        made.left_nothing(&host, &done);
    }
}

#[test]
fn an_import_from_a_url_that_the_host_ends_leaves_nothing() {
    let made = made();
    for serving in [ranged(), Serving::default()] {
        let (host, server) = (host(), server(made.archive.clone(), serving));
        for trouble in [Trouble::Cut(20_000), Trouble::Status(500)] {
            let rule = Rule { method: "PUT nfc".to_owned(), trouble, after: 0, times: None, chance: 1.0 };
            host.server.fault(rule).unwrap();
            let done = made.import(&host, &server.url("/small.ova"), "broken");
            assert_eq!(done.code, 4, "{done:?}");
            host.server.clear_faults();
            made.left_nothing(&host, &done);
        }
    }
}

#[test]
fn a_script_fetches_only_what_it_may_and_nothing_secret_is_told() {
    let made = made();
    let file = made.archive.clone();
    let server = Server::start(move |asked, to| match asked.path.as_str() {
        "/moved/small.ova" => say(to, "302 Found", &[("Location", "/elsewhere/small.ova?signature=0123456789abcdef")]),
        "/metadata.ova" => say(to, "302 Found", &[("Location", "http://169.254.169.254/small.ova")]),
        _ => give(&file, asked, to, &ranged()),
    });
    let base = server.url("");
    let run = |needs: &str, url: &str, arguments: &[&str]| {
        let script = format!(
            "return {{ needs = {{ vm = {{ read = \"*\", create = \"*\" }}, datastore = {{ read = \"*\", write = \"*\" }}, \
             network = {{ use = \"*\" }}, {needs} }}, run = function()\nlocal url = \"{url}\"\nesxi.connect():import({{ url = url, name = \"x\" }}) end }}\n"
        );
        made.machine.script(&script, arguments)
    };
    let url = format!("{base}/a/small.ova?signature=0123456789abcdef");
    let named = format!("web = {{ fetch = \"{base}/a/*\" }}");
    // Denied before anything is asked for.
    for (needs, arguments) in [
        (String::new(), &[][..]),
        (format!("web = {{ fetch = \"{base}/b/*\" }}"), &[]),
        ("web = { fetch = \"https://images.example.com/*\" }".to_owned(), &[]),
        (named.clone(), &["--mode", "restricted"]),
    ] {
        let done = run(&needs, &url, arguments);
        assert!(done.code == 3 && done.err.contains("error[door.denied]"), "{needs}: {done:?}");
        assert!(!done.err.contains("0123456789abcdef"), "{done:?}");
    }
    // This machine is not reached under a star, nor by a name.
    run("web = { fetch = \"*\" }", &url, &[]).failed(3, "door.network");
    let by_name = format!("http://localhost:{}/a/small.ova", server.address.port());
    run(&format!("web = {{ fetch = {{ \"*\", \"{by_name}\" }} }}"), &by_name, &[]).failed(3, "door.network");
    assert!(server.asked().is_empty(), "{:?}", server.asked());
    // A prefix that would name other hosts too is no selector.
    let wide = format!("web = {{ fetch = \"{}*\" }}", base.trim_end_matches(char::is_numeric));
    run(&wide, &url, &[]).failed(2, "usage.capability_table");
    // Where a redirect leads must be allowed as well.
    let moved = format!("{base}/moved/small.ova");
    let done = run(&format!("web = {{ fetch = \"{base}/moved/*\" }}"), &moved, &[]).failed(3, "door.denied");
    assert!(done.err.contains("/elsewhere/small.ova") && !done.err.contains("0123456789abcdef"), "{done:?}");
    let metadata = format!("{base}/metadata.ova");
    run(&format!("web = {{ fetch = {{ \"*\", \"{metadata}\" }} }}"), &metadata, &[]).failed(3, "door.network");
    let done = run(&named, &format!("https://user:hunter2@{}/a/small.ova", server.address), &[]);
    assert!(done.code == 2 && !done.err.contains("hunter2"), "{done:?}");
    run(&named, &url, &["--verbose"]).ok();
    run(&format!("web = {{ fetch = {{ \"{base}/moved/*\", \"{base}/elsewhere/*\" }} }}"), &moved, &[])
        .failed(4, "esxi.duplicate_name");
    // The record has what was fetched, and no signature.
    let record = std::fs::read_to_string(made.machine.home().join("audit.json")).unwrap();
    assert!(record.contains("/a/small.ova") && !record.contains("0123456789abcdef"));
    let both = "web = { fetch = \"*\" }, run = function() esxi.connect():import({ name = \"x\" }) end, unused = {";
    assert_ne!(run(both, &url, &[]).code, 0);
}
