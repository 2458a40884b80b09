//! A checked document: opaque, without a machine yet; a machine's cards and UUID make guestinfo or a seed image of it.

use std::fmt;
use std::net::IpAddr;

use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::encode::{self, GuestInfo};
use super::error::{At, Error};
use super::iso::{self, Iso};
use super::mac::MacAddress;
use super::meta_data::MetaData;
use super::network::{self, Network};
use super::outline;
use super::reip::{self, Reip};
use super::spec::{Dialect, Spec};
use super::warning::{self, Warning};
use super::yaml;
use super::{user_data, windows};
use crate::error::Fault;

/// A cloud-init document whose every field has been checked. Made by [`super::build`] and [`super::reip`] alone.
///
/// Debug shows the host name only: the content may hold secrets.
#[derive(Clone)]
pub struct Document {
    hostname: Option<String>,
    kind: Kind,
    user_data: Zeroizing<String>,
    vendor_data: Option<Zeroizing<String>>,
    /// Windows: keys for the administrator's account, which stand in the meta-data.
    public_keys: Vec<String>,
    network: Option<Network>,
    outline: Value,
    warnings: Vec<Warning>,
}

/// What a document is for: it decides the instance-id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A machine's first boot.
    First,
    /// A new network for a machine that has booted.
    Reip,
}

/// The machine that a document is for: what is known of it once it exists.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The machine's `instanceUuid` (or BIOS UUID): the instance-id comes from it.
    pub uuid: &'a str,
    /// The MAC addresses of its network cards, in the machine's own order.
    pub macs: &'a [MacAddress],
}

/// The texts of a document for one machine.
pub(super) struct Rendered<'a> {
    pub(super) meta_data: MetaData<'a>,
    pub(super) user_data: &'a str,
    pub(super) vendor_data: Option<&'a str>,
}

pub(super) fn build(spec: &Spec) -> Result<Document, Error> {
    let at = At::root();
    let (user_data, public_keys) = match spec.dialect {
        Dialect::CloudInit => (user_data::build(spec)?, Vec::new()),
        Dialect::CloudbaseInit => windows::build(spec)?,
    };
    let network = match &spec.network {
        Some(nics) => Some(network::check(&at.field("network"), nics)?),
        None => None,
    };
    if let (Dialect::CloudbaseInit, Some(nics)) = (spec.dialect, &spec.network) {
        windows::network(&at.field("network"), nics)?;
    }
    let vendor_data = match &spec.vendor_data {
        Some(text) => Some(user_data::vendor_data(&at.field("vendor_data"), text)?),
        None => None,
    };
    // What is too large for any machine is refused now, not when a machine has been made for it.
    if encode::may_be_too_large(&user_data, vendor_data.as_deref().map_or("", |text| text)) {
        GuestInfo::new("", &user_data, vendor_data.as_deref().map(String::as_str))?;
    }
    let outline = outline::of(spec, network.as_ref());
    let warnings = warning::of(spec);
    let hostname = Some(spec.hostname.clone());
    Ok(Document { hostname, kind: Kind::First, user_data, vendor_data, public_keys, network, outline, warnings })
}

pub(super) fn reip(reip: &Reip) -> Result<Document, Error> {
    let user_data = reip::user_data(reip)?;
    let network = network::check(&At::root().field("network"), &reip.network)?;
    let outline = outline::of_reip(reip, &network);
    let warnings = warning::of_network(&reip.network);
    Ok(Document {
        hostname: reip.hostname.clone(),
        kind: Kind::Reip,
        user_data,
        vendor_data: None,
        public_keys: Vec::new(),
        network: Some(network),
        outline,
        warnings,
    })
}

impl Document {
    /// The guestinfo for one machine.
    ///
    /// The instance-id of a first boot comes from the machine's UUID alone. So a guest acts on the first document that it boots with, and on none
    /// that is sent later: it keeps its address, its host keys and its accounts. That of a re-IP comes from the UUID and the network.
    /// Errors: `cloudinit.invalid` (fewer cards than the document configures, no card with a MAC address
    /// that it names, a UUID that is none), `cloudinit.too_large`.
    pub fn guestinfo(&self, target: Target<'_>) -> Result<GuestInfo, Fault> {
        let rendered = self.rendered(target)?;
        Ok(GuestInfo::new(&rendered.meta_data.for_vmware()?, rendered.user_data, rendered.vendor_data)?)
    }

    /// The same as [`Document::guestinfo`].
    pub fn render(&self, target: Target<'_>) -> Result<GuestInfo, Fault> {
        self.guestinfo(target)
    }

    /// A NoCloud seed image for one machine: an ISO 9660 file system with the label `cidata`, for a guest that does not read guestinfo.
    ///
    /// Deterministic, as guestinfo is. Errors: as those of [`Document::guestinfo`]; `cloudinit.too_large` above 16 MiB.
    pub fn iso(&self, target: Target<'_>) -> Result<Iso, Fault> {
        Ok(iso::write(&self.rendered(target)?)?)
    }

    fn rendered(&self, target: Target<'_>) -> Result<Rendered<'_>, Error> {
        let uuid = Uuid::parse_str(target.uuid).map_err(|_| Error::NotAUuid(target.uuid.chars().take(64).collect()))?;
        let network = match &self.network {
            Some(network) => Some(network.render(target.macs)?),
            None => None,
        };
        let instance_id = match self.kind {
            Kind::First => format!("ceso-{uuid}"),
            Kind::Reip => {
                let text = yaml::to_text(network.as_ref().unwrap_or(&Value::Null))?;
                let hash: String =
                    Sha256::digest(text.as_bytes()).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
                format!("ceso-{uuid}-{hash}")
            }
        };
        let meta_data =
            MetaData { instance_id, hostname: self.hostname.as_deref(), public_keys: &self.public_keys, network };
        Ok(Rendered {
            meta_data,
            user_data: &self.user_data,
            vendor_data: self.vendor_data.as_deref().map(String::as_str),
        })
    }

    /// About how much memory it takes, in bytes.
    pub fn size(&self) -> usize {
        self.user_data.len() + self.vendor_data.as_deref().map_or(0, String::len) + (4 << 10)
    }

    /// The machine's host name; a re-IP may have none.
    pub fn hostname(&self) -> Option<&str> {
        self.hostname.as_deref()
    }

    /// Whether it is for a machine that already runs, and changes its network alone.
    pub fn is_reip(&self) -> bool {
        self.kind == Kind::Reip
    }

    /// The addresses given by hand, of all cards: what the guest must report once it is provisioned. Empty where DHCP decides.
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.network.iter().flat_map(Network::addresses).collect()
    }

    /// What the document does, for people, plans and records: SSH keys as fingerprints, files and commands without their text, secrets by name.
    pub fn describe(&self) -> &Value {
        &self.outline
    }

    /// What is allowed and yet probably not meant: nobody can log in, a static address without a name server.
    pub fn check(&self) -> &[Warning] {
        &self.warnings
    }

    /// The user-data as the guest gets it. It may hold secrets: for the guest and for tests, never for a log.
    pub fn user_data(&self) -> &str {
        &self.user_data
    }

    /// The vendor data as the guest gets it. It may hold secrets, as user-data may.
    pub fn vendor_data(&self) -> Option<&str> {
        self.vendor_data.as_deref().map(String::as_str)
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Document").field("hostname", &self.hostname).finish_non_exhaustive()
    }
}
