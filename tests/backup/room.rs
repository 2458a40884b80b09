//! A restore to a disk that is too small, on a file system of its own.

use std::path::Path;
use std::process::{Command, Output};

fn ceso(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ceso"));
    command.current_dir(home).env_clear().env("HOME", home).env("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent");
    command
}

/// Restores the latest backup into a file system in memory of so many KiB, and tells what is left in it.
fn restored(home: &Path, kib: u32, more: &str) -> Output {
    let script = format!(
        "mkdir -p small && mount -t tmpfs -o size={kib}k none small && \"$0\" disk restore latest small/disk {more} \
         --repository ./kept; code=$?; ls -A small; exit $code"
    );
    let ceso = env!("CARGO_BIN_EXE_ceso");
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script, ceso]).current_dir(home);
    command.env("HOME", home).env("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent").output().unwrap()
}

#[test]
#[ignore = "needs unshare"]
fn unshare_a_restore_without_room_writes_nothing_and_says_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    // 3 MiB that do not compress, and a hole of 61.
    let mut state = 1u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let noise: Vec<u8> = (0..3 << 17).flat_map(|_| next()).collect();
    std::fs::write(home.join("disk.img"), noise).unwrap();
    std::fs::File::options().write(true).open(home.join("disk.img")).unwrap().set_len(64 << 20).unwrap();
    for words in
        [&["repository", "init", "./kept", "--plain"][..], &["disk", "backup", "disk.img", "--repository", "./kept"]]
    {
        assert!(ceso(home).args(words).status().unwrap().success());
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let refused = restored(home, 1024, "");
    let said = text(&refused.stderr);
    assert!(!refused.status.success() && said.contains("backup.no_room") && said.contains("are missing"), "{said}");
    assert!(!said.contains("make room there") && text(&refused.stdout).is_empty(), "{said} {}", text(&refused.stdout));
    // Holes need none.
    let fits = restored(home, 4096, "");
    assert!(fits.status.success() && text(&fits.stdout).contains("disk"), "{}", text(&fits.stderr));
    // What cannot be foreseen is told by its place as well, and leaves nothing.
    let stream = restored(home, 1024, "--format vmdk");
    let said = text(&stream.stderr);
    assert!(!stream.status.success() && said.contains("backup.no_room") && text(&stream.stdout).is_empty(), "{said}");
}
