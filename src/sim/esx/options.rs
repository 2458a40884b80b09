//! Advanced options: what there is, what it stands at, and how it is set.
//!
//! The options do no more here than they say: they are kept and told. But `Net.GuestIPHack` is heeded by `esxcli`, which then tells the
//! addresses of running guests. Specification: vSphere Web Services API, `OptionManager`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ADDRESS, HOST, HOST_NAME};
use crate::sim::call::{Answer, Call, Reply};
use crate::sim::fault::VimFault;
use crate::sim::service::PRODUCT;
use crate::sim::value::{Data, Ref, Value};
use crate::sim::world::World;

/// What an option stands at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Setting {
    Switch(bool),
    Number(i64),
    Text(String),
}

impl Setting {
    fn value(&self) -> Value {
        match self {
            Self::Switch(on) => (*on).into(),
            Self::Number(number) => (*number).into(),
            Self::Text(text) => text.into(),
        }
    }
}

/// What an option may hold, and what it comes with.
enum Form {
    Number { usual: i64, least: i64, most: i64 },
    Text(&'static str),
    Switch(bool),
}

/// One option.
pub struct Setup {
    pub key: &'static str,
    pub summary: &'static str,
    form: Form,
}

const fn number(key: &'static str, usual: i64, least: i64, most: i64, summary: &'static str) -> Setup {
    Setup { key, summary, form: Form::Number { usual, least, most } }
}

const fn text(key: &'static str, usual: &'static str, summary: &'static str) -> Setup {
    Setup { key, summary, form: Form::Text(usual) }
}

const AGENT: &[Setup] = &[Setup {
    key: "Config.HostAgent.plugins.solo.enableMob",
    summary: "Whether the browser of managed objects is served",
    form: Form::Switch(false),
}];

const HOSTS: &[Setup] = &[
    text("Annotations.WelcomeMessage", "", "What the console shows before anybody logs in"),
    text("Config.HostAgent.log.level", "info", "Log level of the host agent"),
    number(
        "Config.HostAgent.plugins.solo.webServer.sessionTimeoutMinutes",
        30,
        0,
        43_200,
        "Minutes that a session may rest",
    ),
    number("Mem.ShareForceSalting", 2, 0, 2, "PShare salting allows for sharing isolation between multiple VM"),
    text("Misc.HostIPAddr", ADDRESS, "The host's address"),
    text("Misc.HostName", HOST_NAME, "The host's name"),
    number("NFS.MaxVolumes", 32, 8, 256, "Maximum number of mounted NFS v3 volumes"),
    number("Net.GuestIPHack", 0, 0, 1, "Enable guest arp inspection IOChain to get IP"),
    number("Security.AccountLockFailures", 5, 0, 100, "Failed logins before an account is locked"),
    number("Security.AccountUnlockTime", 900, 0, 86_400, "Seconds for which an account is locked"),
    text("Syslog.global.logHost", "", "Where the logs are sent to"),
    number("UserVars.ESXiShellInteractiveTimeOut", 0, 0, 86_400, "Seconds after which a resting shell is closed"),
    number("UserVars.ESXiShellTimeOut", 0, 0, 86_400, "Seconds after which the shells are switched off"),
    number("UserVars.HostClientSessionTimeout", 900, 0, 7_200, "Seconds that a session of the web client may rest"),
    number("UserVars.SuppressShellWarning", 0, 0, 1, "Whether the warning of running shells is left out"),
    number("VMFS3.HardwareAcceleratedLocking", 1, 0, 1, "Whether VMFS locks by the array's own commands"),
];

const VERSION: &str = "ceso.SimulatorVersion";

/// What somebody has set on the host before anybody else came: that `esxcli` tells the addresses of guests, as govc's users have it.
pub fn of_a_new_host() -> BTreeMap<String, Setting> {
    BTreeMap::from([("Net.GuestIPHack".to_owned(), Setting::Number(1))])
}

/// The options of one of the two managers.
fn setups(object: &Ref) -> &'static [Setup] {
    if object.id == "HostAgentSettings" { AGENT } else { HOSTS }
}

/// The host's own options.
pub fn all() -> impl Iterator<Item = &'static Setup> {
    HOSTS.iter()
}

impl Setup {
    /// What it came with.
    pub fn usual(&self) -> Setting {
        match self.form {
            Form::Number { usual, .. } => Setting::Number(usual),
            Form::Text(usual) => Setting::Text(usual.to_owned()),
            Form::Switch(on) => Setting::Switch(on),
        }
    }

    /// What it stands at.
    pub fn now(&self, world: &World) -> Setting {
        world.file.options.get(self.key).cloned().unwrap_or_else(|| self.usual())
    }

    /// The least and the most that a number may be.
    pub fn bounds(&self) -> Option<(i64, i64)> {
        match self.form {
            Form::Number { least, most, .. } => Some((least, most)),
            _ => None,
        }
    }

    /// Sets it, if it may hold that.
    pub fn set(&self, world: &mut World, to: Setting) -> Result<(), VimFault> {
        let fits = match (&self.form, &to) {
            (Form::Number { least, most, .. }, Setting::Number(number)) => (least..=most).contains(&number),
            (Form::Text(_), Setting::Text(text)) => text.len() <= 1024 && !text.contains('\0'),
            (Form::Switch(_), Setting::Switch(_)) => true,
            _ => false,
        };
        if !fits {
            let message = format!("A specified parameter was not correct: {}.", self.key);
            return Err(VimFault::new("InvalidArgument", message).with("invalidProperty", self.key));
        }
        world.file.options.insert(self.key.to_owned(), to);
        world.keep_host()?;
        world.touch(&HOST);
        Ok(())
    }

    /// Puts it back to what it came with.
    pub fn reset(&self, world: &mut World) -> Result<(), VimFault> {
        world.file.options.remove(self.key);
        world.keep_host()?;
        world.touch(&HOST);
        Ok(())
    }
}

/// The options of one of the two managers, as `OptionValue`.
pub fn list(world: &World, object: &Ref) -> Vec<Data> {
    let option = |key: &'static str, value: Value| Data::new("OptionValue").with("key", key).with("value", value);
    let mut options: Vec<Data> =
        setups(object).iter().map(|setup| option(setup.key, setup.now(world).value())).collect();
    if object.id != "HostAgentSettings" {
        options.push(option(VERSION, format!("ESXi {} ({})", PRODUCT.0, PRODUCT.1).into()));
    }
    options
}

pub fn call(world: &mut World, call: &Call) -> Answer {
    match call.method {
        "QueryOptions" => {
            let name = call.args.text("name").unwrap_or_default();
            let inside = |key: &str| name.is_empty() || key == name || (name.ends_with('.') && key.starts_with(name));
            let found: Vec<Data> =
                list(world, &call.this).into_iter().filter(|option| option.text("key").is_some_and(inside)).collect();
            match found.is_empty() {
                true => Err(VimFault::new("InvalidName", "There is no such option.").with("name", name.to_owned())),
                false => Ok(Reply::Value(found.into())),
            }
        }
        "UpdateOptions" => {
            let mut wanted = Vec::new();
            for option in call.args.datas("changedValue") {
                let key = option.text("key").unwrap_or_default();
                let setup = setups(&call.this).iter().find(|setup| setup.key == key).ok_or_else(|| {
                    VimFault::new("InvalidName", "There is no such option, or it cannot be set.")
                        .with("name", key.to_owned())
                })?;
                let to = match option.get("value") {
                    Some(Value::Bool(on)) => Setting::Switch(*on),
                    Some(Value::Int(number)) => Setting::Number(i64::from(*number)),
                    Some(Value::Long(number)) => Setting::Number(*number),
                    Some(Value::Text(text)) => Setting::Text(text.to_string()),
                    _ => return Err(VimFault::invalid_argument(key.to_owned(), "it has no such value")),
                };
                wanted.push((setup, to));
            }
            for (setup, to) in wanted {
                setup.set(world, to)?;
            }
            world.touch(&call.this);
            Ok(Reply::Nothing)
        }
        other => Err(VimFault::not_implemented(other)),
    }
}
