//! The firewall: which rulesets are open, to whom, and what is done with all else.
//!
//! The rulesets and their ports are those of ESXi 8.0. Nothing is ever blocked here: who reaches the simulator has reached it. What is
//! switched is kept. Specification: vSphere Web Services API, `HostFirewallSystem`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::HOST;
use crate::sim::call::{Answer, Call, Reply};
use crate::sim::fault::VimFault;
use crate::sim::value::{Data, Ref, Value};
use crate::sim::world::World;

pub const SYSTEM: Ref = Ref::fixed("HostFirewallSystem", "firewallSystem");

/// A ruleset as it comes with the host.
pub struct Ruleset {
    pub key: &'static str,
    pub label: &'static str,
    /// The service that it belongs to; empty where there is none.
    pub service: &'static str,
    enabled: bool,
    /// `DIRECTION PROTOCOL PORT[-PORT][ src]`, with commas between.
    rules: &'static str,
}

/// One rule of a ruleset.
pub struct Rule {
    pub direction: &'static str,
    pub protocol: &'static str,
    /// Whether it is about the packet's source port, not the one that it goes to.
    pub source: bool,
    pub first: i32,
    pub last: Option<i32>,
}

const fn set(
    key: &'static str,
    label: &'static str,
    service: &'static str,
    enabled: bool,
    rules: &'static str,
) -> Ruleset {
    Ruleset { key, label, service, enabled, rules }
}

const RULESETS: &[Ruleset] = &[
    set("CIMHttpServer", "CIM Server", "sfcbd-watchdog", true, "in tcp 5988"),
    set("CIMHttpsServer", "CIM Secure Server", "sfcbd-watchdog", true, "in tcp 5989"),
    set("CIMSLP", "CIM SLP", "slpd", false, "in udp 427, out udp 427, in tcp 427, out tcp 427"),
    set("DHCPv6", "DHCPv6", "", true, "out tcp 547, in tcp 546, out udp 547, in udp 546"),
    set("DVSSync", "DVSSync", "", true, "out udp 8302, in udp 8301, out udp 8301, in udp 8302"),
    set("HBR", "HBR", "", true, "out tcp 31031, out tcp 44046"),
    set("NFC", "NFC", "", true, "in tcp 902, out tcp 902"),
    set("WOL", "WOL", "", true, "out udp 9"),
    set(
        "activeDirectoryAll",
        "Active Directory All",
        "",
        false,
        "out udp 88, out tcp 88, out udp 123, out udp 137, out tcp 139, out tcp 389, out udp 389, out tcp 445, out udp 464, \
         out tcp 464, out tcp 3268, out tcp 7476, in tcp 2020",
    ),
    set("dhcp", "DHCP Client", "", true, "in udp 68, out udp 68 src"),
    set("dns", "DNS Client", "", true, "in udp 53, out udp 53, out tcp 53"),
    set("esxupdate", "esxupdate", "", false, "out tcp 443"),
    set("faultTolerance", "Fault Tolerance", "", true, "out tcp 80, in tcp 8300, out tcp 8300"),
    set("ftpClient", "FTP Client", "", false, "out tcp 21, in tcp 20 src"),
    set("gdbserver", "gdbserver", "", false, "in tcp 1000-9999, in tcp 50000-50999"),
    set("httpClient", "httpClient", "", false, "out tcp 80, out tcp 443"),
    set("iSCSI", "Software iSCSI Client", "", false, "out tcp 3260"),
    set("iofiltervp", "iofiltervp", "", true, "in tcp 9080"),
    set("nfs41Client", "nfs41Client", "", false, "out tcp 0-65535"),
    set("nfsClient", "NFS Client", "", false, "out tcp 0-65535"),
    set("ntpClient", "NTP Client", "ntpd", true, "out udp 123"),
    set("ptpd", "PTP", "ptpd", false, "in udp 319-320, out udp 319-320"),
    set(
        "remoteSerialPort",
        "VM serial port connected over network",
        "",
        false,
        "out tcp 0-65535, in tcp 23, in tcp 1024-65535",
    ),
    set("snmp", "SNMP Server", "snmpd", false, "in udp 161"),
    set("sshClient", "SSH Client", "", false, "out tcp 22"),
    set("sshServer", "SSH Server", "TSM-SSH", true, "in tcp 22"),
    set("syslog", "syslog", "", false, "out udp 514, out tcp 514, out tcp 1514"),
    set("updateManager", "vCenter Update Manager", "", true, "out tcp 80, out tcp 9000-9100"),
    set("vMotion", "vMotion", "", true, "in tcp 8000, out tcp 8000"),
    set("vSPC", "VM serial port connected to vSPC", "", false, "out tcp 0-65535"),
    set("vSphereClient", "vSphere Web Client", "", true, "in tcp 902, in tcp 443"),
    set("vpxHeartbeats", "VMware vCenter Agent", "vpxa", true, "out udp 902"),
    set("vvold", "vvold", "", false, "out tcp 0-65535"),
    set("webAccess", "vSphere Web Access", "", true, "in tcp 80"),
];

/// The networks that a ruleset is open to, where it is not open to all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allowed {
    pub addresses: Vec<String>,
    pub networks: Vec<(String, i32)>,
}

/// What differs from the firewall as it came.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Firewall {
    pub enabled: bool,
    pub incoming_blocked: bool,
    pub outgoing_blocked: bool,
    /// Rulesets that were switched.
    switched: BTreeMap<String, bool>,
    allowed: BTreeMap<String, Allowed>,
}

impl Default for Firewall {
    fn default() -> Self {
        Self {
            enabled: true,
            incoming_blocked: true,
            outgoing_blocked: true,
            switched: BTreeMap::new(),
            allowed: BTreeMap::new(),
        }
    }
}

impl Firewall {
    pub fn is_open(&self, ruleset: &Ruleset) -> bool {
        self.switched.get(ruleset.key).copied().unwrap_or(ruleset.enabled)
    }

    /// To whom a ruleset is open; nothing: to all.
    pub fn allowed(&self, ruleset: &Ruleset) -> Option<&Allowed> {
        self.allowed.get(ruleset.key)
    }

    /// Opens or closes a ruleset.
    pub fn switch(&mut self, ruleset: &Ruleset, open: bool) {
        self.switched.insert(ruleset.key.to_owned(), open);
    }

    /// Opens a ruleset to these alone, or to all.
    pub fn allow(&mut self, ruleset: &Ruleset, to: Option<Allowed>) {
        match to {
            Some(to) => self.allowed.insert(ruleset.key.to_owned(), to),
            None => self.allowed.remove(ruleset.key),
        };
    }
}

/// All rulesets, by key.
pub fn rulesets() -> impl Iterator<Item = &'static Ruleset> {
    RULESETS.iter()
}

pub fn ruleset(key: &str) -> Option<&'static Ruleset> {
    RULESETS.iter().find(|ruleset| ruleset.key == key)
}

impl Ruleset {
    pub fn rules(&self) -> impl Iterator<Item = Rule> + use<> {
        self.rules.split(',').filter_map(|rule| {
            let mut words = rule.split_whitespace();
            let direction = if words.next()? == "in" { "inbound" } else { "outbound" };
            let (protocol, ports) = (words.next()?, words.next()?);
            let (first, last) = ports.split_once('-').map_or((ports, None), |(first, last)| (first, Some(last)));
            Some(Rule {
                direction,
                protocol,
                source: words.next() == Some("src"),
                first: first.parse().ok()?,
                last: last.and_then(|last| last.parse().ok()),
            })
        })
    }

    fn render(&self, firewall: &Firewall) -> Data {
        let rules: Vec<Data> = self
            .rules()
            .map(|rule| {
                Data::new("HostFirewallRule")
                    .with("port", rule.first)
                    .maybe("endPort", rule.last)
                    .with("direction", rule.direction)
                    .with("portType", if rule.source { "src" } else { "dst" })
                    .with("protocol", rule.protocol)
            })
            .collect();
        let hosts = Data::new("HostFirewallRulesetIpList");
        let hosts = match firewall.allowed(self) {
            None => hosts.with("allIp", true),
            Some(allowed) => {
                let networks = allowed.networks.iter().map(|(network, length)| {
                    Data::new("HostFirewallRulesetIpNetwork").with("network", network).with("prefixLength", *length)
                });
                hosts
                    .with("ipAddress", allowed.addresses.clone())
                    .with("ipNetwork", networks.collect::<Vec<_>>())
                    .with("allIp", false)
            }
        };
        Data::new("HostFirewallRuleset")
            .with("key", self.key)
            .with("label", self.label)
            .with("required", false)
            .with("rule", rules)
            .with("service", self.service)
            .with("enabled", firewall.is_open(self))
            .with("allowedHosts", hosts)
            .with("userControllable", true)
            .with("ipListUserConfigurable", true)
    }
}

/// The whole firewall, as `HostFirewallInfo`.
pub fn info(world: &World) -> Data {
    let firewall = &world.file.firewall;
    let policy = Data::new("HostFirewallDefaultPolicy")
        .with("incomingBlocked", firewall.incoming_blocked)
        .with("outgoingBlocked", firewall.outgoing_blocked);
    let rulesets: Vec<Data> = RULESETS.iter().map(|ruleset| ruleset.render(firewall)).collect();
    Data::new("HostFirewallInfo").with("defaultPolicy", policy).with("ruleset", rulesets)
}

pub fn property(world: &World, property: &str) -> Option<Value> {
    (property == "firewallInfo").then(|| info(world).into())
}

pub fn call(world: &mut World, call: &Call) -> Answer {
    let named = || {
        let id = call.text("id")?;
        ruleset(id).ok_or_else(|| VimFault::new("NotFound", "There is no ruleset of that name."))
    };
    match call.method {
        "EnableRuleset" => world.file.firewall.switch(named()?, true),
        "DisableRuleset" => world.file.firewall.switch(named()?, false),
        "UpdateRuleset" => {
            let hosts = call.data("spec")?.data("allowedHosts").cloned();
            let hosts = hosts.ok_or_else(|| VimFault::invalid_argument("spec.allowedHosts", "it is required"))?;
            let to = if hosts.boolean("allIp") == Some(true) { None } else { Some(listed(&hosts)?) };
            world.file.firewall.allow(named()?, to);
        }
        "UpdateDefaultPolicy" => {
            let policy = call.data("defaultPolicy")?;
            let firewall = &mut world.file.firewall;
            firewall.incoming_blocked = policy.boolean("incomingBlocked").unwrap_or(firewall.incoming_blocked);
            firewall.outgoing_blocked = policy.boolean("outgoingBlocked").unwrap_or(firewall.outgoing_blocked);
        }
        "RefreshFirewall" => {}
        other => return Err(VimFault::not_implemented(other)),
    }
    changed(world)?;
    Ok(Reply::Nothing)
}

/// Keeps a changed firewall, and has those who watch see it.
pub fn changed(world: &mut World) -> Result<(), VimFault> {
    world.keep_host()?;
    world.touch(&SYSTEM);
    world.touch(&HOST);
    Ok(())
}

fn listed(hosts: &Data) -> Result<Allowed, VimFault> {
    let wrong =
        |what: &'static str| VimFault::invalid_argument(format!("spec.allowedHosts.{what}"), "it is no address");
    let mut allowed = Allowed::default();
    for address in hosts.texts("ipAddress") {
        address.parse::<IpAddr>().map_err(|_| wrong("ipAddress"))?;
        allowed.addresses.push(address.to_owned());
    }
    for network in hosts.datas("ipNetwork") {
        let address: IpAddr = network.text("network").unwrap_or_default().parse().map_err(|_| wrong("ipNetwork"))?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let length = network.int("prefixLength").filter(|length| (0..=longest).contains(length));
        allowed.networks.push((address.to_string(), length.ok_or_else(|| wrong("ipNetwork.prefixLength"))?));
    }
    Ok(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_of_every_ruleset_is_read() {
        for ruleset in rulesets() {
            assert_eq!(ruleset.rules().count(), ruleset.rules.split(',').count(), "{}", ruleset.key);
        }
        let dhcp: Vec<Rule> = ruleset("dhcp").unwrap().rules().collect();
        assert!(dhcp[0].direction == "inbound" && dhcp[0].first == 68 && !dhcp[0].source && dhcp[1].source);
    }
}
