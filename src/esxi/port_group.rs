//! What a network card is connected to: a network of a host by its name, a distributed port group of a vCenter by its key.
//!
//! Specification: vSphere Web Services API, `VirtualEthernetCardNetworkBackingInfo`,
//! `VirtualEthernetCardDistributedVirtualPortBackingInfo`.

use crate::xml::Element;

use super::error::Error;
use super::hardware::{Hardware, Nic};
use super::host::Host;
use super::lookup::unescape;
use super::moref::MoRef;
use super::object::Network;
use super::places::Reach;
use super::property::{Object, Query, Traversal};

/// The type of a port group of a distributed switch.
pub(super) const DISTRIBUTED: &str = "DistributedVirtualPortgroup";

impl Host {
    /// The backing of a card on a network. Errors: `esxi.invalid_argument` for a network of a kind that is not known here.
    pub(super) async fn nic_backing(&self, network: &Network) -> Result<Element, Error> {
        match network.moref.kind.as_str() {
            "Network" => Ok(Element::new("backing")
                .typed("VirtualEthernetCardNetworkBackingInfo")
                .with(Element::leaf("deviceName", &network.name))),
            DISTRIBUTED => self.port_backing(network).await,
            kind => {
                let reason = format!("the network {:?} is a {kind}, which this client cannot use", network.name);
                let hint = "use a port group of the host itself, or of a distributed switch".to_owned();
                Err(Error::Invalid { reason, hint: Some(hint) })
            }
        }
    }

    /// Gives the cards on distributed port groups the names of these, whatever networks their machine is on by now: in one request, where
    /// a card has no name yet. A port group that is gone, or may not be seen, goes by its key.
    pub(super) async fn name_networks(&self, hardware: &mut Hardware) -> Result<(), Error> {
        let is_unnamed = |nic: &Nic| nic.network.is_none() && nic.port_group.is_some();
        if self.is_vcenter() && hardware.nics.iter().any(is_unnamed) {
            let query = self.link.everything(&[Reach::Networks], vec![(DISTRIBUTED, vec!["name", "key"])]);
            name_port_groups(hardware, &self.link.retrieve(&query).await?);
        }
        for nic in hardware.nics.iter_mut().filter(|nic| is_unnamed(nic)) {
            nic.network.clone_from(&nic.port_group);
        }
        Ok(())
    }

    async fn port_backing(&self, network: &Network) -> Result<Element, Error> {
        let bad = |what: &str| Error::BadAnswer {
            host: self.name().to_owned(),
            reason: format!("a port group {:?} without {what}", network.name),
        };
        let paths: &[&str] = &["key", "config.distributedVirtualSwitch"];
        let groups = self.link.retrieve(&Query::object(&network.moref, DISTRIBUTED, paths)).await?;
        let group = groups.first().ok_or_else(|| bad("anything"))?;
        let key = group.text("key").ok_or_else(|| bad("a key"))?;
        let switch = group.reference("config.distributedVirtualSwitch").ok_or_else(|| bad("a switch"))?;
        let switches = self.link.retrieve(&Query::object(&switch, "DistributedVirtualSwitch", &["uuid"])).await?;
        let uuid = switches.first().and_then(|switch| switch.text("uuid")).ok_or_else(|| bad("a switch's UUID"))?;
        let port =
            Element::new("port").with(Element::leaf("switchUuid", uuid)).with(Element::leaf("portgroupKey", key));
        Ok(Element::new("backing").typed("VirtualEthernetCardDistributedVirtualPortBackingInfo").with(port))
    }
}

/// Adds to a query over a machine what names the port groups of its cards.
pub(super) fn with_networks(query: &mut Query) {
    query.properties.push(("Network", vec!["name"]));
    query.properties.push((DISTRIBUTED, vec!["name", "key"]));
    for from in query.from.iter_mut().filter(|from| from.object.kind == "VirtualMachine") {
        from.steps.push(Traversal { name: "vmNetwork", kind: "VirtualMachine", path: "network", then: &[] });
    }
}

/// Gives the cards on distributed port groups the names of these.
pub(super) fn name_port_groups(hardware: &mut Hardware, objects: &[Object]) {
    let groups: Vec<(&MoRef, Option<&str>, String)> = objects
        .iter()
        .filter(|object| object.moref.kind == DISTRIBUTED)
        .map(|object| (&object.moref, object.text("key"), unescape(&object.string("name"))))
        .collect();
    for nic in hardware.nics.iter_mut().filter(|nic| nic.network.is_none()) {
        let Some(key) = nic.port_group.as_deref() else { continue };
        let found = groups.iter().find(|(moref, own, _)| own.unwrap_or(&moref.id) == key);
        nic.network = found.map(|(_, _, name)| name.clone());
    }
}
