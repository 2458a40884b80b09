//! Files and disks of a datastore through the client, on the simulator: what breaks off, what is full, what is held, what is hostile.
#![allow(clippy::disallowed_methods)]

use std::io::{Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use ceso::esxi::checked::Checked;
use ceso::esxi::{
    Content, Datastore, Error, FilePath, Had, Host, Landing, Provisioning, Search, Sum, Transferred, silent,
};
use ceso::sim::{Options, Rule, Server, Trouble};
use ceso::units::Bytes;
use sha2::{Digest, Sha256};

use crate::client_on_sim::{checked, named, start};

pub struct Store {
    pub server: Server,
    pub host: Host,
    pub store: Checked<Datastore>,
}

impl Store {
    pub async fn start(options: Options) -> Self {
        let (server, host) = start(options).await;
        let store = checked(host.lookup_datastores().await.unwrap().remove(0));
        Self { server, host, store }
    }

    fn trouble(&self, method: &str, trouble: Trouble, after: u64, times: u64) {
        let rule = Rule { method: method.to_owned(), trouble, after, times: Some(times), chance: 1.0 };
        self.server.fault(rule).unwrap();
    }

    pub async fn upload(&self, path: &str, content: &[u8]) -> Result<Transferred, Error> {
        let held: Arc<[u8]> = content.into();
        let open =
            move || -> std::io::Result<Box<dyn Read + Send>> { Ok(Box::new(std::io::Cursor::new(held.clone()))) };
        let content = Content { length: content.len() as u64, open: &open, sum: Sum::Told };
        self.host.upload(&self.store, &at(path), content, &silent).await
    }

    async fn download(&self, path: &str) -> Result<(Transferred, Vec<u8>), Error> {
        let came = Shared::default();
        let sink = Box::new(came.clone());
        let of = Some(self.host.file_state(&self.store, &at(path)).await?);
        let had = Had { of, wanted: Sum::Told, ..Had::default() };
        let done = self.host.download(&self.store, &at(path), had, sink, &silent).await?;
        let bytes = came.0.lock().unwrap().clone();
        Ok((done, bytes))
    }

    async fn names(&self, folder: &str) -> Vec<String> {
        let rows = self.host.browse(&self.store, &at(folder), Search::default()).await.unwrap();
        rows.into_iter().map(|row| row.path).collect()
    }

    async fn copy(&self, from: &str, to: &str) -> Result<(), Error> {
        self.host.copy_path((&self.store, &at(from)), (&self.store, &at(to)), &silent).await
    }

    async fn mv(&self, from: &str, to: &str) -> Result<(), Error> {
        self.host.move_path((&self.store, &at(from)), (&self.store, &at(to)), &silent).await
    }

    async fn delete(&self, path: &str) -> Result<(), Error> {
        self.host.delete_path(&self.store, &at(path), &silent).await
    }

    async fn disk(&self, path: &str, size: u64) {
        self.host.create_disk(&self.store, &at(path), Bytes(size), Provisioning::Thin, &silent).await.unwrap();
    }
}

pub fn at(path: &str) -> FilePath {
    FilePath::parse(path).unwrap()
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, piece: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Landing for Shared {
    fn begin_anew(&mut self) -> std::io::Result<()> {
        self.0.lock().unwrap().clear();
        Ok(())
    }
}

/// Bytes that look random and are the same in each run.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&(state ^ (state >> 29)).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn sum(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_goes_there_and_back_and_never_over_another() {
    let store = Store::start(Options::default()).await;
    let content = noise(3 << 20);
    let sent = store.upload("tools.iso", &content).await.unwrap();
    assert_eq!((sent.bytes, sent.sha256, sent.resumed), (3 << 20, Some(sum(&content)), 0));
    let (came, bytes) = store.download("tools.iso").await.unwrap();
    assert_eq!((came.sha256, came.resumed), (sent.sha256, 0));
    assert!(bytes == content);
    assert_eq!(store.upload("tools.iso", b"other").await.unwrap_err().kind(), "esxi.file_already_exists");
    assert_eq!(store.upload("none/tools.iso", b"other").await.unwrap_err().kind(), "esxi.file_not_found");
    store.upload("empty é % #?.txt".replace('?', "").as_str(), b"").await.unwrap();
    assert_eq!(store.download("empty é % #.txt").await.unwrap().1, b"");
    assert_eq!(store.download("none").await.unwrap_err().kind(), "esxi.file_not_found");
    assert_eq!(store.names("").await, ["debian-12", "empty é % #.txt", "tools.iso"]);
    assert_eq!(
        store.host.read_small(&store.store, &at("tools.iso"), 1 << 20).await.unwrap_err().kind(),
        "esxi.invalid_argument"
    );
    store.server.stop().await;
}

/// A host with a file of its own, whose last change was a while ago.
async fn with_old_file(options: Options, content: &[u8]) -> (Store, tempfile::TempDir) {
    let state = tempfile::tempdir().unwrap();
    let store = Store::start(Options { state: Some(state.path().to_owned()), ..options }).await;
    put(state.path(), content, 3600);
    (store, state)
}

fn put(state: &Path, content: &[u8], age: u64) {
    let path = state.join("datastore1/a.iso");
    std::fs::write(&path, content).unwrap();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_breaks_off_goes_on_where_it_was_with_and_without_ranges() {
    let content = noise(3 << 20);
    for (ranges, dates) in [(true, false), (true, true), (false, false)] {
        let (store, _state) = with_old_file(Options { ranges, dates, ..Options::default() }, &content).await;
        store.trouble("GET folder", Trouble::Cut(700_000), 0, 1);
        store.trouble("GET folder", Trouble::Cut(2_000_000), 0, 1);
        store.trouble("GET folder", Trouble::Status(503), 0, 1);
        if ranges {
            // From its beginning it does not come through any more.
            store.trouble("GET folder", Trouble::Cut(1_000_000), 0, 99);
        }
        let (came, bytes) = store.download("a.iso").await.unwrap();
        assert!(bytes == content && came.sha256 == Some(sum(&content)), "ranges {ranges}");
        assert!(came.resumed >= 2, "ranges {ranges}: {}", came.resumed);
        store.server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_breaks_off_does_not_go_on_behind_another_file_of_the_same_length() {
    let (old, new) = (noise(2 << 20), vec![7; 2 << 20]);
    for dates in [false, true] {
        let (store, state) = with_old_file(Options { dates, ..Options::default() }, &old).await;
        store.trouble("GET folder", Trouble::Cut(1 << 20), 0, 1);
        // It is changed while nothing comes.
        store.trouble("HEAD folder", Trouble::Delay(Duration::from_millis(500)), 1, 1);
        let changing = async {
            while !store.server.requests().contains_key("GET folder") {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            tokio::time::sleep(Duration::from_millis(150)).await;
            put(state.path(), &new, 1800);
        };
        let ((), got) = tokio::join!(changing, store.download("a.iso"));
        assert_eq!(got.map(drop).unwrap_err().kind(), "esxi.file_changed", "dates {dates}");
        store.server.stop().await;
    }
    // Where the host says nothing of its state, all of it comes anew.
    let (store, _state) = with_old_file(Options::default(), &old).await;
    let refusal = Trouble::Fault { kind: "NoPermission".to_owned(), message: None };
    store.trouble("SearchDatastore_Task", refusal, 0, 9);
    store.trouble("GET folder", Trouble::Cut(1 << 20), 0, 1);
    let before = store.host.traffic().bytes_received;
    assert!(store.download("a.iso").await.unwrap().1 == old);
    let came = store.host.traffic().bytes_received - before;
    // Most of what was cut off, and then the whole.
    assert!(came >= (1 << 19) + (2 << 20), "{came}");
    store.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_under_a_download_is_never_put_together_from_two() {
    let store = Store::start(Options { ranges: false, ..Options::default() }).await;
    store.upload("a.iso", &noise(2 << 20)).await.unwrap();
    store.trouble("GET folder", Trouble::Cut(1 << 20), 0, 1);
    store.trouble("GET folder", Trouble::Delay(Duration::from_millis(300)), 0, 1);
    let (changed, got) = tokio::join!(
        async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            store.delete("a.iso").await.unwrap();
            store.upload("a.iso", &vec![7; 2 << 20]).await
        },
        async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            store.download("a.iso").await
        }
    );
    changed.unwrap();
    // Either it had come whole before, or it is an error.
    match got {
        Ok((_, bytes)) => assert!(bytes == noise(2 << 20) || bytes == vec![7; 2 << 20]),
        Err(error) => assert!(["esxi.file_changed", "esxi.file_not_found"].contains(&error.kind().as_str()), "{error}"),
    }
    store.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_breaks_off_leaves_nothing() {
    let store = Store::start(Options::default()).await;
    let content = noise(2 << 20);
    for trouble in [Trouble::Cut(500_000), Trouble::Status(500), Trouble::Drop, Trouble::DropAnswer] {
        store.trouble("PUT folder", trouble.clone(), 0, 2);
        let error = store.upload("a.iso", &content).await.unwrap_err();
        assert!(!error.to_string().contains("Left behind"), "{trouble:?}: {error}");
        assert_eq!(store.names("").await, ["debian-12"], "{trouble:?}");
        store.server.clear_faults();
    }
    // It is tried once more.
    store.trouble("PUT folder", Trouble::Cut(500_000), 0, 1);
    assert_eq!(store.upload("twice.iso", &content).await.unwrap().resumed, 1);
    // A session that ends is renewed, and the upload made anew.
    store.trouble("PUT folder", Trouble::Expire, 0, 1);
    store.upload("a.iso", &content).await.unwrap();
    assert!(store.download("a.iso").await.unwrap().1 == content);
    // The answer to the last step is lost: what the host did is looked for.
    store.trouble("MoveDatastoreFile_Task", Trouble::DropAnswer, 0, 1);
    match store.upload("b.iso", &content).await {
        Ok(sent) => assert_eq!(sent.sha256, Some(sum(&content))),
        Err(error) => assert!(error.outcome_unknown(), "{error}"),
    }
    store.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_cannot_be_read_is_an_error_of_this_machine() {
    let store = Store::start(Options::default()).await;
    let open = || -> std::io::Result<Box<dyn Read + Send>> { Ok(Box::new(std::io::Cursor::new(vec![1; 1000]))) };
    let content = Content { length: 2000, open: &open, sum: Sum::No };
    let error = store.host.upload(&store.store, &at("a"), content, &silent).await.unwrap_err();
    assert_eq!(error.kind(), "local.file", "{error}");
    assert_eq!(store.names("").await, ["debian-12"]);
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::Error::from(std::io::ErrorKind::StorageFull))
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    impl Landing for Full {
        fn begin_anew(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    store.upload("b", &noise(1 << 20)).await.unwrap();
    let got = store.host.download(&store.store, &at("b"), Had::default(), Box::new(Full), &silent).await;
    assert_eq!(got.map(|_| ()).unwrap_err().kind(), "local.file");
    store.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_datastore_says_how_much_is_missing_and_keeps_nothing() {
    let store = Store::start(Options { capacity: Some(8 << 20), ..Options::default() }).await;
    let error = store.upload("a.iso", &noise(9 << 20)).await.unwrap_err();
    assert_eq!(error.kind(), "esxi.no_disk_space");
    assert!(error.to_string().contains("are missing"), "{error}");
    assert_eq!(store.server.requests().get("PUT folder"), None, "nothing was sent");
    store.upload("a.iso", &noise(5 << 20)).await.unwrap();
    let made = store.host.create_disk(&store.store, &at("d.vmdk"), Bytes(64 << 20), Provisioning::Thick, &silent).await;
    let error = made.unwrap_err();
    assert!(error.kind() == "esxi.no_disk_space" && error.to_string().contains("MiB are missing"), "{error}");
    store.disk("thin.vmdk", 64 << 20).await;
    let error = store.host.inflate_disk(&store.store, &at("thin.vmdk"), &silent).await.unwrap_err();
    assert!(error.kind() == "esxi.no_disk_space" && error.to_string().contains("are missing"), "{error}");
    assert_eq!(store.copy("a.iso", "b.iso").await.unwrap_err().kind(), "esxi.no_disk_space");
    // It fills while the upload is under way.
    store.server.set_capacity(None);
    store.trouble("PUT folder", Trouble::Status(507), 0, 1);
    assert_eq!(store.upload("c.iso", &noise(1 << 20)).await.unwrap_err().kind(), "esxi.no_disk_space");
    assert_eq!(store.names("").await, ["a.iso", "debian-12", "thin-flat.vmdk", "thin.vmdk"]);
    store.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_folders_and_disks_are_copied_moved_and_deleted() {
    let store = Store::start(Options::default()).await;
    store.host.make_directory(&store.store, &at("a"), false).await.unwrap();
    let again = store.host.make_directory(&store.store, &at("a"), false).await.unwrap_err();
    assert_eq!(again.kind(), "esxi.file_already_exists");
    assert_eq!(
        store.host.make_directory(&store.store, &at("x/y"), false).await.unwrap_err().kind(),
        "esxi.file_not_found"
    );
    store.host.make_directory(&store.store, &at("x/y"), true).await.unwrap();
    store.upload("a/one.txt", b"one").await.unwrap();
    store.copy("a", "b").await.unwrap();
    store.copy("a/one.txt", "b/two.txt").await.unwrap();
    assert_eq!(store.copy("a/one.txt", "b/two.txt").await.unwrap_err().kind(), "esxi.file_already_exists");
    assert_eq!(store.mv("a/one.txt", "b/two.txt").await.unwrap_err().kind(), "esxi.file_already_exists");
    store.mv("b/two.txt", "x/y/three.txt").await.unwrap();
    assert_eq!(
        (store.names("b").await, store.names("x/y").await),
        (vec!["b/one.txt".to_owned()], vec!["x/y/three.txt".to_owned()])
    );
    let all = store
        .host
        .browse(&store.store, &FilePath::root(), Search { pattern: Some("*.txt"), deep: true })
        .await
        .unwrap();
    let all: Vec<&str> = all.iter().map(|row| row.path.as_str()).collect();
    assert_eq!(all, ["a/one.txt", "b/one.txt", "x/y/three.txt"]);
    // A disk is two files, and they go together.
    store.disk("a/d.vmdk", 32 << 20).await;
    store.copy("a/d.vmdk", "b/d.vmdk").await.unwrap();
    store.mv("b/d.vmdk", "x/e.vmdk").await.unwrap();
    assert_eq!(store.names("x").await, ["x/e-flat.vmdk", "x/e.vmdk", "x/y"]);
    let info = store.host.disk_info(&store.store, &at("x/e.vmdk")).await.unwrap();
    assert_eq!((info.disk.capacity, info.disk.thin), (Some(Bytes(32 << 20)), Some(true)));
    assert!(info.uuid.is_some_and(|uuid| uuid.len() >= 32));
    for refused in [
        store.delete("x/e-flat.vmdk").await,
        store.copy("x/e-flat.vmdk", "y.vmdk").await,
        store.copy("x/e.vmdk", "e.txt").await,
    ] {
        assert_eq!(refused.unwrap_err().kind(), "esxi.invalid_argument");
    }
    store.host.extend_disk(&store.store, &at("x/e.vmdk"), Bytes(64 << 20), &silent).await.unwrap();
    for smaller in [64 << 20, 32 << 20, 1] {
        let error = store.host.extend_disk(&store.store, &at("x/e.vmdk"), Bytes(smaller), &silent).await.unwrap_err();
        assert_eq!(error.kind(), "esxi.invalid_argument");
    }
    store.host.inflate_disk(&store.store, &at("x/e.vmdk"), &silent).await.unwrap();
    let copied = (&store.store, &at("thin.vmdk"));
    let (from, form) = (at("x/e.vmdk"), Some(Provisioning::Thin));
    store.host.copy_disk_file((&store.store, &from), copied, form, &silent).await.unwrap();
    let info = store.host.disk_info(&store.store, &at("thin.vmdk")).await.unwrap();
    assert_eq!((info.disk.capacity, info.disk.thin), (Some(Bytes(64 << 20)), Some(true)));
    store.delete("x").await.unwrap();
    store.delete("thin.vmdk").await.unwrap();
    assert_eq!(store.delete("x").await.unwrap_err().kind(), "esxi.file_not_found");
    assert_eq!(store.names("").await, ["a", "b", "debian-12"]);
    // What is called a disk and is none goes too.
    store.upload("fake.vmdk", b"KDMV").await.unwrap();
    store.delete("fake.vmdk").await.unwrap();
    store.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_machine_is_made_of_is_neither_moved_nor_deleted() {
    let store = Store::start(Options { vms: 2, ..Options::default() }).await;
    for path in ["debian-12", "debian-12/debian-12.vmx", "debian-12/debian-12.vmdk", "vm-0001", "vm-0002"] {
        for refused in [store.delete(path).await, store.mv(path, "elsewhere").await] {
            let error = refused.unwrap_err();
            assert_eq!(error.kind(), "esxi.in_use", "{path}: {error}");
        }
    }
    assert!(store.delete("debian-12").await.unwrap_err().to_string().contains("debian-12"));
    // What lies beside is nobody's.
    store.upload("debian-12/notes.txt", b"x").await.unwrap();
    store.delete("debian-12/notes.txt").await.unwrap();
    let vm = named(&store.host, "debian-12").await;
    // What is in a drive is in use, plugged in or not, and so is its folder.
    store.host.make_directory(&store.store, &at("isos"), false).await.unwrap();
    store.upload("isos/a.iso", b"an image").await.unwrap();
    store.host.insert_image(&vm, None, (&store.store, &at("isos/a.iso")), &silent).await.unwrap();
    let drive = store.host.vm_info(&vm).await.unwrap().hardware.drives.remove(0);
    store.host.connect_drive(&vm, &drive, false, &silent).await.unwrap();
    for path in ["isos/a.iso", "isos"] {
        let error = store.delete(path).await.unwrap_err();
        assert!(error.kind() == "esxi.in_use" && error.to_string().contains("\"debian-12\""), "{path}: {error}");
    }
    store.host.eject_image(&vm, &drive, &silent).await.unwrap();
    store.delete("isos").await.unwrap();
    store.host.power_on(&vm, &silent).await.unwrap();
    let error = store.copy("debian-12/debian-12.vmdk", "copy.vmdk").await.unwrap_err();
    assert_eq!(error.kind(), "esxi.file_locked", "{error}");
    let error = store.download("debian-12/debian-12-flat.vmdk").await.map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), "esxi.file_refused", "{error}");
    store.server.stop().await;
}
