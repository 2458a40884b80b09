//! Operations on virtual disks as files of a datastore.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::files::{BoundTwo, bind_two, method, on};
use super::linked::refuse_with_clones_on;
use crate::door::Pass;
use crate::door::bind::Binder;
use crate::door::datastores::BoundDatastore;
use crate::door::object::{Target, kind};
use crate::door::operation::{Effect, Operation, Place, Selector, Touch, touch};
use crate::error::Fault;
use crate::esxi::{self, FilePath};
use crate::units::Bytes;

/// How a disk takes up space.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Provisioning {
    /// What was written, alone.
    Thin,
    /// All of it, zeroed when it is first used.
    Thick,
    /// All of it, zeroed when it is made.
    EagerZeroed,
}

impl From<Provisioning> for esxi::Provisioning {
    fn from(form: Provisioning) -> Self {
        match form {
            Provisioning::Thin => Self::Thin,
            Provisioning::Thick => Self::Thick,
            Provisioning::EagerZeroed => Self::EagerZeroed,
        }
    }
}

/// Reads what a virtual disk is: its size, what it takes up, its form, its UUID.
///
/// Errors: `esxi.file_not_found` where no disk lies there.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Info {
    /// The datastore.
    pub datastore: Target<kind::Datastore>,
    /// The disk's descriptor, such as `web-1/web-1.vmdk`.
    pub path: String,
}

/// A virtual disk.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DiskInfo {
    /// Its descriptor, such as `[datastore1] web-1/web-1.vmdk`.
    pub path: String,
    /// The size that a guest sees; nil where the host does not say.
    pub size: Option<Bytes>,
    /// What it takes up on the datastore.
    pub stored: Option<Bytes>,
    /// Whether it takes up only what was written; nil where the host does not say.
    pub thin: Option<bool>,
    /// What tells it apart from every other disk.
    pub uuid: Option<String>,
    /// The names of the files that hold its content.
    pub extents: Vec<String>,
}

impl Operation for Info {
    const NAME: &'static str = "disk.info";
    const EFFECT: Effect = Effect::Read;
    const PLACE: Place = method("disk_info");
    const POSITIONAL: &'static [&'static str] = &["path"];
    const TOUCHES: &'static [Touch] = &[on("read")];
    const USAGE: &'static str = "local disk = host:datastore(\"datastore1\"):disk_info(\"debian-12/debian-12.vmdk\")\nprint(disk.size, disk.thin)";

    type Bound = (BoundDatastore, FilePath);
    type Output = DiskInfo;

    async fn bind(&self, binder: &Binder<'_>) -> Result<Self::Bound, Fault> {
        binder.file_of(&self.datastore, &["read"], &self.path).await
    }

    async fn act(self, (bound, path): Self::Bound, _: &Pass<'_>) -> Result<DiskInfo, Fault> {
        let esxi::DiskInfo { disk, uuid } = bound.host.client.disk_info(&bound.datastore, &path).await?;
        Ok(DiskInfo {
            path: disk.path,
            size: disk.capacity,
            stored: disk.size,
            thin: disk.thin,
            uuid,
            extents: disk.extents,
        })
    }
}

/// Makes an empty virtual disk where nothing is yet; no machine has it.
///
/// Errors: `esxi.file_already_exists`, `esxi.no_disk_space`, `esxi.file_not_found` where its folder is not there.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Create {
    /// The datastore.
    pub datastore: Target<kind::Datastore>,
    /// The disk's descriptor, such as `data/data.vmdk`.
    pub path: String,
    /// The size that a guest is to see: 1 MiB to 62 TiB.
    pub size: Bytes,
    /// How it takes up space. Default: `thin`.
    pub provisioning: Option<Provisioning>,
}

impl Operation for Create {
    const NAME: &'static str = "disk.create";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = method("create_disk");
    const TOUCHES: &'static [Touch] = &[on("write")];
    const USAGE: &'static str = "local store = host:datastore(\"datastore1\")\nstore:create_disk({ path = \"data.vmdk\", size = \"1 GiB\" })\nstore:delete(\"data.vmdk\")";

    type Bound = (BoundDatastore, FilePath);
    type Output = ();

    async fn bind(&self, binder: &Binder<'_>) -> Result<Self::Bound, Fault> {
        binder.file_of(&self.datastore, &["write"], &self.path).await
    }

    async fn act(self, (bound, path): Self::Bound, pass: &Pass<'_>) -> Result<(), Fault> {
        let form = self.provisioning.map_or(esxi::Provisioning::Thin, Into::into);
        bound.host.client.create_disk(&bound.datastore, &path, self.size, form, &|step| pass.step(step)).await?;
        pass.made_file(&bound.host, &bound.datastore, &path);
        Ok(())
    }
}

/// Copies a virtual disk to where nothing is yet, in its own form or in another.
///
/// Errors: `esxi.file_already_exists`, `esxi.file_locked` where a running machine holds it, `esxi.no_disk_space`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Copy {
    /// The datastore.
    pub datastore: Target<kind::Datastore>,
    /// The disk's descriptor.
    pub from: String,
    /// The copy's descriptor.
    pub to: String,
    /// The name of the datastore that the copy goes to. Default: the same.
    pub to_datastore: Option<String>,
    /// How the copy takes up space. Default: as the disk does.
    pub provisioning: Option<Provisioning>,
}

impl Operation for Copy {
    const NAME: &'static str = "disk.copy";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = method("copy_disk");
    const TOUCHES: &'static [Touch] =
        &[on("copy_from"), touch("datastore", "write", Selector::Argument("to_datastore"))];
    const USAGE: &'static str = "local store = host:datastore(\"datastore1\")\nstore:copy_disk({ from = \"debian-12/debian-12.vmdk\", to = \"copy.vmdk\", provisioning = \"thin\" })\nstore:delete(\"copy.vmdk\")";

    type Bound = BoundTwo;
    type Output = ();

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundTwo, Fault> {
        bind_two(binder, &self.datastore, &["copy_from"], (&self.from, &self.to), self.to_datastore.as_deref()).await
    }

    async fn act(
        self,
        BoundTwo { from: (bound, from), to: (store, to) }: BoundTwo,
        pass: &Pass<'_>,
    ) -> Result<(), Fault> {
        let form = self.provisioning.map(Into::into);
        let client = &bound.host.client;
        client.copy_disk_file((&bound.datastore, &from), (&store, &to), form, &|step| pass.step(step)).await?;
        pass.made_file(&bound.host, &store, &to);
        Ok(())
    }
}

/// Makes a virtual disk larger; the guest's own partitions and filesystems stay as they are.
///
/// Errors: `esxi.in_use` where a snapshot builds on it, `esxi.has_linked_clones` where another machine does, `esxi.file_locked` where a
/// running machine holds it, `esxi.no_disk_space`, `esxi.invalid_argument` where it has that size already.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Extend {
    /// The datastore.
    pub datastore: Target<kind::Datastore>,
    /// The disk's descriptor.
    pub path: String,
    /// The new size, up to 62 TiB.
    pub size: Bytes,
}

impl Operation for Extend {
    const NAME: &'static str = "disk.extend";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = method("extend_disk");
    const TOUCHES: &'static [Touch] = &[on("write")];
    const USAGE: &'static str = "local store = host:datastore(\"datastore1\")\nstore:create_disk({ path = \"data.vmdk\", size = \"1 GiB\" })\nstore:extend_disk({ path = \"data.vmdk\", size = \"2 GiB\" })\nstore:delete(\"data.vmdk\")";

    type Bound = (BoundDatastore, FilePath);
    type Output = ();

    async fn bind(&self, binder: &Binder<'_>) -> Result<Self::Bound, Fault> {
        binder.file_of(&self.datastore, &["write"], &self.path).await
    }

    async fn act(self, (bound, path): Self::Bound, pass: &Pass<'_>) -> Result<(), Fault> {
        refuse_with_clones_on(&bound, &path, pass, "extended").await?;
        Ok(bound.host.client.extend_disk(&bound.datastore, &path, self.size, &|step| pass.step(step)).await?)
    }
}

/// Gives a thin virtual disk all of its space.
///
/// Errors: `esxi.no_disk_space`, `esxi.file_locked` where a running machine holds it, `esxi.has_linked_clones` where other machines
/// build on it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Inflate {
    /// The datastore.
    pub datastore: Target<kind::Datastore>,
    /// The disk's descriptor.
    pub path: String,
}

impl Operation for Inflate {
    const NAME: &'static str = "disk.inflate";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = method("inflate_disk");
    const POSITIONAL: &'static [&'static str] = &["path"];
    const TOUCHES: &'static [Touch] = &[on("write")];
    const USAGE: &'static str = "local store = host:datastore(\"datastore1\")\nstore:create_disk({ path = \"data.vmdk\", size = \"4 MiB\" })\nstore:inflate_disk(\"data.vmdk\")\nstore:delete(\"data.vmdk\")";

    type Bound = (BoundDatastore, FilePath);
    type Output = ();

    async fn bind(&self, binder: &Binder<'_>) -> Result<Self::Bound, Fault> {
        binder.file_of(&self.datastore, &["write"], &self.path).await
    }

    async fn act(self, (bound, path): Self::Bound, pass: &Pass<'_>) -> Result<(), Fault> {
        refuse_with_clones_on(&bound, &path, pass, "inflated").await?;
        Ok(bound.host.client.inflate_disk(&bound.datastore, &path, &|step| pass.step(step)).await?)
    }
}
