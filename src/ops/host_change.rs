//! Operations that change what a host offers: NFS mounts and port groups. They ask for `host.administer`, in mode unrestricted.

use schemars::JsonSchema;
use serde::Deserialize;

use super::datastore::give_named;
use crate::door::Pass;
use crate::door::bind::{Binder, BoundHost};
use crate::door::object::{Given, Target, kind};
use crate::door::operation::{Effect, Operation, Place, Selector, Touch, touch};
use crate::error::Fault;
use crate::esxi;
use crate::esxi::checked::Checked;

pub(super) const ADMINISTERS: &[Touch] = &[touch("host", "administer", Selector::Argument("host"))];

/// A name that the host can take: it goes into paths and lists as it is.
fn check_name(argument: &str, name: &str, longest: usize) -> Result<(), Fault> {
    let wrong = |why: &str| {
        let shown: String = name.chars().filter(|c| !c.is_control()).take(60).collect();
        Err(Fault::new("usage.argument", format!("{argument}: {shown:?} {why}")).hint("choose another name"))
    };
    if name.trim().is_empty() || name.trim() != name {
        return wrong("is empty, or begins or ends with a space");
    }
    if name.chars().count() > longest {
        return wrong(&format!("is longer than {longest} characters"));
    }
    match name.chars().any(|c| c.is_control() || matches!(c, '/' | '\\' | '%' | '[' | ']')) {
        true => wrong("has a character that no such name may have"),
        false => Ok(()),
    }
}

/// Mounts an NFS export as a datastore, and gives its handle. Errors: `esxi.duplicate_name`, `esxi.already_exists`,
/// `esxi.nas_config_fault` and its like where the server does not answer or refuses.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MountNfs {
    /// The host.
    pub host: Target<kind::Host>,
    /// The new datastore's name, up to 42 characters.
    pub name: String,
    /// The server's name or address.
    pub server: String,
    /// The export's path on the server, such as `/export/isos`.
    pub path: String,
    /// Whether the host may only read it. Default: false.
    pub read_only: Option<bool>,
    /// The version of the protocol. Default: 3.
    #[schemars(extend("enum" = ["3", "4.1"]))]
    pub version: Option<String>,
}

impl Operation for MountNfs {
    const NAME: &'static str = "datastore.mount_nfs";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = Place::Method { kind: "host", name: "mount_nfs" };
    const TOUCHES: &'static [Touch] = ADMINISTERS;
    const USAGE: &'static str = "local store = host:mount_nfs({ name = \"isos\", server = \"10.0.1.5\", path = \"/export/isos\", read_only = true })\nprint(store.name, store.type)\nhost:unmount_nfs(\"isos\")";

    type Bound = BoundHost;
    type Output = Given<kind::Datastore>;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundHost, Fault> {
        check_name("name", &self.name, 42)?;
        if !self.path.starts_with('/') || self.path.len() > 1024 || self.path.chars().any(char::is_control) {
            return Err(Fault::new("usage.argument", "path: an export's path begins with /")
                .hint("write it as the server exports it, such as \"/export/isos\""));
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '_');
        if self.server.is_empty() || self.server.len() > 255 || !self.server.chars().all(plain) {
            return Err(
                Fault::new("usage.argument", "server: no name or address of a server").hint("such as \"10.0.1.5\"")
            );
        }
        if !matches!(self.version.as_deref(), None | Some("3" | "4.1")) {
            return Err(Fault::new("usage.argument", "version: the versions are 3 and 4.1"));
        }
        binder.host_for(&self.host, "administer")
    }

    async fn act(self, bound: BoundHost, pass: &Pass<'_>) -> Result<Self::Output, Fault> {
        let mount = esxi::NfsMount {
            name: self.name,
            server: self.server,
            path: self.path,
            read_only: self.read_only == Some(true),
            version_4: self.version.as_deref() == Some("4.1"),
        };
        let made = bound.host.client.mount_nfs(&bound.system, &mount).await?;
        give_named(pass, &bound, &made.name).await
    }
}

/// Takes an NFS mount away; what lies on the server stays as it is.
///
/// Any other datastore is refused, for with it all that lies on it would be gone; and so is a mount that a registered machine has files
/// on. Errors: `esxi.datastore_not_found`, `esxi.invalid_argument`, `esxi.in_use`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UnmountNfs {
    /// The host.
    pub host: Target<kind::Host>,
    /// The datastore's name.
    pub name: String,
}

impl Operation for UnmountNfs {
    const NAME: &'static str = "datastore.unmount_nfs";
    const EFFECT: Effect = Effect::Destroy;
    const PLACE: Place = Place::Method { kind: "host", name: "unmount_nfs" };
    const POSITIONAL: &'static [&'static str] = &["name"];
    const TOUCHES: &'static [Touch] = &[
        touch("host", "administer", Selector::Argument("host")),
        touch("datastore", "read", Selector::Argument("name")),
    ];
    const USAGE: &'static str =
        "host:mount_nfs({ name = \"old\", server = \"10.0.1.5\", path = \"/export/old\" })\nhost:unmount_nfs(\"old\")";

    type Bound = (BoundHost, Checked<esxi::Datastore>);
    type Output = ();

    async fn bind(&self, binder: &Binder<'_>) -> Result<Self::Bound, Fault> {
        let bound = binder.host_for(&self.host, "administer")?;
        let datastore = binder.datastore(&bound, &self.name, "read").await?;
        Ok((bound, datastore))
    }

    async fn act(self, (bound, datastore): Self::Bound, pass: &Pass<'_>) -> Result<(), Fault> {
        let rows = bound.host.client.list_vms(&bound.system, esxi::Detail::Full).await?;
        let users = rows.into_iter().map(|row| row.vm).filter(|vm| vm.datastores.contains(&datastore.name));
        refuse_in_use(pass, &format!("the datastore {:?}", datastore.name), users.map(|vm| vm.name).collect())?;
        Ok(bound.host.client.unmount_nfs(&bound.system, &datastore).await?)
    }
}

/// Refuses what machines use, naming those that may be read.
fn refuse_in_use(pass: &Pass<'_>, what: &str, users: Vec<String>) -> Result<(), Fault> {
    if users.is_empty() {
        return Ok(());
    }
    let named = users.iter().filter(|name| pass.may_read("vm", name)).take(20);
    let mut told: Vec<String> = named.map(|name| format!("{name:?}")).collect();
    match users.len() - told.len() {
        0 => {}
        others => told.push(format!("{others} more")),
    }
    Err(Fault::new("esxi.in_use", format!("{what} is in use: {}", told.join(", ")))
        .hint("move these machines elsewhere, or destroy or unregister them first"))
}

/// Adds a port group to a standard switch: a network that machines can be connected to.
///
/// Errors: `esxi.already_exists` where a port group has that name, `esxi.not_found` where there is no such switch.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AddPortGroup {
    /// The host.
    pub host: Target<kind::Host>,
    /// Its name.
    pub name: String,
    /// Its VLAN: 0 for none, 1 to 4094, 4095 for all. Default: 0.
    pub vlan: Option<u16>,
    /// The switch. Default: `vSwitch0`.
    pub switch: Option<String>,
}

impl Operation for AddPortGroup {
    const NAME: &'static str = "network.add_port_group";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = Place::Method { kind: "host", name: "add_port_group" };
    const TOUCHES: &'static [Touch] = ADMINISTERS;
    const USAGE: &'static str = "host:add_port_group({ name = \"lab\", vlan = 42 })\nhost:remove_port_group(\"lab\")";

    type Bound = BoundHost;
    type Output = ();

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundHost, Fault> {
        check_name("name", &self.name, 80)?;
        check_name("switch", self.switch.as_deref().unwrap_or("vSwitch0"), 80)?;
        if self.vlan.is_some_and(|vlan| vlan > 4095) {
            return Err(Fault::new("usage.argument", "vlan: a VLAN is a number of 0 to 4095"));
        }
        binder.host_for(&self.host, "administer")
    }

    async fn act(self, bound: BoundHost, _: &Pass<'_>) -> Result<(), Fault> {
        let group = esxi::PortGroup {
            name: self.name,
            vlan: self.vlan.unwrap_or(0),
            switch: self.switch.unwrap_or_else(|| "vSwitch0".to_owned()),
            host_cards: Vec::new(),
        };
        Ok(bound.host.client.add_port_group(&bound.system, &group).await?)
    }
}

/// Removes a port group that nothing uses: no machine, running or not, and no network card of the host itself.
///
/// Errors: `esxi.in_use`, `esxi.network_not_found`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RemovePortGroup {
    /// The host.
    pub host: Target<kind::Host>,
    /// Its name.
    pub name: String,
}

impl Operation for RemovePortGroup {
    const NAME: &'static str = "network.remove_port_group";
    const EFFECT: Effect = Effect::Destroy;
    const PLACE: Place = Place::Method { kind: "host", name: "remove_port_group" };
    const POSITIONAL: &'static [&'static str] = &["name"];
    const TOUCHES: &'static [Touch] = &[
        touch("host", "administer", Selector::Argument("host")),
        touch("network", "read", Selector::Argument("name")),
    ];
    const USAGE: &'static str = "host:add_port_group({ name = \"old\" })\nhost:remove_port_group(\"old\")";

    type Bound = BoundHost;
    type Output = ();

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundHost, Fault> {
        let bound = binder.host_for(&self.host, "administer")?;
        binder.named("network", "read", &self.name)?;
        Ok(bound)
    }

    async fn act(self, bound: BoundHost, pass: &Pass<'_>) -> Result<(), Fault> {
        let client = &bound.host.client;
        let groups = client.port_groups(&bound.system).await?;
        let Some(group) = groups.iter().find(|group| group.name == self.name) else {
            return Err(Fault::new(
                "esxi.network_not_found",
                format!("{} has no port group {:?}", bound.host.name, self.name),
            )
            .hint("list what there is: ceso host portgroup list"));
        };
        if !group.host_cards.is_empty() {
            let cards = group.host_cards.join(", ");
            return Err(Fault::new(
                "esxi.in_use",
                format!("the port group {:?} carries the host's own {cards}", self.name),
            )
            .hint("without it the host may not be reached any more: it is not removed from here"));
        }
        refuse_in_use(
            pass,
            &format!("the port group {:?}", self.name),
            client.machines_on(&bound.system, &self.name).await?,
        )?;
        Ok(client.remove_port_group(&bound.system, &self.name).await?)
    }
}
