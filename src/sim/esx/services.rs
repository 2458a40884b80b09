//! The host's services and its clock.
//!
//! A service that is started or stopped is no more than that: nothing listens for it. What was changed is kept.
//! Specification: vSphere Web Services API, `HostServiceSystem`, `HostDateTimeSystem`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::HOST;
use crate::sim::call::{Answer, Call, Reply};
use crate::sim::fault::VimFault;
use crate::sim::value::{Data, Value};
use crate::sim::world::World;

/// A service, what people call it, whether it runs, and when it starts.
const SERVICES: &[(&str, &str, bool, &str)] = &[
    ("DCUI", "Direct Console UI", true, "on"),
    ("TSM", "ESXi Shell", false, "off"),
    ("TSM-SSH", "SSH", false, "off"),
    ("lbtd", "Load-Based Teaming Daemon", true, "on"),
    ("ntpd", "NTP Daemon", true, "on"),
    ("sfcbd-watchdog", "CIM Server", false, "on"),
    ("slpd", "slpd", false, "off"),
    ("snmpd", "SNMP Server", false, "off"),
    ("vpxa", "VMware vCenter Agent", false, "off"),
];

/// The most servers that a host asks for the time.
const MOST_SERVERS: usize = 16;

/// What differs from the services as they came.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Services {
    running: BTreeMap<String, bool>,
    policy: BTreeMap<String, String>,
    /// The servers that the host takes the time from, where they were set.
    ntp: Option<Vec<String>>,
}

impl Services {
    pub fn runs(&self, key: &str) -> bool {
        let came = || SERVICES.iter().any(|(own, _, running, _)| *own == key && *running);
        self.running.get(key).copied().unwrap_or_else(came)
    }

    /// The servers that the host takes the time from.
    pub fn ntp(&self) -> Vec<String> {
        self.ntp.clone().unwrap_or_else(|| vec!["pool.ntp.org".to_owned()])
    }
}

pub fn property(world: &World, object: &str, property: &str) -> Option<Value> {
    match (object, property) {
        ("serviceSystem", "serviceInfo") => Some(info(world).into()),
        ("dateTimeSystem", "dateTimeInfo") => Some(clock(world).into()),
        _ => None,
    }
}

/// The services, as `HostServiceInfo`.
pub fn info(world: &World) -> Data {
    let state = &world.file.services;
    let services: Vec<Data> = SERVICES
        .iter()
        .map(|(key, label, _, policy)| {
            let rulesets: Vec<&'static str> =
                super::firewall::rulesets().filter(|set| set.service == *key).map(|set| set.key).collect();
            Data::new("HostService")
                .with("key", *key)
                .with("label", *label)
                .with("required", false)
                .with("uninstallable", false)
                .with("running", state.runs(key))
                .with("ruleset", rulesets)
                .with("policy", state.policy.get(*key).map_or_else(|| (*policy).to_owned(), String::clone))
        })
        .collect();
    Data::new("HostServiceInfo").with("service", services)
}

/// The clock's settings, as `HostDateTimeInfo`.
pub fn clock(world: &World) -> Data {
    let zone = Data::new("HostDateTimeSystemTimeZone").with("key", "UTC").with("name", "UTC");
    let zone = zone.with("description", "UTC").with("gmtOffset", 0);
    let ntp = Data::new("HostNtpConfig").with("server", world.file.services.ntp());
    Data::new("HostDateTimeInfo").with("timeZone", zone).with("ntpConfig", ntp)
}

pub fn call(world: &mut World, call: &Call) -> Answer {
    match (call.this.kind, call.method) {
        ("HostServiceSystem", "RefreshServices") | ("HostDateTimeSystem", "RefreshDateTimeSystem") => {
            Ok(Reply::Nothing)
        }
        ("HostServiceSystem", "StartService") => run(world, call, true),
        ("HostServiceSystem", "StopService") => run(world, call, false),
        ("HostServiceSystem", "RestartService") => {
            let key = known(call)?;
            match world.file.services.runs(key) {
                true => Ok(Reply::Nothing),
                false => Err(VimFault::new("InvalidState", format!("The service {key} does not run."))),
            }
        }
        ("HostServiceSystem", "UpdateServicePolicy") => {
            let (key, policy) = (known(call)?, call.text("policy")?);
            if !["on", "automatic", "off"].contains(&policy) {
                return Err(VimFault::invalid_argument("policy", "it is on, automatic or off"));
            }
            world.file.services.policy.insert(key.to_owned(), policy.to_owned());
            changed(world, call)
        }
        ("HostServiceSystem", "UninstallService") => Err(VimFault::not_supported("the services belong to the host")),
        ("HostDateTimeSystem", "QueryDateTime") => Ok(Value::from(OffsetDateTime::now_utc()).into()),
        ("HostDateTimeSystem", "QueryAvailableTimeZones") => {
            let zones = clock(world).get("timeZone").cloned();
            Ok(Reply::Value(Value::List(zones.into_iter().collect())))
        }
        ("HostDateTimeSystem", "UpdateDateTimeConfig") => {
            let config = call.data("config")?;
            if config.text("timeZone").is_some_and(|zone| !zone.is_empty() && zone != "UTC") {
                return Err(VimFault::invalid_argument("config.timeZone", "the host knows UTC alone"));
            }
            if let Some(ntp) = config.data("ntpConfig") {
                let servers: Vec<String> = ntp.texts("server").map(str::to_owned).collect();
                let name = |server: &String| {
                    !server.is_empty() && server.len() <= 255 && !server.contains(char::is_whitespace)
                };
                if servers.len() > MOST_SERVERS || !servers.iter().all(name) {
                    return Err(VimFault::invalid_argument(
                        "config.ntpConfig.server",
                        "it is up to 16 names or addresses",
                    ));
                }
                world.file.services.ntp = Some(servers);
            }
            changed(world, call)
        }
        ("HostDateTimeSystem", "UpdateDateTime") => {
            Err(VimFault::new("HostConfigFault", "The simulator runs on the clock of the machine below it."))
        }
        (_, other) => Err(VimFault::not_implemented(other)),
    }
}

fn known(call: &Call) -> Result<&'static str, VimFault> {
    let id = call.text("id")?;
    let found = SERVICES.iter().find(|(key, ..)| *key == id).map(|(key, ..)| *key);
    found.ok_or_else(|| VimFault::new("NotFound", "There is no service of that name."))
}

fn run(world: &mut World, call: &Call, on: bool) -> Answer {
    let key = known(call)?;
    if world.file.services.runs(key) == on {
        let state = if on { "runs already" } else { "does not run" };
        return Err(VimFault::new("InvalidState", format!("The service {key} {state}.")));
    }
    world.file.services.running.insert(key.to_owned(), on);
    changed(world, call)
}

fn changed(world: &mut World, call: &Call) -> Answer {
    world.keep_host()?;
    world.touch(&call.this);
    world.touch(&HOST);
    Ok(Reply::Nothing)
}
