//! The configuration, loaded from folders and variables that a test makes.

mod hosts;
mod layers;
mod project;
mod repositories;
mod secrets;

use std::fs;

use tempfile::TempDir;

use super::*;

/// A folder with a home, a project and a system file, and nothing of the real machine.
struct World {
    folder: TempDir,
    env: Vec<(String, String)>,
    flags: Vec<(&'static str, &'static str, String)>,
    host: Option<String>,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["etc", "home/.ceso", "home/work/project/deep"] {
            fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        Self { folder, env: Vec::new(), flags: Vec::new(), host: None }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn file(self, name: &str, text: &str) -> Self {
        fs::write(self.path(name), text).unwrap();
        self
    }

    fn user(self, text: &str) -> Self {
        self.file("home/.ceso/config.yaml", text)
    }

    fn hosts(self, text: &str) -> Self {
        self.file("home/.ceso/hosts.yaml", text)
    }

    fn project(self, text: &str) -> Self {
        self.file("home/work/project/ceso.yaml", text)
    }

    fn var(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    fn flag(mut self, flag: &'static str, path: &'static str, text: &str) -> Self {
        self.flags.push((flag, path, text.to_owned()));
        self
    }

    fn host(mut self, name: &str) -> Self {
        self.host = Some(name.to_owned());
        self
    }

    fn load(&self) -> Result<Config, Fault> {
        let home = ("HOME".to_owned(), self.path("home").display().to_string());
        let environment = self.env.iter().cloned().chain([home]).collect();
        let mut sources = Sources::new(environment, self.path("home/work/project/deep")).unwrap();
        sources.system_file = self.path("etc/config.yaml");
        for (flag, path, text) in &self.flags {
            sources = sources.flag(flag, path, text.clone());
        }
        Config::load(sources.host(self.host.clone()))
    }

    fn good(&self) -> Config {
        self.load().unwrap_or_else(|fault| panic!("{fault:?}"))
    }

    fn refused(&self, kind: &str, words: &[&str]) -> Fault {
        let fault = self.load().expect_err("must be refused");
        assert_eq!(fault.kind(), kind, "{fault:?}");
        for word in words {
            assert!(format!("{fault:?}").contains(word), "{word:?} is missing in {fault:?}");
        }
        assert!(fault.hint_text().is_some(), "{fault:?} has no hint");
        fault
    }
}

const LAB: &str = "hosts:\n  lab:\n    url: esx1\n    username: ops\n";
