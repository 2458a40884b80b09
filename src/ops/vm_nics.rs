//! Operations on a machine's network cards and CD-ROM drives.

use schemars::JsonSchema;
use serde::Deserialize;

use super::rows::{Drive, Nic};
use crate::door::Pass;
use crate::door::bind::{Binder, BoundVm};
use crate::door::object::{Target, kind};
use crate::door::operation::{Effect, Operation, Place, Selector, Touch, touch};
use crate::error::Fault;
use crate::esxi::checked::Checked;
use crate::esxi::{self, FilePath, NicChange, NicSpec};

const CONFIGURES: Touch = touch("vm", "configure", Selector::Argument("vm"));
const PLUGS: &[Touch] = &[CONFIGURES, touch("network", "use", Selector::Argument("network"))];
const INSERTS: &[Touch] = &[CONFIGURES, touch("datastore", "copy_from", Selector::Argument("datastore"))];

const fn method(name: &'static str) -> Place {
    Place::Method { kind: "vm", name }
}

/// Models of network cards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NicType {
    Vmxnet3,
    E1000e,
    E1000,
}

impl NicType {
    fn name(self) -> &'static str {
        match self {
            Self::Vmxnet3 => "vmxnet3",
            Self::E1000e => "e1000e",
            Self::E1000 => "e1000",
        }
    }
}

/// Refuses what is no address of one card. In lower case, as a host writes it.
fn mac(operation: &str, text: Option<&str>) -> Result<Option<String>, Fault> {
    let Some(text) = text else { return Ok(None) };
    let parts: Vec<Option<u8>> = text
        .split(':')
        .map(|part| u8::from_str_radix(part, 16).ok().filter(|_| part.len() == 2 && !part.starts_with('+')))
        .collect();
    let one = parts.first().copied().flatten().is_some_and(|first| first & 1 == 0);
    match parts.len() == 6 && parts.iter().all(Option::is_some) && one && parts.iter().any(|part| *part != Some(0)) {
        true => Ok(Some(text.to_ascii_lowercase())),
        false => Err(Fault::new("usage.argument", format!("{operation}: mac: {text:?} is no card's address"))
            .hint("such as 00:50:56:12:34:56; it is not one of a group")),
    }
}

/// The device that a word means: its label, or what else tells it apart. A label that two have means neither.
pub(super) fn labelled<'a, T>(
    name: &str,
    all: &'a [T],
    label: impl Fn(&T) -> &str,
    other: impl Fn(&T) -> Option<&str>,
    word: &str,
    (what, by): (&str, &str),
) -> Result<&'a T, Fault> {
    let found: Vec<&T> = all.iter().filter(|one| label(one) == word || other(one) == Some(word)).collect();
    match found.as_slice() {
        [one] => Ok(one),
        [] => {
            let fault = Fault::new("esxi.device_not_found", format!("{name:?} has no {what} {word:?}"));
            Err(match all.is_empty() {
                true => fault.hint("it has none"),
                false => fault.hint(format!("it has: {}", all.iter().map(&label).collect::<Vec<_>>().join(", "))),
            })
        }
        several => {
            let told: Vec<&str> = several.iter().filter_map(|one| other(one)).collect();
            Err(Fault::new(
                "esxi.ambiguous",
                format!("{} of the {what}s of {name:?} are called {word:?}", several.len()),
            )
            .hint(format!("say which one by its {by}: {}", told.join(", "))))
        }
    }
}

/// A network card, by its label or its address.
fn nic<'a>(info: &'a esxi::VmInfo, word: &str) -> Result<&'a esxi::Nic, Fault> {
    let what = ("network card", "MAC address");
    labelled(&info.row.vm.name, &info.hardware.nics, |nic| &nic.label, |nic| nic.mac.as_deref(), word, what)
}

async fn told(bound: &BoundVm, key: i32) -> Result<Nic, Fault> {
    let info = bound.host.client.vm_info(&bound.vm).await?;
    let nic = info.hardware.nics.into_iter().find(|nic| nic.key == key);
    nic.map(Nic::from).ok_or_else(|| {
        Fault::new("esxi.device_not_found", format!("{:?} has the network card no more", bound.vm.name))
            .hint("somebody changed it meanwhile: look at vm:info()")
    })
}

/// Refuses an address that another card has: what two have on one network, neither can use.
async fn refuse_shared(bound: &BoundVm, mac: &str, but: Option<i32>, pass: &Pass<'_>) -> Result<(), Fault> {
    let Some((name, own)) = bound.host.client.holder_of_mac(&bound.vm, mac, but).await? else { return Ok(()) };
    let whose = match own {
        true => format!("another card of {name:?}"),
        false if pass.may_read("vm", &name) => format!("a card of {name:?}"),
        false => "a card of a machine that the run may not read".to_owned(),
    };
    Err(Fault::new("esxi.duplicate_mac", format!("{:?}: {mac} is the address of {whose} already", bound.vm.name))
        .hint("leave mac out for one that the host gives, give another, or say that both are to have it: shared_mac = true (--shared-mac)"))
}

/// Adds a network card to a machine, also while it runs. Errors: `esxi.duplicate_mac` where a card on this host has the address.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AddNic {
    /// The machine.
    pub vm: Target<kind::Vm>,
    /// The network that it is connected to.
    pub network: String,
    /// Its model. Default: `vmxnet3`.
    pub r#type: Option<NicType>,
    /// Its MAC address. Default: one that the host gives.
    pub mac: Option<String>,
    /// Whether it is plugged in. Default: true.
    pub connected: Option<bool>,
    /// Whether it may have an address that another card on this host has. Default: false.
    pub shared_mac: Option<bool>,
}

impl Operation for AddNic {
    const NAME: &'static str = "vm.add_nic";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = method("add_nic");
    const TOUCHES: &'static [Touch] = PLUGS;
    const USAGE: &'static str = "local nic = vm:add_nic({ network = \"VM Network\" })\nprint(nic.label, nic.mac)";

    type Bound = (BoundVm, Checked<esxi::Network>);
    type Output = Nic;

    async fn bind(&self, binder: &Binder<'_>) -> Result<Self::Bound, Fault> {
        mac(Self::NAME, self.mac.as_deref())?;
        let bound = binder.vm(&self.vm, "configure").await?;
        let network = binder.network(&binder.host_of(&bound), &self.network, "use").await?;
        Ok((bound, network))
    }

    async fn act(self, (bound, network): Self::Bound, pass: &Pass<'_>) -> Result<Nic, Fault> {
        let mac = mac(Self::NAME, self.mac.as_deref())?;
        if let Some(mac) = mac.as_deref().filter(|_| self.shared_mac != Some(true)) {
            refuse_shared(&bound, mac, None, pass).await?;
        }
        let kind = self.r#type.unwrap_or(NicType::Vmxnet3).name();
        let spec = NicSpec { network: &network, kind, mac: mac.as_deref(), connected: self.connected.unwrap_or(true) };
        let key = bound.host.client.add_nic(&bound.vm, &spec, &|step| pass.step(step)).await?;
        told(&bound, key).await
    }
}

/// Makes sure that a network card is as it is asked for; where it is, nothing is done. What is left out stays as it is.
///
/// Its MAC address can be changed only while the machine is off. Errors: `esxi.device_not_found`, `esxi.invalid_power_state`,
/// `esxi.duplicate_mac` where another card on this host has the address.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnsureNic {
    /// The machine.
    pub vm: Target<kind::Vm>,
    /// The card's label, such as `Network adapter 1`.
    pub nic: String,
    /// The network that it is to be connected to.
    pub network: Option<String>,
    /// The MAC address that it is to have.
    pub mac: Option<String>,
    /// Whether it is to be plugged in.
    pub connected: Option<bool>,
    /// Whether it may have an address that another card on this host has. Default: false.
    pub shared_mac: Option<bool>,
}

impl EnsureNic {
    /// What the card is to get, and whether that is anything.
    fn beyond<'a>(
        &self,
        nic: &esxi::Nic,
        network: Option<&'a Checked<esxi::Network>>,
        mac: Option<&'a str>,
    ) -> NicChange<'a> {
        NicChange {
            network: network.filter(|network| Some(&network.name) != nic.network.as_ref()),
            mac: mac.filter(|mac| Some(*mac) != nic.mac.as_deref()),
            connected: self.connected.filter(|connected| *connected != nic.start_connected),
        }
    }
}

impl Operation for EnsureNic {
    const NAME: &'static str = "vm.ensure_nic";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = method("ensure_nic");
    const TOUCHES: &'static [Touch] = PLUGS;
    const USAGE: &'static str =
        "vm:ensure_nic({ nic = \"Network adapter 1\", network = \"VM Network\", connected = true })";

    type Bound = (BoundVm, Option<Checked<esxi::Network>>);
    type Output = Nic;

    async fn bind(&self, binder: &Binder<'_>) -> Result<Self::Bound, Fault> {
        mac(Self::NAME, self.mac.as_deref())?;
        let bound = binder.vm(&self.vm, "configure").await?;
        let network = match &self.network {
            Some(network) => Some(binder.network(&binder.host_of(&bound), network, "use").await?),
            None => None,
        };
        Ok((bound, network))
    }

    async fn settled(&self, (bound, network): &Self::Bound, _: &Pass<'_>) -> Result<Option<Nic>, Fault> {
        let mac = mac(Self::NAME, self.mac.as_deref())?;
        let info = bound.host.client.vm_info(&bound.vm).await?;
        let nic = nic(&info, &self.nic)?;
        let NicChange { network, mac, connected } = self.beyond(nic, network.as_ref(), mac.as_deref());
        Ok((network.is_none() && mac.is_none() && connected.is_none()).then(|| nic.clone().into()))
    }

    async fn act(self, (bound, network): Self::Bound, pass: &Pass<'_>) -> Result<Nic, Fault> {
        let mac = mac(Self::NAME, self.mac.as_deref())?;
        let info = bound.host.client.vm_info(&bound.vm).await?;
        let nic = nic(&info, &self.nic)?;
        let change = self.beyond(nic, network.as_ref(), mac.as_deref());
        if change.mac.is_some() && info.row.power != esxi::PowerState::Off {
            return Err(Fault::new(
                "esxi.invalid_power_state",
                format!(
                    "{:?} is {}: the address of its card cannot be changed until it is off",
                    bound.vm.name,
                    info.row.power.as_str()
                ),
            )
            .hint("turn it off first: vm:shutdown() asks the guest"));
        }
        if let Some(mac) = change.mac.filter(|_| self.shared_mac != Some(true)) {
            refuse_shared(&bound, mac, Some(nic.key), pass).await?;
        }
        bound.host.client.change_nic(&bound.vm, nic.key, &change, &|step| pass.step(step)).await?;
        told(&bound, nic.key).await
    }
}

/// Takes a network card out of a machine.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RemoveNic {
    /// The machine.
    pub vm: Target<kind::Vm>,
    /// The card's label, such as `Network adapter 2`, or its MAC address.
    pub nic: String,
}

impl Operation for RemoveNic {
    const NAME: &'static str = "vm.remove_nic";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = method("remove_nic");
    const POSITIONAL: &'static [&'static str] = &["nic"];
    const TOUCHES: &'static [Touch] = &[CONFIGURES];
    const USAGE: &'static str = "local nic = vm:add_nic({ network = \"VM Network\" })\nvm:remove_nic(nic.label)";

    type Bound = BoundVm;
    type Output = ();

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundVm, Fault> {
        binder.vm(&self.vm, "configure").await
    }

    async fn act(self, bound: BoundVm, pass: &Pass<'_>) -> Result<(), Fault> {
        let info = bound.host.client.vm_info(&bound.vm).await?;
        let key = nic(&info, &self.nic)?.key;
        Ok(bound.host.client.remove_device(&bound.vm, key, &|step| pass.step(step)).await?)
    }
}

/// The drive that is meant: of that label, or the first that holds no seed image. Seed images have operations of their own.
fn drive<'a>(info: &'a esxi::VmInfo, word: Option<&str>) -> Result<Option<&'a esxi::Drive>, Fault> {
    match word {
        Some(word) => {
            let what = ("drive", "image");
            let (name, drives) = (&info.row.vm.name, &info.hardware.drives);
            let drive = labelled(name, drives, |drive| &drive.label, |drive| drive.file.as_deref(), word, what)?;
            match drive.holds_seed() {
                true => Err(Fault::new("usage.argument", format!("drive: {word:?} holds the machine's seed image"))
                    .hint("vm:attach_seed and vm:detach_seed change it")),
                false => Ok(Some(drive)),
            }
        }
        None => Ok(info.hardware.drives.iter().find(|drive| !drive.holds_seed())),
    }
}

fn no_drive(bound: &BoundVm) -> Fault {
    Fault::new("esxi.device_not_found", format!("{:?} has no CD-ROM drive", bound.vm.name))
        .hint("vm:insert_cdrom adds one where there is none")
}

/// Puts an ISO image into a machine's CD-ROM drive and connects it, in place of what is in it.
///
/// Where the machine has no drive one is added, for which it must be off. A guest may have locked the door: then the machine asks, and
/// `vm:question` shows it. Errors: `esxi.file_not_found`, `esxi.invalid_power_state`, `esxi.device_not_found`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InsertImage {
    /// The machine.
    pub vm: Target<kind::Vm>,
    /// The datastore that the image lies on.
    pub datastore: String,
    /// The image, such as `isos/debian.iso`.
    pub path: String,
    /// The drive's label, such as `CD/DVD drive 1`. Default: the first that holds no seed image.
    pub drive: Option<String>,
}

/// Makes sure that an ISO image is in a machine's CD-ROM drive, and connected; where it is, nothing is done.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct EnsureImage(InsertImage);

/// A machine and the image for its drive.
pub struct BoundImage {
    bound: BoundVm,
    datastore: Checked<esxi::Datastore>,
    path: FilePath,
}

impl InsertImage {
    async fn bound(&self, binder: &Binder<'_>) -> Result<BoundImage, Fault> {
        let path = FilePath::below_root(&self.path)?;
        let bound = binder.vm(&self.vm, "configure").await?;
        let datastore = binder.datastore(&binder.host_of(&bound), &self.datastore, "copy_from").await?;
        Ok(BoundImage { bound, datastore, path })
    }

    async fn insert(&self, BoundImage { bound, datastore, path }: BoundImage, pass: &Pass<'_>) -> Result<(), Fault> {
        let info = bound.host.client.vm_info(&bound.vm).await?;
        let drive = drive(&info, self.drive.as_deref())?;
        if drive.is_none() && info.row.power != esxi::PowerState::Off {
            let what = format!("{:?} has no CD-ROM drive, and none can be added until it is off", bound.vm.name);
            return Err(
                Fault::new("esxi.invalid_power_state", what).hint("turn it off first: vm:shutdown() asks the guest")
            );
        }
        let image = (&datastore, &path);
        Ok(bound.host.client.insert_image(&bound.vm, drive, image, &|step| pass.step(step)).await?)
    }
}

impl Operation for InsertImage {
    const NAME: &'static str = "vm.insert_cdrom";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = method("insert_cdrom");
    const TOUCHES: &'static [Touch] = INSERTS;
    const USAGE: &'static str = "host:datastore(\"datastore1\"):write_text(\"tools.iso\", \"an image\")\nvm:insert_cdrom({ datastore = \"datastore1\", path = \"tools.iso\" })";

    type Bound = BoundImage;
    type Output = ();

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundImage, Fault> {
        self.bound(binder).await
    }

    async fn act(self, bound: BoundImage, pass: &Pass<'_>) -> Result<(), Fault> {
        self.insert(bound, pass).await
    }
}

impl Operation for EnsureImage {
    const NAME: &'static str = "vm.ensure_cdrom";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = method("ensure_cdrom");
    const TOUCHES: &'static [Touch] = INSERTS;
    const USAGE: &'static str = "host:datastore(\"datastore1\"):write_text(\"tools.iso\", \"an image\")\nvm:ensure_cdrom({ datastore = \"datastore1\", path = \"tools.iso\" })";

    type Bound = BoundImage;
    type Output = ();

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundImage, Fault> {
        self.0.bound(binder).await
    }

    async fn settled(&self, bound: &BoundImage, _: &Pass<'_>) -> Result<Option<()>, Fault> {
        let info = bound.bound.host.client.vm_info(&bound.bound.vm).await?;
        let file = bound.path.on(&bound.datastore.name);
        let drive = drive(&info, self.0.drive.as_deref())?;
        Ok(drive.is_some_and(|drive| drive.file.as_ref() == Some(&file) && drive.start_connected).then_some(()))
    }

    async fn act(self, bound: BoundImage, pass: &Pass<'_>) -> Result<(), Fault> {
        self.0.insert(bound, pass).await
    }
}

/// Takes the image out of a machine's CD-ROM drive, which stays; where there is none, nothing is done.
///
/// A guest may have locked the door: then the machine asks, and `vm:question` shows it. Errors: `esxi.device_not_found`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EjectImage {
    /// The machine.
    pub vm: Target<kind::Vm>,
    /// The drive's label, such as `CD/DVD drive 1`. Default: the first that holds no seed image.
    pub drive: Option<String>,
}

impl Operation for EjectImage {
    const NAME: &'static str = "vm.eject_cdrom";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = method("eject_cdrom");
    const TOUCHES: &'static [Touch] = &[CONFIGURES];
    const USAGE: &'static str = "host:datastore(\"datastore1\"):write_text(\"tools.iso\", \"an image\")\nvm:insert_cdrom({ datastore = \"datastore1\", path = \"tools.iso\" })\nvm:eject_cdrom()";

    type Bound = BoundVm;
    type Output = ();

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundVm, Fault> {
        binder.vm(&self.vm, "configure").await
    }

    async fn settled(&self, bound: &BoundVm, _: &Pass<'_>) -> Result<Option<()>, Fault> {
        let info = bound.host.client.vm_info(&bound.vm).await?;
        Ok(drive(&info, self.drive.as_deref())?.is_none_or(|drive| drive.file.is_none()).then_some(()))
    }

    async fn act(self, bound: BoundVm, pass: &Pass<'_>) -> Result<(), Fault> {
        let info = bound.host.client.vm_info(&bound.vm).await?;
        let drive = drive(&info, self.drive.as_deref())?.ok_or_else(|| no_drive(&bound))?;
        Ok(bound.host.client.eject_image(&bound.vm, drive, &|step| pass.step(step)).await?)
    }
}

/// Plugs a machine's CD-ROM drive in or out, with what is in it; where it is so, nothing is done.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConnectDrive {
    /// The machine.
    pub vm: Target<kind::Vm>,
    /// Whether it is plugged in.
    pub connected: bool,
    /// The drive's label, such as `CD/DVD drive 1`. Default: the first that holds no seed image.
    pub drive: Option<String>,
}

impl Operation for ConnectDrive {
    const NAME: &'static str = "vm.connect_cdrom";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = method("connect_cdrom");
    const POSITIONAL: &'static [&'static str] = &["connected"];
    const TOUCHES: &'static [Touch] = &[CONFIGURES];
    const USAGE: &'static str = "host:datastore(\"datastore1\"):write_text(\"tools.iso\", \"an image\")\nvm:insert_cdrom({ datastore = \"datastore1\", path = \"tools.iso\" })\nvm:connect_cdrom(false)";

    type Bound = BoundVm;
    type Output = Drive;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundVm, Fault> {
        binder.vm(&self.vm, "configure").await
    }

    async fn settled(&self, bound: &BoundVm, _: &Pass<'_>) -> Result<Option<Drive>, Fault> {
        let info = bound.host.client.vm_info(&bound.vm).await?;
        let drive = drive(&info, self.drive.as_deref())?.ok_or_else(|| no_drive(bound))?;
        Ok((drive.start_connected == self.connected).then(|| drive.clone().into()))
    }

    async fn act(self, bound: BoundVm, pass: &Pass<'_>) -> Result<Drive, Fault> {
        let info = bound.host.client.vm_info(&bound.vm).await?;
        let drive = drive(&info, self.drive.as_deref())?.ok_or_else(|| no_drive(&bound))?;
        bound.host.client.connect_drive(&bound.vm, drive, self.connected, &|step| pass.step(step)).await?;
        let info = bound.host.client.vm_info(&bound.vm).await?;
        let now = info.hardware.drives.into_iter().find(|now| now.key == drive.key);
        now.map(Drive::from).ok_or_else(|| no_drive(&bound))
    }
}

#[cfg(test)]
mod tests {
    use super::{labelled, mac};

    #[test]
    fn a_label_that_two_cards_have_means_neither() {
        let cards = [("Network adapter 1", "a"), ("Network adapter 2", "b"), ("Network adapter 2", "c")];
        let find = |word: &str| {
            let what = ("network card", "MAC address");
            labelled("t", &cards, |card| card.0, |card| Some(card.1), word, what).map(|card| card.1)
        };
        let fault = find("Network adapter 2").unwrap_err();
        assert_eq!(fault.kind(), "esxi.ambiguous");
        assert_eq!(fault.hint_text(), Some("say which one by its MAC address: b, c"));
        assert_eq!((find("c").unwrap(), find("Network adapter 1").unwrap()), ("c", "a"));
        assert_eq!(find("Network adapter 3").unwrap_err().kind(), "esxi.device_not_found");
    }

    #[test]
    fn an_address_is_one_cards_and_of_one_form() {
        assert_eq!(mac("x", Some("00:50:56:AB:cd:01")).unwrap().as_deref(), Some("00:50:56:ab:cd:01"));
        assert_eq!(mac("x", None).unwrap(), None);
        for wrong in [
            "",
            "00:50:56:12:34",
            "01:00:5e:00:00:01",
            "00:00:00:00:00:00",
            "00-50-56-12-34-56",
            "00:50:56:12:34:+5",
            "0:50:56:12:34:567",
        ] {
            assert!(mac("x", Some(wrong)).is_err(), "{wrong:?}");
        }
    }
}
