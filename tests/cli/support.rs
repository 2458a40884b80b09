//! A user's machine in a temporary folder: a home, a project, no variables of the one who runs the tests.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};

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

    /// Writes a file into the project.
    pub fn file(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.project().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// Runs a script of this text on the simulator.
    pub fn script(&self, text: &str, arguments: &[&str]) -> Done {
        self.file("script.luau", text);
        let first = ["run", "--host", "sim", "script.luau"];
        self.run(&first.into_iter().chain(arguments.iter().copied()).collect::<Vec<_>>())
    }

    /// Runs a command against a host that is described by variables alone.
    pub fn on(&self, host: &Sim, arguments: &[&str]) -> Done {
        done(self.command(arguments).envs(host.variables()).output().unwrap())
    }

    /// Starts a command that a test watches, signals or kills; its standard error goes to a file.
    pub fn start(&self, variables: &[(&'static str, String)], arguments: &[&str]) -> Running {
        let errors = self.folder.path().join("errors");
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ceso"));
        command
            .env_clear()
            .env("HOME", self.folder.path().join("home"))
            .env("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent")
            .envs(variables.iter().cloned())
            .current_dir(self.project())
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&errors).unwrap());
        Running { child: command.spawn().unwrap(), errors }
    }

    pub fn run_with(&self, variables: &[(&str, &str)], arguments: &[&str]) -> Done {
        done(self.command(arguments).envs(variables.iter().copied()).output().unwrap())
    }
}

/// A command that runs.
pub struct Running {
    pub child: Child,
    errors: PathBuf,
}

impl Running {
    pub fn err(&self) -> String {
        fs::read_to_string(&self.errors).unwrap()
    }

    /// Waits until standard error holds a text.
    #[track_caller]
    pub fn says(&self, text: &str) {
        eventually(text, || self.err().contains(text));
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: kill takes two numbers; the child is not reaped before `end`.
        assert_eq!(unsafe { libc::kill(self.child.id() as i32, signal) }, 0);
    }

    /// The process of the script: the child of this one.
    pub fn worker(&self) -> i32 {
        let path = format!("/proc/{0}/task", self.child.id());
        let children = fs::read_dir(path).unwrap().flat_map(|task| {
            let text = fs::read_to_string(task.unwrap().path().join("children")).unwrap_or_default();
            text.split_whitespace().map(|pid| pid.parse::<i32>().unwrap()).collect::<Vec<_>>()
        });
        children.last().expect("a run has a worker")
    }

    /// The exit code, once it has ended.
    pub fn end(mut self) -> (i32, String) {
        let status = self.child.wait().unwrap();
        (status.code().unwrap_or(-1), self.err())
    }
}

#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..1200 {
        if holds() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("never came: {what}");
}

/// Whether a process still does anything; a zombie does not.
pub fn alive(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// A simulator on a socket in this process: it counts what it is asked.
pub struct Sim {
    pub server: ceso::sim::Server,
    pub runtime: tokio::runtime::Runtime,
}

impl Sim {
    pub fn start(options: ceso::sim::Options) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let server = runtime.block_on(ceso::sim::Server::start(options)).unwrap();
        Self { server, runtime }
    }

    pub fn variables(&self) -> Vec<(&'static str, String)> {
        vec![
            ("CESO_URL", self.server.url()),
            ("CESO_USERNAME", "root".to_owned()),
            ("CESO_PASSWORD", "ceso".to_owned()),
            ("CESO_FINGERPRINT", self.server.fingerprint().to_owned()),
        ]
    }

    /// How often a method was called.
    pub fn calls(&self, method: &str) -> u64 {
        self.server.requests().get(method).copied().unwrap_or_default()
    }
}

pub fn done(output: Output) -> Done {
    let text = |bytes| String::from_utf8(bytes).expect("what is printed is UTF-8");
    Done { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

impl Done {
    /// Standard output with each run of white space as one space: columns are as wide as their widest word.
    pub fn words(&self) -> String {
        self.out.split_whitespace().collect::<Vec<_>>().join(" ")
    }

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
