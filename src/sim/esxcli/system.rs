//! `esxcli system`: version, names, clock, maintenance, advanced options, accounts.

use time::OffsetDateTime;

use super::namespace::{Arguments, Column, Command, Denial, Kind, Namespace, Shape, Told, need, one, opt};
use crate::sim::call::Call;
use crate::sim::encode::timestamp;
use crate::sim::esx::HOST_NAME;
use crate::sim::esx::options::{self, Setting, Setup};
use crate::sim::service::PRODUCT;
use crate::sim::world::World;

use Kind::{Number, Text, Truth};

pub const NAMESPACES: &[Namespace] = &[
    Namespace {
        name: "system.account",
        help: "Commands that are used to manage local user accounts",
        commands: &[Command {
            name: "list",
            help: "List local user accounts.",
            options: &[],
            shape: Shape::Table("Account", &[Column("User ID", Text), Column("Description", Text)]),
            act: accounts,
        }],
    },
    Namespace {
        name: "system.hostname",
        help: "Operations pertaining the network name of the ESX host.",
        commands: &[Command {
            name: "get",
            help: "Get the host, domain or fully qualified name of the ESX host.",
            options: &[],
            shape: Shape::Record(
                "FullyQualifiedHostName",
                &[Column("Domain Name", Text), Column("Fully Qualified Domain Name", Text), Column("Host Name", Text)],
            ),
            act: |_, _, _| {
                let (host, domain) = HOST_NAME.split_once('.').unwrap_or((HOST_NAME, ""));
                Ok(Told::Rows(vec![vec![one(domain), one(HOST_NAME), one(host)]]))
            },
        }],
    },
    Namespace {
        name: "system.maintenanceMode",
        help: "Command to manage the system's maintenance mode.",
        commands: &[Command {
            name: "get",
            help: "Get the maintenance mode state of the system.",
            options: &[],
            shape: Shape::One(Text),
            act: |world, _, _| Ok(Told::One(if world.file.maintenance { "Enabled" } else { "Disabled" }.to_owned())),
        }],
    },
    Namespace {
        name: "system.settings.advanced",
        help: "The advanced settings are a set of VMkernel options.",
        commands: &[
            Command {
                name: "list",
                help: "List the advanced options available from the VMkernel.",
                options: &[
                    opt("delta", 'd', Truth, "Only display options whose values differ from their default."),
                    opt("option", 'o', Text, "Only get the information for a single VMkernel advanced option."),
                    opt("tree", 't', Text, "Limit the list of advanced option to a specific sub tree."),
                ],
                shape: Shape::List(
                    "SettingsAdvancedOption",
                    &[
                        Column("Path", Text),
                        Column("Type", Text),
                        Column("Int Value", Number),
                        Column("Default Int Value", Number),
                        Column("Min Value", Number),
                        Column("Max Value", Number),
                        Column("String Value", Text),
                        Column("Default String Value", Text),
                        Column("Valid Characters", Text),
                        Column("Description", Text),
                        Column("Host Specific", Truth),
                        Column("Impact", Text),
                    ],
                ),
                act: list,
            },
            Command {
                name: "set",
                help: "Set the value of an advanced option.",
                options: &[
                    opt("default", 'd', Truth, "Reset the option to its default value."),
                    opt("int-value", 'i', Number, "If the option is an integer value use this option."),
                    need("option", 'o', Text, "The name of the option to set the value of."),
                    opt("string-value", 's', Text, "If the option is a string use this option."),
                ],
                shape: Shape::One(Truth),
                act: set,
            },
        ],
    },
    Namespace {
        name: "system.stats.uptime",
        help: "System uptime",
        commands: &[Command {
            name: "get",
            help: "Display the number of microseconds the system has been running.",
            options: &[],
            shape: Shape::One(Number),
            act: |world, _, _| {
                Ok(Told::One((OffsetDateTime::now_utc() - world.started).whole_microseconds().to_string()))
            },
        }],
    },
    Namespace {
        name: "system.time",
        help: "Commands to get and set system time.",
        commands: &[Command {
            name: "get",
            help: "Display the current system time.",
            options: &[],
            shape: Shape::One(Text),
            act: |_, _, _| Ok(Told::One(timestamp(OffsetDateTime::now_utc()))),
        }],
    },
    Namespace {
        name: "system.uuid",
        help: "Get the system UUID.",
        commands: &[Command {
            name: "get",
            help: "Get the system UUID.",
            options: &[],
            shape: Shape::One(Text),
            act: |world, _, _| Ok(Told::One(world.file.uuid.clone())),
        }],
    },
    Namespace {
        name: "system.version",
        help: "Commands to get version information.",
        commands: &[Command {
            name: "get",
            help: "Display the product name, version and build information.",
            options: &[],
            shape: Shape::Record(
                "Version",
                &[
                    Column("Build", Text),
                    Column("Patch", Text),
                    Column("Product", Text),
                    Column("Update", Text),
                    Column("Version", Text),
                ],
            ),
            act: |_, _, _| {
                let (version, build) = PRODUCT;
                let update = version.rsplit('.').next().unwrap_or("0");
                let build = format!("Releasebuild-{build}");
                Ok(Told::Rows(vec![vec![one(build), one("0"), one("VMware ESXi"), one(update), one(version)]]))
            },
        }],
    },
];

fn accounts(world: &mut World, call: &Call, _: &Arguments) -> Result<Told, Denial> {
    let session = call.session.as_deref().and_then(|key| world.sessions.by_key(key));
    let user = session.map(|session| session.user.clone()).unwrap_or_default();
    Ok(Told::Rows(vec![vec![one(user), one("Administrator")]]))
}

/// How the command line names an option: `/Net/GuestIPHack`.
fn path(setup: &Setup) -> String {
    format!("/{}", setup.key.replace('.', "/"))
}

fn list(world: &mut World, _: &Call, given: &Arguments) -> Result<Told, Denial> {
    let (option, tree) = (given.text("option"), given.text("tree").unwrap_or("/"));
    let delta = given.truth("delta") == Some(true);
    let rows: Vec<_> = options::all()
        .filter(|setup| option.is_none_or(|option| path(setup) == option) && path(setup).starts_with(tree))
        .filter(|setup| !delta || setup.now(world) != setup.usual())
        .map(|setup| row(setup, &setup.now(world)))
        .collect();
    match (rows.is_empty(), option) {
        (true, Some(option)) => Err(Denial::said(format!("Unable to find option {option}"))),
        _ => Ok(Told::Rows(rows)),
    }
}

fn row(setup: &Setup, now: &Setting) -> Vec<Vec<String>> {
    let number = |setting: &Setting| match setting {
        Setting::Number(number) => one(number),
        Setting::Switch(on) => one(i64::from(*on)),
        Setting::Text(_) => Vec::new(),
    };
    let text = |setting: &Setting| match setting {
        Setting::Text(text) => one(text),
        _ => Vec::new(),
    };
    let usual = setup.usual();
    let is_text = matches!(usual, Setting::Text(_));
    let bound = |pick: fn((i64, i64)) -> i64| setup.bounds().map(|bounds| one(pick(bounds))).unwrap_or_default();
    vec![
        one(path(setup)),
        one(if is_text { "string" } else { "integer" }),
        number(now),
        number(&usual),
        bound(|(least, _)| least),
        bound(|(_, most)| most),
        text(now),
        text(&usual),
        if is_text { one("**") } else { Vec::new() },
        one(setup.summary),
        one(false),
        one("none"),
    ]
}

fn set(world: &mut World, _: &Call, given: &Arguments) -> Result<Told, Denial> {
    let wanted = given.text("option").unwrap_or_default();
    let setup = options::all().find(|setup| path(setup) == wanted);
    let setup = setup.ok_or_else(|| Denial::said(format!("Unable to find option {wanted}")))?;
    match (given.truth("default"), given.number("intvalue"), given.text("stringvalue")) {
        (Some(true), None, None) => setup.reset(world)?,
        (_, Some(number), None) => setup.set(world, Setting::Number(number))?,
        (_, None, Some(text)) => setup.set(world, Setting::Text(text.to_owned()))?,
        _ => return Err(Denial::said("One of --default, --int-value and --string-value is given")),
    }
    Ok(Told::One("true".to_owned()))
}
