//! `esxcli network firewall`: the firewall that the API has too, and its rulesets.

use super::namespace::{Arguments, Column, Command, Denial, Kind, Namespace, Opt, Shape, Told, need, one, opt};
use crate::sim::call::Call;
use crate::sim::esx::firewall::{self, Ruleset, changed, rulesets};
use crate::sim::world::World;

use Kind::{Number, Text, Truth};

const ONE: Opt = opt("ruleset-id", 'r', Text, "Specify which firewall ruleset to list.");

pub const NAMESPACES: &[Namespace] = &[
    Namespace {
        name: "network.firewall",
        help: "A set of commands for firewall related operations",
        commands: &[
            Command {
                name: "get",
                help: "Get the firewall status.",
                options: &[],
                shape: Shape::Record(
                    "Firewall",
                    &[Column("Default Action", Text), Column("Enabled", Truth), Column("Loaded", Truth)],
                ),
                act: |world, _, _| {
                    let firewall = &world.file.firewall;
                    let action = if firewall.incoming_blocked { "DROP" } else { "PASS" };
                    Ok(Told::Rows(vec![vec![one(action), one(firewall.enabled), one(true)]]))
                },
            },
            Command {
                name: "refresh",
                help: "Load ruleset configuration for firewall.",
                options: &[],
                shape: Shape::One(Truth),
                act: |_, _, _| done(),
            },
            Command {
                name: "set",
                help: "Set firewall enabled status and default action.",
                options: &[
                    opt("default-action", 'd', Truth, "Set to true to set defaultaction PASS, set to false to DROP."),
                    opt(
                        "enabled",
                        'e',
                        Truth,
                        "Set to true to enable the firewall, set to false to disable the firewall.",
                    ),
                ],
                shape: Shape::One(Truth),
                act: |world, _, given| {
                    let firewall = &mut world.file.firewall;
                    if let Some(pass) = given.truth("defaultaction") {
                        (firewall.incoming_blocked, firewall.outgoing_blocked) = (!pass, !pass);
                    }
                    firewall.enabled = given.truth("enabled").unwrap_or(firewall.enabled);
                    changed(world)?;
                    done()
                },
            },
        ],
    },
    Namespace {
        name: "network.firewall.ruleset",
        help: "Commands to list and update firewall ruleset configuration",
        commands: &[
            Command {
                name: "list",
                help: "List the rulesets in firewall.",
                options: &[ONE],
                shape: Shape::Table("Ruleset", &[Column("Name", Text), Column("Enabled", Truth)]),
                act: |world, _, given| {
                    let firewall = &world.file.firewall;
                    Ok(Told::Rows(wanted(given)?.map(|set| vec![one(set.key), one(firewall.is_open(set))]).collect()))
                },
            },
            Command {
                name: "set",
                help: "Set firewall ruleset status (allowedAll flag and enabled status).",
                options: &[
                    opt(
                        "allowed-all",
                        'a',
                        Truth,
                        "Set to true to allowed all ip, set to false to use allowed ip list.",
                    ),
                    opt("enabled", 'e', Truth, "Set to true to enable ruleset, set to false to disable it."),
                    need("ruleset-id", 'r', Text, "The label of the ruleset."),
                ],
                shape: Shape::One(Truth),
                act: set,
            },
        ],
    },
    Namespace {
        name: "network.firewall.ruleset.allowedip",
        help: "Commands to list and update firewall ruleset's allowed IP list",
        commands: &[Command {
            name: "list",
            help: "List allowed ip addresses for rulesets.",
            options: &[ONE],
            shape: Shape::Table("RulesetAllowedip", &[Column("Ruleset", Text), Column("Allowed IP Addresses", Text)]),
            act: |world, _, given| {
                let firewall = &world.file.firewall;
                let to = |set: &Ruleset| match firewall.allowed(set) {
                    None => one("All"),
                    Some(allowed) => {
                        let networks = allowed.networks.iter().map(|(network, length)| format!("{network}/{length}"));
                        allowed.addresses.iter().cloned().chain(networks).collect()
                    }
                };
                Ok(Told::Rows(wanted(given)?.map(|set| vec![one(set.key), to(set)]).collect()))
            },
        }],
    },
    Namespace {
        name: "network.firewall.ruleset.rule",
        help: "Commands to list firewall rules",
        commands: &[Command {
            name: "list",
            help: "List the rules of each ruleset in firewall.",
            options: &[ONE],
            shape: Shape::Table(
                "RulesetRule",
                &[
                    Column("Ruleset", Text),
                    Column("Direction", Text),
                    Column("Protocol", Text),
                    Column("Port Type", Text),
                    Column("Port Begin", Number),
                    Column("Port End", Number),
                ],
            ),
            act: |_, _, given| {
                let rules = |set: &'static Ruleset| {
                    set.rules().map(|rule| {
                        let direction = if rule.direction == "inbound" { "Inbound" } else { "Outbound" };
                        vec![
                            one(set.key),
                            one(direction),
                            one(rule.protocol.to_ascii_uppercase()),
                            one(if rule.source { "Src" } else { "Dst" }),
                            one(rule.first),
                            one(rule.last.unwrap_or(rule.first)),
                        ]
                    })
                };
                Ok(Told::Rows(wanted(given)?.flat_map(rules).collect()))
            },
        }],
    },
];

fn done() -> Result<Told, Denial> {
    Ok(Told::One("true".to_owned()))
}

fn named(key: &str) -> Result<&'static Ruleset, Denial> {
    firewall::ruleset(key).ok_or_else(|| Denial::said(format!("Invalid ruleset id {key}")))
}

/// The ruleset that was asked for, or all.
fn wanted(given: &Arguments) -> Result<impl Iterator<Item = &'static Ruleset> + use<>, Denial> {
    let one = given.text("rulesetid").map(named).transpose()?;
    Ok(rulesets().filter(move |set| one.is_none_or(|one| one.key == set.key)))
}

fn set(world: &mut World, _: &Call, given: &Arguments) -> Result<Told, Denial> {
    let set = named(given.text("rulesetid").unwrap_or_default())?;
    let firewall = &mut world.file.firewall;
    if let Some(open) = given.truth("enabled") {
        firewall.switch(set, open);
    }
    match given.truth("allowedall") {
        Some(true) => firewall.allow(set, None),
        Some(false) if firewall.allowed(set).is_none() => firewall.allow(set, Some(firewall::Allowed::default())),
        _ => {}
    }
    changed(world)?;
    done()
}
