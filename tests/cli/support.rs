//! A user's machine in a temporary folder: a home, a project, no variables of the one who runs the tests.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;

use assert_cmd::Command;

pub struct Machine {
    folder: tempfile::TempDir,
}

/// What a command left: its exit code and its two streams.
#[derive(Debug)]
pub struct Done {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Machine {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("home/.ceso")).unwrap();
        fs::create_dir_all(folder.path().join("home/project")).unwrap();
        Self { folder }
    }

    pub fn home(&self) -> PathBuf {
        self.folder.path().join("home/.ceso")
    }

    pub fn project(&self) -> PathBuf {
        self.folder.path().join("home/project")
    }

    /// Writes `~/.ceso/config.yaml`.
    pub fn user(self, text: impl AsRef<[u8]>) -> Self {
        fs::write(self.home().join("config.yaml"), text).unwrap();
        self
    }

    /// Writes the project's `ceso.yaml`.
    pub fn with_project(self, text: impl AsRef<[u8]>) -> Self {
        fs::write(self.project().join("ceso.yaml"), text).unwrap();
        self
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ceso"));
        command
            .env_clear()
            .env("HOME", self.folder.path().join("home"))
            .env("PATH", "/usr/bin:/bin")
            // No keyring of whoever runs the tests: nobody listens there.
            .env("DBUS_SESSION_BUS_ADDRESS", format!("unix:path={}", self.folder.path().join("no-bus").display()))
            .env("XDG_RUNTIME_DIR", self.folder.path())
            .current_dir(self.project())
            .timeout(std::time::Duration::from_secs(60))
            .args(arguments);
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Done {
        done(self.command(arguments).output().unwrap())
    }

    pub fn run_with(&self, variables: &[(&str, &str)], arguments: &[&str]) -> Done {
        done(self.command(arguments).envs(variables.iter().copied()).output().unwrap())
    }
}

pub fn done(output: Output) -> Done {
    let text = |bytes| String::from_utf8(bytes).expect("what is printed is UTF-8");
    Done { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

impl Done {
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }

    /// Failed with that code and kind, with one error, a hint, and no panic.
    #[track_caller]
    pub fn failed(self, code: i32, kind: &str) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        assert!(self.err.contains(&format!("error[{kind}]")), "{self:?}");
        assert!(self.err.contains("hint: ") && !self.err.contains("panicked"), "{self:?}");
        assert_eq!(self.err.matches("error[").count(), 1, "{self:?}");
        self
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

pub fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}
