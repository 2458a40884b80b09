//! Operations on a machine's own disks: added, put in, grown, taken out, destroyed. None makes a disk smaller.

use schemars::JsonSchema;
use serde::Deserialize;

use super::disk::Provisioning;
use super::linked::{refuse_with_clones, refuse_with_clones_on};
use super::rows::Disk;
use crate::door::Pass;
use crate::door::bind::{Binder, BoundVm};
use crate::door::datastores::BoundDatastore;
use crate::door::object::{Target, kind};
use crate::door::operation::{Effect, Operation, Place, Selector, Touch, touch};
use crate::error::{Fault, nearest};
use crate::esxi::checked::Checked;
use crate::esxi::{self, DiskContent, DiskSpec, FilePath, Slot};
use crate::units::Bytes;

const CONFIGURES: Touch = touch("vm", "configure", Selector::Argument("vm"));

const fn method(name: &'static str) -> Place {
    Place::Method { kind: "vm", name }
}

/// What a disk hangs on.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Controller {
    Pvscsi,
    Lsilogic,
    #[serde(rename = "lsilogic-sas")]
    LsilogicSas,
    Buslogic,
    Sata,
    Nvme,
    Ide,
}

impl From<Controller> for esxi::ControllerKind {
    fn from(controller: Controller) -> Self {
        match controller {
            Controller::Pvscsi => Self::Pvscsi,
            Controller::Lsilogic => Self::LsiLogic,
            Controller::LsilogicSas => Self::LsiLogicSas,
            Controller::Buslogic => Self::BusLogic,
            Controller::Sata => Self::Sata,
            Controller::Nvme => Self::Nvme,
            Controller::Ide => Self::Ide,
        }
    }
}

fn slot(controller: Option<Controller>, bus: Option<i32>, unit: Option<i32>) -> Slot {
    Slot { kind: controller.map(Into::into), bus, unit }
}

/// The disk that a word means: its label, its file, or its place as a configuration file writes it (`scsi0:1`, `nvme0:0`). A label that two
/// have means neither.
fn find<'a>(name: &str, hardware: &'a esxi::Hardware, word: &str) -> Result<&'a esxi::Disk, Fault> {
    let place = |disk: &esxi::Disk| {
        let controller = hardware.controller_of(disk)?;
        let name = match controller.kind.as_str() {
            own @ ("sata" | "nvme" | "ide") => own,
            _ => "scsi",
        };
        Some(format!("{name}{}:{}", controller.bus, disk.unit))
    };
    let is_it = |disk: &&esxi::Disk| disk.label == word || disk.file == word || place(disk).as_deref() == Some(word);
    let found: Vec<&esxi::Disk> = hardware.disks.iter().filter(is_it).collect();
    match found.as_slice() {
        [one] => Ok(one),
        [] => {
            let fault = Fault::new("esxi.disk_not_found", format!("{name:?} has no disk {word:?}"));
            let labels: Vec<&str> = hardware.disks.iter().map(|disk| disk.label.as_str()).collect();
            Err(match nearest(word, labels.iter().copied()).first() {
                Some(near) => fault.hint(format!("did you mean {near:?}?")),
                None if labels.is_empty() => fault.hint("it has none: vm:add_disk adds one"),
                None => fault.hint(format!("it has: {}", labels.join(", "))),
            })
        }
        several => {
            let told = several.iter().map(|disk| match place(disk) {
                Some(place) => format!("{:?} ({place})", disk.file),
                None => format!("{:?}", disk.file),
            });
            let told = told.collect::<Vec<_>>().join(", ");
            Err(Fault::new("esxi.ambiguous", format!("{} of the disks of {name:?} are called {word:?}", several.len()))
                .hint(format!("say which one by its file or its place: {told}")))
        }
    }
}

/// The disk of that key, as it is now.
async fn told(bound: &BoundVm, key: i32) -> Result<Disk, Fault> {
    let info = bound.host.client.vm_info(&bound.vm).await?;
    let disk = info.hardware.disks.iter().find(|disk| disk.key == key);
    disk.map(|disk| Disk::of(&info, disk)).ok_or_else(|| {
        Fault::new("esxi.disk_not_found", format!("{:?} has the disk no more", bound.vm.name))
            .hint("somebody changed it meanwhile: look at vm:info()")
    })
}

/// Adds an empty disk to a machine, also while it runs.
///
/// Errors: `esxi.no_disk_space`, `esxi.invalid_argument` where its place is taken or not there.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Add {
    /// The machine.
    pub vm: Target<kind::Vm>,
    /// The size that the guest is to see: 1 MiB to 62 TiB.
    pub size: Bytes,
    /// The datastore that its files go to. Default: that of the machine's configuration.
    pub datastore: Option<String>,
    /// How it takes up space. Default: `thin`.
    pub provisioning: Option<Provisioning>,
    /// What it hangs on; a controller that is not there is added. Default: what the first disk hangs on, else `pvscsi`.
    pub controller: Option<Controller>,
    /// The controller's number, 0 to 3. Default: the first disk's, else 0.
    pub bus: Option<i32>,
    /// The disk's number on its controller. Default: the first that is free.
    pub unit: Option<i32>,
    /// Whether snapshots leave it out. Default: false.
    #[serde(default)]
    pub independent: bool,
}

/// A machine and the datastore for its new disk.
pub struct BoundAdd {
    bound: BoundVm,
    datastore: Checked<esxi::Datastore>,
}

const ADD_TOUCHES: &[Touch] = &[CONFIGURES, touch("datastore", "write", Selector::Argument("datastore"))];

impl Add {
    async fn bound(&self, binder: &Binder<'_>) -> Result<BoundAdd, Fault> {
        let bound = match &self.datastore {
            Some(_) => binder.vm(&self.vm, "configure").await?,
            None => binder.vm_and_folder(&self.vm, "configure").await?,
        };
        let own = bound.vm.path.strip_prefix('[').and_then(|rest| rest.split_once(']')).map_or("", |(name, _)| name);
        let name = self.datastore.as_deref().unwrap_or(own).to_owned();
        let host = binder.host_of(&bound);
        let datastore = binder.datastore(&host, &name, "write").await?;
        Ok(BoundAdd { bound, datastore })
    }

    async fn add(&self, BoundAdd { bound, datastore }: &BoundAdd, pass: &Pass<'_>) -> Result<Disk, Fault> {
        let form = self.provisioning.map_or(esxi::Provisioning::Thin, Into::into);
        let spec = DiskSpec {
            content: DiskContent::New { datastore, size: self.size, form },
            slot: slot(self.controller, self.bus, self.unit),
            independent: self.independent,
        };
        let key = bound.host.client.add_disk(&bound.vm, &spec, &|step| pass.step(step)).await?;
        told(bound, key).await
    }
}

impl Operation for Add {
    const NAME: &'static str = "vm.add_disk";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = method("add_disk");
    const TOUCHES: &'static [Touch] = ADD_TOUCHES;
    const USAGE: &'static str = "local disk = vm:add_disk({ size = \"8 GiB\" })\nprint(disk.label, disk.file)";

    type Bound = BoundAdd;
    type Output = Disk;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundAdd, Fault> {
        self.bound(binder).await
    }

    async fn act(self, bound: BoundAdd, pass: &Pass<'_>) -> Result<Disk, Fault> {
        self.add(&bound, pass).await
    }
}

/// Makes sure that a machine has a disk of at least that size at a place: adds it, or grows the one that is there.
///
/// `unit` says which place, and must be given. A disk that is larger already is left as it is. Errors: as `vm:add_disk` and
/// `vm:grow_disk`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Ensure(Add);

impl Ensure {
    fn slot(&self) -> Result<Slot, Fault> {
        if self.0.unit.is_none() {
            return Err(Fault::new("usage.argument", format!("{}: unit: it says which disk is meant", Self::NAME))
                .hint("a machine's first disk is usually unit 0, a second one unit 1"));
        }
        Ok(slot(self.0.controller, self.0.bus, self.0.unit))
    }
}

impl Operation for Ensure {
    const NAME: &'static str = "vm.ensure_disk";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = method("ensure_disk");
    const TOUCHES: &'static [Touch] = ADD_TOUCHES;
    const USAGE: &'static str = "vm:ensure_disk({ unit = 1, size = \"8 GiB\" })";

    type Bound = BoundAdd;
    type Output = Disk;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundAdd, Fault> {
        self.slot()?;
        self.0.bound(binder).await
    }

    async fn settled(&self, BoundAdd { bound, .. }: &BoundAdd, _: &Pass<'_>) -> Result<Option<Disk>, Fault> {
        match bound.host.client.disk_at(&bound.vm, &self.slot()?).await? {
            Some(disk) if disk.size >= self.0.size => told(bound, disk.key).await.map(Some),
            _ => Ok(None),
        }
    }

    async fn act(self, bound: BoundAdd, pass: &Pass<'_>) -> Result<Disk, Fault> {
        match bound.bound.host.client.disk_at(&bound.bound.vm, &self.slot()?).await? {
            Some(disk) => grow(&bound.bound, disk.key, self.0.size, pass).await,
            None => self.0.add(&bound, pass).await,
        }
    }
}

async fn grow(bound: &BoundVm, key: i32, size: Bytes, pass: &Pass<'_>) -> Result<Disk, Fault> {
    refuse_with_clones(&bound.host, &bound.vm, pass, "changed", true).await?;
    if let Err(error) = bound.host.client.grow_disk(&bound.vm, key, size, &|step| pass.step(step)).await {
        let refused = error.is("InvalidDeviceOperation");
        let fault = Fault::from(error);
        let info = bound.host.client.vm_info(&bound.vm).await;
        let inherits = |disk: &esxi::Disk| disk.key == key && disk.inherited().next().is_some();
        return Err(match info {
            Ok(info) if refused && info.hardware.disks.iter().any(inherits) => fault.hint(
                "it is a linked clone's disk, which builds on another machine's and is not extended: clone the machine in full \
                 (ceso vm clone NAME NEW) and grow the copy's, or give it one more disk (ceso vm disk add)",
            ),
            _ => fault,
        });
    }
    told(bound, key).await
}

/// Puts a disk that lies on a datastore into a machine; its content stays.
///
/// A disk of a registered machine is refused, as is one that linked clones build on. Errors: `esxi.in_use`,
/// `esxi.has_linked_clones`, `esxi.file_not_found`, `esxi.invalid_argument` where its place is taken or not there.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Attach {
    /// The machine.
    pub vm: Target<kind::Vm>,
    /// The datastore that the disk lies on.
    pub datastore: String,
    /// Its descriptor, such as `data/data.vmdk`.
    pub path: String,
    /// What it hangs on; a controller that is not there is added. Default: what the first disk hangs on, else `pvscsi`.
    pub controller: Option<Controller>,
    /// The controller's number, 0 to 3. Default: the first disk's, else 0.
    pub bus: Option<i32>,
    /// The disk's number on its controller. Default: the first that is free.
    pub unit: Option<i32>,
    /// Whether snapshots leave it out. Default: false.
    #[serde(default)]
    pub independent: bool,
}

impl Operation for Attach {
    const NAME: &'static str = "vm.attach_disk";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = method("attach_disk");
    const TOUCHES: &'static [Touch] = &[
        CONFIGURES,
        touch("datastore", "copy_from", Selector::Argument("datastore")),
        touch("datastore", "write", Selector::Argument("datastore")),
    ];
    const USAGE: &'static str = "host:datastore(\"datastore1\"):create_disk({ path = \"data.vmdk\", size = \"1 GiB\" })\nvm:attach_disk({ datastore = \"datastore1\", path = \"data.vmdk\" })";

    type Bound = (BoundVm, BoundDatastore, FilePath);
    type Output = Disk;

    async fn bind(&self, binder: &Binder<'_>) -> Result<Self::Bound, Fault> {
        let path = FilePath::below_root(&self.path)?;
        let bound = binder.vm(&self.vm, "configure").await?;
        let host = binder.host_of(&bound);
        binder.named("datastore", "write", &self.datastore)?;
        let datastore = binder.datastore(&host, &self.datastore, "copy_from").await?;
        let store = BoundDatastore { host: bound.host.clone(), datastore };
        Ok((bound, store, path))
    }

    async fn act(self, (bound, store, path): Self::Bound, pass: &Pass<'_>) -> Result<Disk, Fault> {
        refuse_with_clones_on(&store, &path, pass, "put into a machine").await?;
        let spec = DiskSpec {
            content: DiskContent::There { datastore: &store.datastore, path: &path },
            slot: slot(self.controller, self.bus, self.unit),
            independent: self.independent,
        };
        let key = bound.host.client.add_disk(&bound.vm, &spec, &|step| pass.step(step)).await?;
        told(&bound, key).await
    }
}

/// Makes a machine's disk larger, also while it runs; the guest's own partitions and filesystems stay as they are.
///
/// Errors: `esxi.invalid_argument` where it would become smaller, `esxi.invalid_device_operation` where snapshots hold it,
/// `esxi.has_linked_clones`, `esxi.no_disk_space`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Grow {
    /// The machine.
    pub vm: Target<kind::Vm>,
    /// The disk: its label (`Hard disk 1`), its place (`scsi0:0`), or its file.
    pub disk: String,
    /// The new size, up to 62 TiB.
    pub size: Bytes,
}

impl Operation for Grow {
    const NAME: &'static str = "vm.grow_disk";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = method("grow_disk");
    const TOUCHES: &'static [Touch] = &[CONFIGURES, touch("datastore", "write", Selector::Found)];
    const USAGE: &'static str = "vm:grow_disk({ disk = \"Hard disk 1\", size = \"40 GiB\" })";

    type Bound = BoundVm;
    type Output = Disk;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundVm, Fault> {
        binder.vm_and_folder(&self.vm, "configure").await
    }

    async fn act(self, bound: BoundVm, pass: &Pass<'_>) -> Result<Disk, Fault> {
        let info = bound.host.client.vm_info(&bound.vm).await?;
        let key = find(&info.row.vm.name, &info.hardware, &self.disk)?.key;
        grow(&bound, key, self.size, pass).await
    }
}

/// Takes a disk out of a machine and gives what it was; its files stay.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Detach {
    /// The machine.
    pub vm: Target<kind::Vm>,
    /// The disk: its label (`Hard disk 2`), its place (`scsi0:1`), or its file.
    pub disk: String,
}

impl Operation for Detach {
    const NAME: &'static str = "vm.detach_disk";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = method("detach_disk");
    const POSITIONAL: &'static [&'static str] = &["disk"];
    const TOUCHES: &'static [Touch] = &[CONFIGURES];
    const USAGE: &'static str =
        "local disk = vm:add_disk({ size = \"1 GiB\" })\nprint(vm:detach_disk(disk.label).file)";

    type Bound = BoundVm;
    type Output = Disk;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundVm, Fault> {
        binder.vm(&self.vm, "configure").await
    }

    async fn act(self, bound: BoundVm, pass: &Pass<'_>) -> Result<Disk, Fault> {
        take_out(&bound, &self.disk, false, pass).await
    }
}

/// Takes a disk out of a machine and destroys its files, for good.
///
/// Of a linked clone's disk only what is its own goes. In mode standard only of a machine that the run itself made. Errors:
/// `esxi.invalid_device_operation` where snapshots hold it, `esxi.has_linked_clones` where others build on the machine's disks.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Remove {
    /// The machine.
    pub vm: Target<kind::Vm>,
    /// The disk: its label (`Hard disk 2`), its place (`scsi0:1`), or its file.
    pub disk: String,
}

impl Operation for Remove {
    const NAME: &'static str = "vm.remove_disk";
    const EFFECT: Effect = Effect::Destroy;
    const PLACE: Place = method("remove_disk");
    const POSITIONAL: &'static [&'static str] = &["disk"];
    const TOUCHES: &'static [Touch] = &[touch("vm", "destroy", Selector::Argument("vm"))];
    const USAGE: &'static str = "local disk = vm:add_disk({ size = \"1 GiB\" })\nvm:remove_disk(disk.label)";

    type Bound = BoundVm;
    type Output = ();

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundVm, Fault> {
        binder.vm(&self.vm, "destroy").await
    }

    async fn act(self, bound: BoundVm, pass: &Pass<'_>) -> Result<(), Fault> {
        refuse_with_clones(&bound.host, &bound.vm, pass, "changed", false).await?;
        take_out(&bound, &self.disk, true, pass).await.map(drop)
    }
}

async fn take_out(bound: &BoundVm, word: &str, destroy: bool, pass: &Pass<'_>) -> Result<Disk, Fault> {
    let info = bound.host.client.vm_info(&bound.vm).await?;
    let disk = find(&info.row.vm.name, &info.hardware, word)?;
    if destroy && !info.snapshots.is_empty() {
        return Err(Fault::new(
            "esxi.invalid_device_operation",
            format!("{:?} has snapshots, which hold {}", bound.vm.name, disk.label),
        )
        .hint("remove the snapshots first, or take it out with vm:detach_disk"));
    }
    bound.host.client.remove_disk(&bound.vm, disk, destroy, &|step| pass.step(step)).await?;
    Ok(Disk::of(&info, disk))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_that_two_disks_have_means_neither() {
        let disk = |key: i32, label: &str| esxi::Disk {
            key,
            label: label.to_owned(),
            size: Bytes(1 << 20),
            thin: Some(true),
            eager: false,
            file: format!("[ds1] t/t_{key}.vmdk"),
            mode: "persistent".to_owned(),
            backing: String::new(),
            parents: Vec::new(),
            controller_key: 1000,
            unit: key - 2000,
        };
        let controller = esxi::Controller { key: 1000, kind: esxi::ControllerKind::Pvscsi, bus: 0, sharing: None };
        let hardware = esxi::Hardware {
            disks: vec![disk(2000, "Hard disk 1"), disk(2001, "Hard disk 4"), disk(2002, "Hard disk 4")],
            controllers: vec![controller],
            ..esxi::Hardware::default()
        };
        let key = |word: &str| find("t", &hardware, word).map(|disk| disk.key);
        let fault = key("Hard disk 4").unwrap_err();
        assert_eq!(fault.kind(), "esxi.ambiguous");
        let hint = fault.hint_text().unwrap();
        assert!(hint.contains("\"[ds1] t/t_2001.vmdk\" (scsi0:1), \"[ds1] t/t_2002.vmdk\" (scsi0:2)"), "{hint}");
        for word in ["[ds1] t/t_2002.vmdk", "scsi0:2"] {
            assert_eq!(key(word).unwrap(), 2002);
        }
        assert_eq!((key("Hard disk 1").unwrap(), key("x").unwrap_err().kind()), (2000, "esxi.disk_not_found"));
    }
}
