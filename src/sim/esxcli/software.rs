//! `esxcli software` and `esxcli iscsi software`: what is installed, which is one package.

use super::namespace::{Arguments, Column, Command, Denial, Kind, Namespace, Shape, Told, one, opt};
use crate::sim::call::Call;
use crate::sim::service::PRODUCT;
use crate::sim::world::World;

use Kind::{Text, Truth};

const SHORT: &[Column] = &[
    Column("Name", Text),
    Column("Version", Text),
    Column("Vendor", Text),
    Column("Acceptance Level", Text),
    Column("Install Date", Text),
    Column("Platforms", Text),
];

pub const NAMESPACES: &[Namespace] = &[
    Namespace {
        name: "iscsi.software",
        help: "Operations that can be performed on software iSCSI",
        commands: &[Command {
            name: "get",
            help: "Software iSCSI information.",
            options: &[],
            shape: Shape::One(Truth),
            act: |_, _, _| Ok(Told::One("false".to_owned())),
        }],
    },
    Namespace {
        name: "software.acceptance",
        help: "Retrieve and set the host acceptance level setting.",
        commands: &[Command {
            name: "get",
            help: "Gets the Host Acceptance Level.",
            options: &[],
            shape: Shape::One(Text),
            act: |_, _, _| Ok(Told::One("PartnerSupported".to_owned())),
        }],
    },
    Namespace {
        name: "software.profile",
        help: "Display, install, update, or validate image profiles.",
        commands: &[Command {
            name: "get",
            help: "Display the installed image profile, if one exists.",
            options: &[],
            shape: Shape::Record("ImageProfile", &[Column("Name", Text), Column("Vendor", Text), Column("VIBs", Text)]),
            act: |_, _, _| {
                let name = format!("ESXi-{}-{}-standard", PRODUCT.0, PRODUCT.1);
                Ok(Told::Rows(vec![vec![one(name), one("VMware, Inc."), one(format!("esx-base {}", version()))]]))
            },
        }],
    },
    Namespace {
        name: "software.vib",
        help: "Install, update, remove, or display individual VIB packages",
        commands: &[
            Command {
                name: "get",
                help: "Displays detailed information about one or more installed VIBs",
                options: &[opt(
                    "vibname",
                    'n',
                    Text,
                    "Specifies one or more installed VIBs to display more information about.",
                )],
                shape: Shape::List("VIBExt", SHORT),
                act: packages,
            },
            Command {
                name: "list",
                help: "Lists the installed VIB packages",
                options: &[],
                shape: Shape::Table("SummaryExt", SHORT),
                act: packages,
            },
        ],
    },
];

fn version() -> String {
    format!("{}-0.0.{}", PRODUCT.0, PRODUCT.1)
}

fn packages(world: &mut World, _: &Call, given: &Arguments) -> Result<Told, Denial> {
    let name = "esx-base";
    if given.text("vibname").is_some_and(|wanted| wanted != name) {
        return Err(Denial::said(format!("[NoMatchError] id={}", given.text("vibname").unwrap_or_default())));
    }
    let row = [name, &version(), "VMware", "VMwareCertified", &world.started.date().to_string(), "host"];
    Ok(Told::Rows(vec![row.map(one).to_vec()]))
}
