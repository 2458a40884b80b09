//! The real cloud-init, in the versions that documents are held against: Debian's installed one, and the newest that `tests/peers/prepare` unpacked.
//!
//! A test runs over [`EACH`]. Python scripts lie beside this file and take JSON on standard input.

use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::cases;

/// One version of cloud-init.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloudInit {
    /// Debian 12's package, as installed (22.4).
    Debian,
    /// The newest release, unpacked into `cloud-init-new` in the peers' folder.
    Newest,
}

pub const EACH: [CloudInit; 2] = [CloudInit::Debian, CloudInit::Newest];

impl fmt::Display for CloudInit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Debian => "Debian's cloud-init",
            Self::Newest => "the newest cloud-init",
        })
    }
}

impl CloudInit {
    /// The system's Python, where `import cloudinit` gives this version: add a script and its arguments, or `-m cloudinit.cmd.main` for the
    /// program itself.
    pub fn python(self) -> Command {
        let mut command = Command::new("/usr/bin/python3");
        command.env_remove("PYTHONPATH").env("PYTHONDONTWRITEBYTECODE", "1");
        if self == Self::Newest {
            let packages = newest().join("usr/lib/python3/dist-packages");
            assert!(packages.is_dir(), "{} is missing: run tests/peers/prepare, or set CESO_PEERS", packages.display());
            command.env("PYTHONPATH", packages);
        }
        command
    }

    /// Runs a script of this folder: JSON in, JSON out.
    pub fn run(self, script: &str, arguments: &[&str], input: &Value) -> Value {
        let mut child = self
            .python()
            .arg(cases::folder(script))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("/usr/bin/python3 with cloud-init (tests/peers/prepare installs it)");
        let mut stdin = child.stdin.take().unwrap();
        let text = input.to_string();
        let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap().ok();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{self}, {script} {arguments:?}: {errors}");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{self}, {script}: {error}: {errors}"))
    }
}

/// Where `tests/peers/prepare` unpacks the newest cloud-init.
fn newest() -> PathBuf {
    std::env::var_os("CESO_PEERS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers"), PathBuf::from)
        .join("cloud-init-new")
}
