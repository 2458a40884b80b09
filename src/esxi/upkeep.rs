//! What is done to a host itself: exports mounted as datastores, port groups, maintenance mode, shutting down.
//!
//! A datastore is taken away only where it is a mount: of one on a disk of the host's own it would be the end.
//! Specification: vSphere Web Services API, `HostDatastoreSystem`, `HostNetworkSystem`, `HostSystem`.

use std::time::Duration;

use crate::xml::Element;

use super::checked::Checked;
use super::error::Error;
use super::host::{Host, Progress};
use super::lookup::unescape;
use super::moref::MoRef;
use super::object::{Datastore, HostObject};
use super::places::Reach;
use super::soap::{Call, Method};
use super::task::Task;
use super::vm_list::text;

/// An export of another machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NfsMount {
    /// The name of the datastore.
    pub name: String,
    pub server: String,
    /// Where it is on the server; it begins with `/`.
    pub path: String,
    pub read_only: bool,
    /// NFS 4.1 in place of 3.
    pub version_4: bool,
}

/// A port group of a standard switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortGroup {
    pub name: String,
    /// 0 for none, 4095 for all.
    pub vlan: u16,
    pub switch: String,
    /// The host's own network cards on it, such as `vmk0`.
    pub host_cards: Vec<String>,
}

impl Host {
    /// Mounts an export as a datastore. Errors: `esxi.duplicate_name`, `esxi.already_exists` where it is mounted already.
    pub async fn mount_nfs(&self, _host: &Checked<HostObject>, mount: &NfsMount) -> Result<Datastore, Error> {
        let doing = |error: Error| error.doing(format!("mount {}:{} as {:?}", mount.server, mount.path, mount.name));
        let system = self.manager("configManager.datastoreSystem").await?;
        let mut spec = Element::new("spec")
            .with(Element::leaf("remoteHost", &mount.server))
            .with(Element::leaf("remotePath", &mount.path))
            .with(Element::leaf("localPath", &mount.name))
            .with(Element::leaf("accessMode", if mount.read_only { "readOnly" } else { "readWrite" }))
            .with(Element::leaf("type", if mount.version_4 { "NFS41" } else { "NFS" }));
        if mount.version_4 {
            spec = spec.with(Element::leaf("remoteHostNames", &mount.server));
        }
        let answer = self.link.call(&Call::new(&system, Method::CreateNasDatastore).with(spec)).await.map_err(doing)?;
        let moref = answer.child("returnval").and_then(MoRef::read).ok_or_else(|| Error::BadAnswer {
            host: self.name().to_owned(),
            reason: "a mount without a datastore".to_owned(),
        })?;
        Ok(Datastore { moref, name: mount.name.clone() })
    }

    /// Takes a mount away; what lies on the server stays. The file system is looked at here: any other datastore is refused.
    pub async fn unmount_nfs(&self, host: &Checked<HostObject>, datastore: &Checked<Datastore>) -> Result<(), Error> {
        let rows = self.list_datastores(host).await?;
        let row = rows.iter().find(|row| row.datastore.moref == datastore.moref);
        if !row.is_some_and(|row| matches!(row.kind.as_str(), "NFS" | "NFS41")) {
            return Err(Error::Invalid {
                reason: format!("the datastore {:?} on {} is no NFS mount", datastore.name, self.name()),
                hint: Some("a datastore on a disk of the host is not taken away: all of it would be lost".to_owned()),
            });
        }
        let system = self.manager("configManager.datastoreSystem").await?;
        let call = Call::new(&system, Method::RemoveDatastore).with_ref("datastore", &datastore.moref);
        let done = self.link.call(&call).await;
        done.map(|_| ()).map_err(|error| error.doing(format!("unmount {:?}", datastore.name)))
    }

    /// The port groups of the host's switches.
    pub async fn port_groups(&self, _host: &Checked<HostObject>) -> Result<Vec<PortGroup>, Error> {
        let system = self.system(&["config.network.portgroup", "config.network.vnic"]).await?;
        let list = |path| system.get(path).map(|list| list.children.as_slice()).unwrap_or_default();
        let groups = list("config.network.portgroup").iter().filter_map(|group| {
            let name = text(group, "spec.name")?;
            let cards =
                list("config.network.vnic").iter().filter(|card| text(card, "portgroup").as_ref() == Some(&name));
            Some(PortGroup {
                vlan: text(group, "spec.vlanId").and_then(|vlan| vlan.parse().ok()).unwrap_or(0),
                switch: text(group, "spec.vswitchName").unwrap_or_default(),
                host_cards: cards.filter_map(|card| text(card, "device")).collect(),
                name,
            })
        });
        Ok(groups.collect())
    }

    /// The names of the machines, running or not, with a card on the network of that name.
    pub async fn machines_on(&self, _host: &Checked<HostObject>, network: &str) -> Result<Vec<String>, Error> {
        let properties = vec![("Network", vec!["name", "vm"]), ("VirtualMachine", vec!["name"])];
        let query = self.link.everything(&[Reach::Vms, Reach::Networks], properties);
        let objects = self.link.retrieve(&query).await?;
        let on = objects.iter().filter(|object| unescape(&object.string("name")) == network);
        let machines: Vec<MoRef> = on.flat_map(|object| object.references("vm")).collect();
        let named = objects.iter().filter(|object| machines.contains(&object.moref));
        Ok(named.map(|object| unescape(&object.string("name"))).collect())
    }

    /// Adds a port group. Errors: `esxi.already_exists`, `esxi.not_found` where there is no such switch.
    pub async fn add_port_group(&self, _host: &Checked<HostObject>, group: &PortGroup) -> Result<(), Error> {
        let system = self.manager("configManager.networkSystem").await?;
        let spec = Element::new("portgrp")
            .with(Element::leaf("name", &group.name))
            .with(Element::leaf("vlanId", group.vlan.to_string()))
            .with(Element::leaf("vswitchName", &group.switch))
            .with(Element::new("policy"));
        let done = self.link.call(&Call::new(&system, Method::AddPortGroup).with(spec)).await;
        done.map(|_| ()).map_err(|error| error.doing(format!("add the port group {:?}", group.name)))
    }

    /// Removes a port group that nothing uses; who uses it is the caller's to look at first.
    pub async fn remove_port_group(&self, _host: &Checked<HostObject>, name: &str) -> Result<(), Error> {
        let system = self.manager("configManager.networkSystem").await?;
        let done = self.link.call(&Call::new(&system, Method::RemovePortGroup).with_text("pgName", name)).await;
        done.map(|_| ()).map_err(|error| error.doing(format!("remove the port group {name:?}")))
    }

    /// Puts the host into maintenance mode. A standalone host moves no machine away: it waits, at most so long, until none runs.
    pub async fn enter_maintenance(
        &self,
        _host: &Checked<HostObject>,
        timeout: Duration,
        progress: Progress<'_>,
    ) -> Result<(), Error> {
        let system = self.system(&["name"]).await?;
        let call = Call::new(&system.moref, Method::EnterMaintenanceMode)
            .with_text("timeout", timeout.as_secs().max(1).to_string())
            .with_text("evacuatePoweredOffVms", "false");
        Task::start(self, "enter maintenance mode", &call).await?.done(progress).await.map(|_| ())
    }

    /// Takes the host out of maintenance mode.
    pub async fn exit_maintenance(&self, _host: &Checked<HostObject>, progress: Progress<'_>) -> Result<(), Error> {
        let system = self.system(&["name"]).await?;
        let call = Call::new(&system.moref, Method::ExitMaintenanceMode).with_text("timeout", "0");
        Task::start(self, "exit maintenance mode", &call).await?.done(progress).await.map(|_| ())
    }

    /// Shuts the host down, or restarts it, once the request was taken. Whatever still runs loses its power: the caller looks first.
    pub async fn shut_down(&self, _host: &Checked<HostObject>, restart: bool) -> Result<(), Error> {
        let system = self.system(&["runtime.inMaintenanceMode"]).await?;
        let force = system.flag("runtime.inMaintenanceMode") != Some(true);
        let method = if restart { Method::RebootHost } else { Method::ShutdownHost };
        // The task is not awaited: the host that would tell of its end goes down.
        let call = Call::new(&system.moref, method).with_text("force", force.to_string());
        self.link.call(&call).await.map_err(|error| error.doing("shut the host down"))?;
        self.link.goes_down()
    }
}
