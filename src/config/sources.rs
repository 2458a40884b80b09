//! Where the layers come from: files, variables, flags. The only place of the room that asks the process for anything.
//!
//! Tests give every part by hand; [`Sources::of_this_process`] reads the real ones once, at the start of a command.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::files::{self, Guard};
use super::schema::{self, Anchor};
use super::values::ENVIRONMENT;
use super::yaml;
use crate::error::{Fault, nearest};

/// Where the administrator's file lies.
pub const SYSTEM_FILE: &str = "/etc/ceso/config.yaml";
/// The name of a project's file.
pub const PROJECT_FILE: &str = "ceso.yaml";

/// Variables that are no settings of a file, each with what it does.
pub const OTHER_VARIABLES: &[(&str, &str)] = &[
    ("CESO_HOME", "the folder of the user's files, instead of ~/.ceso"),
    ("CESO_PROJECT", "the project's folder or file, instead of a search; \"none\" for no project"),
    ("CESO_HOST", "the name of the host to use, like --host"),
    ("CESO_URL", "the address of a host that needs no file; it is named \"env\""),
    ("CESO_USERNAME", "the account for CESO_URL; \"root\" unless set"),
    ("CESO_PASSWORD", "the password for CESO_URL, or for the host that --host or CESO_HOST names"),
    ("CESO_FINGERPRINT", "the SHA-256 fingerprint of the certificate of CESO_URL"),
    ("CESO_DATACENTER", "the datacenter that is meant, where CESO_URL is a vCenter's address"),
    ("CESO_OUTPUT", "the form of results, like --output"),
    ("CESO_LOG", "what is logged, like --log: \"info\", or \"esxi=debug,door=info\" by room"),
    ("CESO_PEERS", "the folder of the peers that ceso's own tests use"),
    ("CESO_BLESS", "lets ceso's own tests rewrite the files that they compare with"),
];

/// The environment, taken once. Its values are never printed.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    pub fn of_this_process() -> Self {
        Self(std::env::vars_os().collect())
    }

    /// A variable as text; `None` where it is unset. An empty or a non-UTF-8 `CESO_` variable is a fault: a job that lost its
    /// environment must fail, not fall back.
    pub fn get(&self, name: &str) -> Result<Option<&str>, Fault> {
        let Some(value) = self.0.get(OsStr::new(name)) else { return Ok(None) };
        match value.to_str() {
            Some("") => Err(Fault::new("config.invalid", format!("the variable {name} is set but empty"))
                .hint(format!("give it a value, or `unset {name}`"))),
            Some(text) => Ok(Some(text)),
            None => Err(Fault::new("config.invalid", format!("the variable {name} is not UTF-8 text"))
                .hint("write it as UTF-8")),
        }
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.0.get(OsStr::new(name)).filter(|value| !value.is_empty()).map(PathBuf::from)
    }

    fn ours(&self) -> impl Iterator<Item = &str> {
        self.0.keys().filter_map(|name| name.to_str()).filter(|name| name.starts_with("CESO_"))
    }
}

impl<K: Into<OsString>, V: Into<OsString>> FromIterator<(K, V)> for Environment {
    fn from_iter<T: IntoIterator<Item = (K, V)>>(pairs: T) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Environment({} variables)", self.0.len())
    }
}

/// A variable's name and the layer that it makes.
pub type Variable = (String, Map<String, Value>);

/// A setting that a flag of the command line gives: `--mode restricted` is `security.mode`.
#[derive(Debug, Clone)]
pub struct Flag {
    /// The flag as it is typed: `--mode`.
    pub flag: String,
    /// The dotted path of the setting.
    pub path: String,
    pub text: String,
}

/// The places that a configuration is loaded from.
#[derive(Debug, Clone)]
pub struct Sources {
    /// The administrator's file; it may be missing.
    pub system_file: PathBuf,
    /// The user's folder of ceso (`CESO_HOME`, else `~/.ceso`).
    pub home: Home,
    /// The user's home folder: what `~/` means, and where the search for a project ends.
    pub user_home: Option<PathBuf>,
    pub current_dir: PathBuf,
    pub environment: Environment,
    pub flags: Vec<Flag>,
    /// The flag `--host`.
    pub host: Option<String>,
}

impl Sources {
    /// Takes the environment and the current folder of this process.
    ///
    /// Faults: `config.no_home` where neither `CESO_HOME` nor `HOME` is set, `config.unreadable` where the current folder is gone.
    pub fn of_this_process() -> Result<Self, Fault> {
        let environment = Environment::of_this_process();
        let current_dir = std::env::current_dir().map_err(|error| {
            Fault::new("config.unreadable", format!("the current folder cannot be read: {error}"))
                .hint("change to a folder that exists")
                .cause(error)
        })?;
        Self::new(environment, current_dir)
    }

    /// The ordinary places for an environment and a current folder.
    pub fn new(environment: Environment, current_dir: PathBuf) -> Result<Self, Fault> {
        environment.get("CESO_HOME")?;
        let user_home = environment.path("HOME").filter(|home| home.is_absolute());
        let home = match (environment.path("CESO_HOME"), &user_home) {
            (Some(home), _) => current_dir.join(home),
            (None, Some(home)) => home.join(".ceso"),
            (None, None) => {
                return Err(Fault::new("config.no_home", "there is no home folder: HOME is not set")
                    .hint("set CESO_HOME to the folder where ceso may keep its files"));
            }
        };
        Ok(Self {
            system_file: PathBuf::from(SYSTEM_FILE),
            home: Home(home),
            user_home,
            current_dir,
            environment,
            flags: Vec::new(),
            host: None,
        })
    }

    /// Adds a flag's value for a setting.
    pub fn flag(mut self, flag: &str, path: &str, text: impl Into<String>) -> Self {
        self.flags.push(Flag { flag: flag.to_owned(), path: path.to_owned(), text: text.into() });
        self
    }

    /// Names the host, as `--host` does.
    pub fn host(mut self, name: Option<String>) -> Self {
        self.host = name;
        self
    }

    /// The project's file: what `CESO_PROJECT` names, else the nearest `ceso.yaml` from the current folder upward.
    ///
    /// The search ends at the first of: a folder with a `ceso.yaml`, a folder that holds `.git`, the user's home folder, the root.
    pub fn project_file(&self) -> Result<Option<(PathBuf, Guard)>, Fault> {
        if let Some(named) = self.environment.get("CESO_PROJECT")? {
            if named == "none" {
                return Ok(None);
            }
            let path = self.current_dir.join(named);
            let file = if path.is_dir() { path.join(PROJECT_FILE) } else { path };
            if !file.exists() {
                return Err(Fault::new(
                    "config.unreadable",
                    format!("CESO_PROJECT names {}, which does not exist", file.display()),
                )
                .hint("name the project's folder, or \"none\""));
            }
            return Ok(Some((file, Guard::Any)));
        }
        for folder in self.current_dir.ancestors() {
            let file = folder.join(PROJECT_FILE);
            if file.symlink_metadata().is_ok() {
                stays_inside(&file, folder)?;
                return Ok(Some((file, Guard::Owned)));
            }
            if folder.join(".git").symlink_metadata().is_ok() || Some(folder) == self.user_home.as_deref() {
                break;
            }
        }
        Ok(None)
    }

    /// Reads one file as a checked layer; `None` where there is none.
    pub fn file(&self, path: &Path, guard: Guard) -> Result<Option<Map<String, Value>>, Fault> {
        let Some(bytes) = files::read(path, yaml::MAX_BYTES, guard)? else { return Ok(None) };
        let place = path.display().to_string();
        let anchor = self.anchor(path.parent().unwrap_or(Path::new("/")));
        schema::check(yaml::parse(&bytes, &place)?, &place, &anchor).map(Some)
    }

    /// The layers of the environment, one for each variable, so that each value knows its own.
    pub fn variables(&self) -> Result<Vec<Variable>, Fault> {
        let known = settings_variables();
        let mut layers = Vec::new();
        for name in self.environment.ours() {
            if OTHER_VARIABLES.iter().any(|(other, _)| *other == name) {
                continue;
            }
            let Some(path) = known.get(name) else { return Err(unknown_variable(name, &known)) };
            let Some(text) = self.environment.get(name)? else { continue };
            layers.push((name.to_owned(), self.setting(path, text, &format!("the variable {name}"))?));
        }
        if let Some(host) = self.environment.get("CESO_HOST")? {
            layers.push(("CESO_HOST".to_owned(), self.setting("default_host", host, "the variable CESO_HOST")?));
        }
        layers.extend(self.environment_host()?);
        Ok(layers)
    }

    fn environment_host(&self) -> Result<Vec<Variable>, Fault> {
        let url = self.environment.get("CESO_URL")?;
        let mut layers = Vec::new();
        for (name, key) in [
            ("CESO_URL", "url"),
            ("CESO_USERNAME", "username"),
            ("CESO_FINGERPRINT", "trust"),
            ("CESO_DATACENTER", "datacenter"),
        ] {
            let Some(text) = self.environment.get(name)? else { continue };
            if url.is_none() {
                return Err(Fault::new("config.invalid", format!("{name} is set, but CESO_URL is not"))
                    .hint(format!("{name} describes the host of CESO_URL; set both, or unset it")));
            }
            let value = if key == "trust" { json!({ "fingerprint": text }) } else { json!(text) };
            let layer = json!({ "hosts": { ENVIRONMENT: { key: value } } });
            let Value::Object(layer) = layer else { continue };
            let place = format!("the variable {name}");
            layers.push((name.to_owned(), schema::check(layer, &place, &self.anchor(&self.current_dir))?));
        }
        Ok(layers)
    }

    /// The layer of one setting that is given as text.
    pub fn setting(&self, path: &str, text: &str, place: &str) -> Result<Map<String, Value>, Fault> {
        let leaf = schema::leaf(path)
            .ok_or_else(|| Fault::new("config.unknown_key", format!("{place}: the setting {path:?} is not known")))?;
        let value = schema::from_text(text, leaf);
        let nested = path.rsplit('.').fold(value, |value, key| json!({ key: value }));
        let Value::Object(layer) = nested else { return Ok(Map::new()) };
        schema::check(layer, place, &self.anchor(&self.current_dir))
    }

    fn anchor(&self, folder: &Path) -> Anchor {
        Anchor { folder: folder.to_owned(), home: self.user_home.clone() }
    }
}

/// The variables of settings. `default_host` has `CESO_HOST` instead.
pub fn settings_variables() -> BTreeMap<String, String> {
    let mut variables = schema::variables();
    variables.remove("CESO_DEFAULT_HOST");
    variables
}

/// A cloned project could link its file to one of the user's secrets, and the error about it would print a line of that.
fn stays_inside(file: &Path, folder: &Path) -> Result<(), Fault> {
    let (Ok(real), Ok(folder)) = (file.canonicalize(), folder.canonicalize()) else { return Ok(()) };
    if real.starts_with(folder) {
        return Ok(());
    }
    Err(Fault::new(
        "config.untrusted_file",
        format!("{} is a link out of the project's folder, so it is not used", file.display()),
    )
    .hint("put the file itself there, or name the one that you mean with CESO_PROJECT"))
}

fn unknown_variable(name: &str, known: &BTreeMap<String, String>) -> Fault {
    let names = known.keys().map(String::as_str).chain(OTHER_VARIABLES.iter().map(|(name, _)| *name));
    let shown = super::printable(name);
    let fault = Fault::new("config.unknown_variable", format!("the variable {shown} is not known to ceso"));
    match nearest(name, names).first() {
        Some(best) => fault.hint(format!("did you mean {best}? Else `unset {shown}`")),
        None => {
            fault.hint(format!("`unset {shown}`; a setting's variable is CESO_SECTION_KEY, such as CESO_SECURITY_MODE"))
        }
    }
}

/// The user's folder of ceso and what lies where in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home(pub PathBuf);

impl Home {
    /// `config.yaml`: written by hand.
    pub fn config_file(&self) -> PathBuf {
        self.0.join("config.yaml")
    }

    /// `hosts.yaml`: written by `ceso host`.
    pub fn hosts_file(&self) -> PathBuf {
        self.0.join("hosts.yaml")
    }

    /// `sessions/`: what the client keeps to stay logged in between commands.
    pub fn sessions(&self) -> PathBuf {
        self.0.join("sessions")
    }

    /// `runs/`: a file for each run that is under way.
    pub fn runs(&self) -> PathBuf {
        self.0.join("runs")
    }

    /// `passwords/`: files of `ceso host add --store file`.
    pub fn passwords(&self) -> PathBuf {
        self.0.join("passwords")
    }

    /// `sim/`: the state of the host named `sim`.
    pub fn simulator(&self) -> PathBuf {
        self.0.join("sim")
    }

    /// `workflows/`: the user's own commands.
    pub fn workflows(&self) -> PathBuf {
        self.0.join("workflows")
    }

    /// `repl_history`: what was typed into the REPL.
    pub fn history(&self) -> PathBuf {
        self.0.join("repl_history")
    }

    /// `cache/repositories/`: what was learned of each repository; it may be removed.
    pub fn repository_cache(&self) -> PathBuf {
        self.0.join("cache").join("repositories")
    }

    /// `catalog.redb`: what runs know of backups, machines and hosts.
    pub fn catalog(&self) -> PathBuf {
        self.0.join("catalog.redb")
    }

    /// `audit.json`: the record of operations where the settings name no other file.
    pub fn audit_log(&self) -> PathBuf {
        self.0.join("audit.json")
    }
}
