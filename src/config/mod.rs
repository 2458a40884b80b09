//! The configuration: layers of YAML, variables and flags, put together once at the start of a command.
//!
//! From weak to strong: built-in defaults, `/etc/ceso/config.yaml`, `~/.ceso/config.yaml` with `~/.ceso/hosts.yaml`, the project's
//! `ceso.yaml`, `CESO_*` variables, flags. Each value knows where it came from. A key or a variable that is not known is an error;
//! a project's file may tighten and add, but not loosen (see [`project`]).
//!
//! Must not connect to a host, and must not know the client: what it hands out are plain descriptions ([`HostConfig`]) and
//! passwords on request ([`secrets`]). Nothing in it reads the process's environment but [`Sources::of_this_process`].

mod example;
pub mod files;
mod hosts;
mod layers;
mod named_secrets;
mod project;
pub mod registry;
mod repositories;
mod schema;
pub mod secrets;
pub mod settings;
mod sources;
pub mod values;
mod yaml;

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

pub use self::hosts::{DEFAULT_USERNAME, HostConfig, Target};
pub use self::layers::Origin;
pub use self::named_secrets::{NamedSecret, SecretEntry, SecretPurpose};
pub use self::repositories::{BucketKeys, ObjectLock, RepositoryConfig, RepositoryEntry};
pub use self::settings::{
    Audit, ConnectionPool, HostEntry, Log, LogFormat, Metrics, Retention, Sandbox, Security, Settings, Traces,
    WitnessSends,
};
pub use self::sources::{
    Environment, Flag, Home, OTHER_VARIABLES, PROJECT_FILE, SYSTEM_FILE, Sources, settings_variables,
};
pub use self::values::{ENVIRONMENT, Fingerprint, HostUrl, Mode, SIMULATOR, Trust, check_name};

use self::files::Guard;
use self::layers::Layers;
use self::schema::{Shape, join};
use crate::error::Fault;
use crate::redact;

/// The settings that hold for one command, and where each came from.
#[derive(Debug, Clone)]
pub struct Config {
    settings: Settings,
    layers: Layers,
    home: Home,
    project: Option<PathBuf>,
    environment: Environment,
    /// The host that a flag or a variable names for this command.
    named: Option<String>,
}

/// One line of `ceso config show`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The dotted path: `security.mode`.
    pub path: String,
    /// The value as it would be written; `None` where nothing sets it. Secrets are `(hidden)`.
    pub value: Option<String>,
    pub origin: String,
}

impl Config {
    /// Reads all layers and puts them together.
    ///
    /// Faults: `config.syntax`, `config.unknown_key`, `config.unknown_variable`, `config.wrong_type`, `config.invalid`,
    /// `config.too_large`, `config.unreadable`, `config.untrusted_file`, `config.project_may_not`. Each names the file or variable
    /// and the dotted path.
    pub fn load(sources: Sources) -> Result<Self, Fault> {
        let mut layers = Layers::default();
        layers.put(&defaults(), &Origin::Default);
        let system = sources.file(&sources.system_file, Guard::Any)?.unwrap_or_default();
        own_names(&system, &sources.system_file)?;
        layers.put(&system, &Origin::System(sources.system_file.clone()));
        let config_file = sources.home.config_file();
        let user = sources.file(&config_file, Guard::Owned)?.unwrap_or_default();
        own_names(&user, &config_file)?;
        layers.put(&user, &Origin::User(config_file));
        let hosts_file = sources.home.hosts_file();
        let registry = sources.file(&hosts_file, Guard::Owned)?.unwrap_or_default();
        registry::check_layer(&registry, &hosts_file, layers.tree())?;
        layers.put(&registry, &Origin::User(hosts_file));

        let variables = sources.variables()?;
        let named = named_host(&sources, &variables)?;
        let project = match sources.project_file()? {
            None => None,
            Some((file, guard)) => {
                let layer = sources.file(&file, guard)?.unwrap_or_default();
                own_names(&layer, &file)?;
                let base = typed(&layers)?;
                layers.put(&layer, &Origin::Project(file.clone()));
                project::check(&base, &typed(&layers)?, &layer, &file, named.is_some())?;
                Some(file)
            }
        };
        for (name, layer) in &variables {
            layers.put(layer, &Origin::Variable(name.clone()));
        }
        for flag in &sources.flags {
            let layer = sources.setting(&flag.path, &flag.text, &flag.flag)?;
            layers.put(&layer, &Origin::Flag(flag.flag.clone()));
        }
        if let Some(host) = &sources.host {
            layers.put(&sources.setting("default_host", host, "--host")?, &Origin::Flag("--host".to_owned()));
        }
        let settings = typed(&layers)?;
        settings.check().map_err(|(path, why)| {
            Fault::new("config.invalid", format!("{}: {path}: {why}", layers.origin(path)))
                .hint("change it there; `ceso config show` says where each value comes from")
        })?;
        for (name, secret) in &settings.secrets {
            secret.check().map_err(|why| {
                let origin = layers.origin(&format!("secrets.{name}.purpose"));
                Fault::new("config.invalid", format!("{origin}: secrets.{name}: {why}"))
                    .hint("a secret is written as  NAME: { file: PATH, purpose: token, for: [\"web-*\"] }")
            })?;
        }
        for (name, repository) in &settings.repositories {
            repository.check().map_err(|why| {
                let origin = layers.origin(&format!("repositories.{name}.url"));
                Fault::new("config.invalid", format!("{origin}: repositories.{name}: {why}"))
                    .hint("`ceso config init` writes an example of each setting")
            })?;
        }
        let config = Self { settings, layers, home: sources.home, project, environment: sources.environment, named };
        config.know_variables();
        Ok(config)
    }

    /// All settings, typed.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The limits of one run.
    pub fn limits(&self) -> &Sandbox {
        &self.settings.sandbox
    }

    /// The mode of a run that names none.
    pub fn mode(&self) -> Mode {
        self.settings.security.mode
    }

    /// The file that operations are recorded in.
    pub fn audit_log(&self) -> PathBuf {
        self.settings.security.audit_log.clone().unwrap_or_else(|| self.home.audit_log())
    }

    /// The user's folder of ceso.
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// The project's file, where there is one.
    pub fn project(&self) -> Option<&Path> {
        self.project.as_deref()
    }

    /// Where the value at a dotted path came from.
    pub fn origin(&self, path: &str) -> &Origin {
        self.layers.origin(path)
    }

    /// The form of results that `CESO_OUTPUT` asks for.
    pub fn output(&self) -> Result<Option<&str>, Fault> {
        self.environment.get("CESO_OUTPUT")
    }

    /// Every setting with its value and its origin, in the order of the declaration; control characters are escaped.
    pub fn show(&self) -> Vec<Shown> {
        let mut shown = Vec::new();
        self.show_below(&schema::DECLARATION, Some(&Value::Object(self.layers.tree().clone())), "", &mut shown);
        if matches!(self.environment.get("CESO_PASSWORD"), Ok(Some(_))) {
            shown.push(Shown {
                path: "password".to_owned(),
                value: Some("(hidden)".to_owned()),
                origin: "CESO_PASSWORD".to_owned(),
            });
        }
        shown
    }

    fn show_below(&self, schema: &Value, value: Option<&Value>, path: &str, into: &mut Vec<Shown>) {
        match schema::shape(schema) {
            Shape::Section(properties) => {
                for (key, inner) in properties {
                    self.show_below(inner, value.and_then(|value| value.get(key)), &join(path, key), into);
                }
            }
            Shape::Named(entry) => {
                for (name, inner) in value.and_then(Value::as_object).into_iter().flatten() {
                    self.show_below(entry, Some(inner), &join(path, name), into);
                }
            }
            Shape::Leaf(_) => {
                // Within a named entry only what is set is of interest.
                let named = ["hosts.", "repositories.", "secrets."].iter().any(|section| path.starts_with(section));
                if value.is_some() || !named {
                    into.push(Shown {
                        path: path.to_owned(),
                        value: value.map(|value| printable(&text_of(value))),
                        origin: printable(&self.origin(path).to_string()),
                    });
                }
            }
        }
    }

    /// A commented example of every setting, made from the declarations.
    pub fn example() -> String {
        example::write()
    }
}

/// Reads a table that a person wrote as YAML or JSON, with the bounds that hold for configuration files.
///
/// Faults: `config.syntax`, `config.wrong_type`, `config.too_large`.
pub fn table(bytes: &[u8], place: &str) -> Result<Map<String, Value>, Fault> {
    yaml::parse(bytes, place)
}

/// The built-in layer.
fn defaults() -> Map<String, Value> {
    match serde_json::to_value(Settings::default()) {
        Ok(Value::Object(map)) => map,
        // Only a map with keys that are no texts could fail, and the declarations have none.
        _ => Map::new(),
    }
}

fn typed(layers: &Layers) -> Result<Settings, Fault> {
    for (section, what) in [("hosts", "host"), ("repositories", "repository")] {
        for (name, entry) in layers.tree().get(section).and_then(Value::as_object).into_iter().flatten() {
            if entry.get("url").is_none() {
                let keys = entry.as_object().into_iter().flatten().map(|(key, _)| format!("{section}.{name}.{key}"));
                let place = keys.map(|path| layers.origin(&path).to_string()).next().unwrap_or_default();
                return Err(Fault::new("config.invalid", format!("{place}: {section}.{name} has no \"url\""))
                    .hint(format!("every {what} needs its address")));
            }
        }
    }
    serde_json::from_value(Value::Object(layers.tree().clone())).map_err(|error| {
        Fault::new("config.invalid", format!("the settings do not fit together: {}", printable(&error.to_string())))
            .hint("`ceso config init` writes an example of each setting")
            .cause(error)
    })
}

/// Refuses a file that gives a reserved name to a host of its own.
fn own_names(layer: &Map<String, Value>, file: &Path) -> Result<(), Fault> {
    let hosts = layer.get("hosts").and_then(Value::as_object);
    match [SIMULATOR, ENVIRONMENT].into_iter().find(|name| hosts.is_some_and(|hosts| hosts.contains_key(*name))) {
        None => Ok(()),
        Some(name) => {
            Err(Fault::new("config.invalid", format!("{}: hosts.{name}: the name is reserved", file.display()))
                .hint(reserved(name)))
        }
    }
}

/// Why a reserved name is reserved.
fn reserved(name: &str) -> String {
    if name == SIMULATOR {
        format!("{name:?} is always the simulator; choose another name")
    } else {
        format!("{name:?} is always the host that CESO_URL describes; choose another name")
    }
}

/// The host that this command names by `--host`, `CESO_HOST` or `CESO_URL`, in this order.
fn named_host(sources: &Sources, variables: &[sources::Variable]) -> Result<Option<String>, Fault> {
    if let Some(host) = &sources.host {
        return Ok(Some(host.clone()));
    }
    if let Some(host) = sources.environment.get("CESO_HOST")? {
        return Ok(Some(host.to_owned()));
    }
    Ok(variables.iter().any(|(name, _)| name == "CESO_URL").then(|| ENVIRONMENT.to_owned()))
}

fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(text_of).collect::<Vec<_>>().join(", "),
        Value::Object(map) => {
            map.iter().map(|(key, value)| format!("{key}: {}", text_of(value))).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

/// A text of somebody else's as it may be printed: control characters and those that reorder text become `\u{…}`, and at most
/// 500 characters stay.
pub fn printable(text: &str) -> String {
    match text.char_indices().nth(500) {
        None => redact::one_line(text).replace('\t', "\\t"),
        Some((at, _)) => printable(text.get(..at).unwrap_or_default()) + "…",
    }
}

#[cfg(test)]
mod tests;
