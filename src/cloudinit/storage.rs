//! Disks, partitions, file systems, mounts and swap: what a playbook writes of them, checked, and as cloud-config.
//!
//! Modules of cloud-init: `disk_setup` (with `fs_setup`), `mounts`, `growpart`. fstab has blanks between its fields and `#` for comments, so
//! neither may stand in them.

use schemars::JsonSchema;
use serde_json::{Map, Value, json};

use super::check;
use super::error::{At, Error, Problem, Shown};
use super::forms::Strings;
use super::spec::Spec;
use crate::units::Bytes;

const MOST_DISKS: usize = 64;
const MOST_PARTITIONS: usize = 128;
const MOST_MOUNTS: usize = 256;

/// A disk to partition.
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CloudInitDisk")]
pub struct Disk {
    /// The device, such as `/dev/sdb`.
    pub device: String,
    /// The kind of partition table. Default: `"gpt"`.
    #[serde(default)]
    pub table: Table,
    /// The partitions, in order. Default: one over the whole disk.
    #[serde(default)]
    pub partitions: Vec<Partition>,
    /// Whether a disk that has partitions or a file system already is done anew, which loses what is on it. Default: false.
    #[serde(default)]
    pub overwrite: bool,
}

/// A kind of partition table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "CloudInitPartitionTable", inline)]
pub enum Table {
    /// GPT.
    #[default]
    Gpt,
    /// MBR: disks of at most 2 TiB, at most four partitions.
    Mbr,
}

/// A partition of a disk.
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CloudInitPartition")]
pub struct Partition {
    /// Its share of the disk in percent, 1 to 100. All of a disk's are at most 100 together.
    pub percent: u32,
    /// Its type as sfdisk (two digits, for MBR) and sgdisk (four, for GPT) number it, such as `82` or `8200` for swap. Types with letters cannot
    /// be written in cloud-config. Default: a Linux file system.
    #[serde(default)]
    pub kind: Option<String>,
}

/// A file system to make.
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CloudInitFilesystem")]
pub struct Filesystem {
    /// The partition or disk, such as `/dev/sdb1`. One that holds another kind of file system is left alone, unless `overwrite` is set.
    pub device: String,
    /// The kind, such as `ext4`, `xfs` or `btrfs`: the guest needs `mkfs` for it.
    pub filesystem: String,
    /// The label. Default: none.
    #[serde(default)]
    pub label: Option<String>,
    /// Whether a file system that is there already is made anew, which loses what is on it. Default: false.
    #[serde(default)]
    pub overwrite: bool,
}

/// An entry of `/etc/fstab`.
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CloudInitMount")]
pub struct Mount {
    /// What: a device (`/dev/sdb1`), `LABEL=…`, `UUID=…`, `PARTLABEL=…`, `PARTUUID=…`, `SERVER:/PATH` (NFS), `//SERVER/SHARE` (CIFS) or `tmpfs`.
    pub device: String,
    /// Where, as an absolute path, or `none` for swap.
    pub path: String,
    /// The kind of file system. Default: `auto`.
    #[serde(default)]
    pub filesystem: Option<String>,
    /// Options. Default: `defaults`, `nofail`: a machine whose disk is missing still starts.
    #[serde(default)]
    pub options: Strings,
    /// Whether dump(8) saves it, 0 or 1. Default: 0.
    #[serde(default)]
    pub dump: u32,
    /// When it is checked at boot: 0 (never), 1 or 2. Default: 2 for a device, 0 for a network file system.
    #[serde(default)]
    pub pass: Option<u32>,
}

/// A file to swap to.
#[derive(Clone, Debug, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CloudInitSwap")]
pub struct Swap {
    /// The file, as an absolute path. Default: `/swap.img`.
    #[serde(default)]
    pub path: Option<String>,
    /// The size, such as `"2 GiB"`, at least 1 MiB.
    pub size: Bytes,
}

/// Which partitions grow to fill their disk.
#[derive(Clone, Debug, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CloudInitGrow")]
pub struct Grow {
    /// Whether anything grows. Default: true.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Mount points or devices whose partitions grow. Default: `/`.
    #[serde(default)]
    pub devices: Strings,
}

fn yes() -> bool {
    true
}

/// Checks all of it and writes the keys.
pub(super) fn build(root: &At, spec: &Spec, config: &mut Map<String, Value>) -> Result<(), Error> {
    grow(&root.field("grow"), spec.grow.as_ref(), config)?;
    disks(&root.field("disks"), &spec.disks, config)?;
    filesystems(&root.field("filesystems"), &spec.filesystems, config)?;
    mounts(&root.field("mounts"), &spec.mounts, config)?;
    swap(&root.field("swap"), spec.swap.as_ref(), config)
}

fn grow(at: &At, grow: Option<&Grow>, config: &mut Map<String, Value>) -> Result<(), Error> {
    let Some(grow) = grow else { return Ok(()) };
    let devices = at.field("devices");
    check::at_most(&devices, grow.devices.0.len(), MOST_DISKS)?;
    for (index, device) in grow.devices.0.iter().enumerate() {
        folder(&devices.item(index), device)?;
    }
    check::distinct(&devices, grow.devices.0.iter().map(String::as_str))?;
    let devices = if grow.devices.0.is_empty() { json!(["/"]) } else { json!(grow.devices.0) };
    let mode = if grow.enabled { "auto" } else { "off" };
    config.insert("growpart".into(), json!({ "mode": mode, "devices": devices }));
    Ok(())
}

/// An absolute path that may be a folder, `/` too.
fn folder(at: &At, path: &str) -> Result<(), Error> {
    if path != "/" {
        check::path(at, path)?;
    }
    fstab_word(at, path)
}

/// A word of fstab: no blanks, no `#` in front, nothing that breaks its line.
fn fstab_word(at: &At, word: &str) -> Result<(), Error> {
    check::line(at, word, 1024, &[' ', '\u{a0}', '\\', '"'])?;
    if word.starts_with('#') {
        return Err(at.is(Problem::Reserved('#')));
    }
    Ok(())
}

fn device(at: &At, device: &str) -> Result<(), Error> {
    fstab_word(at, device)?;
    match device.strip_prefix("/dev/") {
        Some(_) => check::path(at, device),
        None => Err(at.is(Problem::Device(Shown::new(device)))),
    }
}

fn disks(at: &At, disks: &[Disk], config: &mut Map<String, Value>) -> Result<(), Error> {
    check::at_most(at, disks.len(), MOST_DISKS)?;
    let mut setup = Map::new();
    for (index, disk) in disks.iter().enumerate() {
        let at = at.item(index);
        device(&at.field("device"), &disk.device)?;
        let layout = layout(&at.field("partitions"), disk)?;
        let table = match disk.table {
            Table::Gpt => "gpt",
            Table::Mbr => "mbr",
        };
        let entry = json!({ "table_type": table, "layout": layout, "overwrite": disk.overwrite });
        if setup.insert(disk.device.clone(), entry).is_some() {
            return Err(at.field("device").is(Problem::Twice(Shown::new(&disk.device))));
        }
    }
    if !setup.is_empty() {
        config.insert("disk_setup".into(), Value::Object(setup));
    }
    Ok(())
}

fn layout(at: &At, disk: &Disk) -> Result<Value, Error> {
    let most = if disk.table == Table::Mbr { 4 } else { MOST_PARTITIONS };
    check::at_most(at, disk.partitions.len(), most)?;
    if disk.partitions.is_empty() {
        return Ok(json!(true));
    }
    let mut sum = 0;
    let mut layout = Vec::with_capacity(disk.partitions.len());
    for (index, partition) in disk.partitions.iter().enumerate() {
        let at = at.item(index);
        check::within(&at.field("percent"), partition.percent, 1, 100)?;
        sum += partition.percent;
        check::within(&at.field("percent"), sum, 1, 100)
            .map_err(|_| at.field("percent").is(Problem::MoreThanWhole(sum)))?;
        layout.push(match &partition.kind {
            None => json!(partition.percent),
            Some(kind) => {
                // cloud-init's schema wants a number there, whose digits become the tools' hexadecimal ones.
                let digits = kind.len() == if disk.table == Table::Mbr { 2 } else { 4 }
                    && kind.bytes().all(|byte| byte.is_ascii_digit());
                match kind.parse::<u32>() {
                    Ok(number) if digits && !kind.starts_with('0') => json!([partition.percent, number]),
                    _ => return Err(at.field("kind").is(Problem::PartitionType(Shown::new(kind)))),
                }
            }
        });
    }
    Ok(Value::Array(layout))
}

fn kind(at: &At, name: &str) -> Result<(), Error> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.');
    if name.is_empty()
        || name.len() > 32
        || !name.bytes().all(plain)
        || !name.starts_with(|c: char| c.is_ascii_alphanumeric())
    {
        return Err(at.is(Problem::FilesystemKind(Shown::new(name))));
    }
    Ok(())
}

fn filesystems(at: &At, list: &[Filesystem], config: &mut Map<String, Value>) -> Result<(), Error> {
    check::at_most(at, list.len(), MOST_MOUNTS)?;
    let mut setup = Vec::with_capacity(list.len());
    for (index, entry) in list.iter().enumerate() {
        let at = at.item(index);
        device(&at.field("device"), &entry.device)?;
        kind(&at.field("filesystem"), &entry.filesystem)?;
        let mut out = Map::new();
        out.insert("device".into(), json!(entry.device));
        out.insert("filesystem".into(), json!(entry.filesystem));
        if let Some(label) = &entry.label {
            let at = at.field("label");
            check::line(&at, label, 255, &[' ', '/', '"', '\\'])?;
            if label.starts_with('-') {
                return Err(at.is(Problem::Reserved('-')));
            }
            out.insert("label".into(), json!(label));
        }
        out.insert("overwrite".into(), json!(entry.overwrite));
        if list.iter().take(index).any(|other| other.device == entry.device) {
            return Err(at.field("device").is(Problem::Twice(Shown::new(&entry.device))));
        }
        setup.push(Value::Object(out));
    }
    if !setup.is_empty() {
        config.insert("fs_setup".into(), Value::Array(setup));
    }
    Ok(())
}

/// What fstab's first field may be; answers whether it is on the network.
fn source(at: &At, source: &str) -> Result<bool, Error> {
    fstab_word(at, source)?;
    if source.starts_with("/dev/") {
        return check::path(at, source).map(|()| false);
    }
    if source == "tmpfs" {
        return Ok(false);
    }
    if let Some(share) = source.strip_prefix("//") {
        return match share.split_once('/') {
            Some((server, path)) if !server.is_empty() && !path.is_empty() => Ok(true),
            _ => Err(at.is(Problem::Device(Shown::new(source)))),
        };
    }
    let tag = ["LABEL=", "UUID=", "PARTLABEL=", "PARTUUID="].into_iter().find_map(|tag| source.strip_prefix(tag));
    match (tag, source.split_once(":/")) {
        (Some(value), _) if !value.is_empty() => Ok(false),
        (None, Some((server, _))) if !server.is_empty() && !server.contains('/') => Ok(true),
        _ => Err(at.is(Problem::Device(Shown::new(source)))),
    }
}

fn mounts(at: &At, mounts: &[Mount], config: &mut Map<String, Value>) -> Result<(), Error> {
    check::at_most(at, mounts.len(), MOST_MOUNTS)?;
    let mut entries = Vec::with_capacity(mounts.len());
    for (index, mount) in mounts.iter().enumerate() {
        let at = at.item(index);
        let remote = source(&at.field("device"), &mount.device)?;
        let kind_name = mount.filesystem.as_deref().unwrap_or("auto");
        kind(&at.field("filesystem"), kind_name)?;
        if mount.path == "none" {
            if kind_name != "swap" {
                return Err(at.field("path").is(Problem::Path(Shown::new("none"), "only swap is mounted nowhere")));
            }
        } else {
            check::path(&at.field("path"), &mount.path)?;
            fstab_word(&at.field("path"), &mount.path)?;
            if mounts.iter().take(index).any(|other| other.path == mount.path) {
                return Err(at.field("path").is(Problem::Twice(Shown::new(&mount.path))));
            }
        }
        let options = at.field("options");
        check::at_most(&options, mount.options.0.len(), 64)?;
        for (index, option) in mount.options.0.iter().enumerate() {
            fstab_word(&options.item(index), option)?;
        }
        let words = if mount.options.0.is_empty() { "defaults,nofail".to_owned() } else { mount.options.0.join(",") };
        check::within(&at.field("dump"), mount.dump, 0, 1)?;
        let local = !remote && mount.device != "tmpfs" && kind_name != "swap";
        let pass = mount.pass.unwrap_or(if local { 2 } else { 0 });
        check::within(&at.field("pass"), pass, 0, 2)?;
        // All six are strings: cloud-init's schema takes nothing else, and it joins them as they are.
        entries.push(json!([mount.device, mount.path, kind_name, words, mount.dump.to_string(), pass.to_string()]));
    }
    if !entries.is_empty() {
        config.insert("mounts".into(), Value::Array(entries));
    }
    Ok(())
}

fn swap(at: &At, swap: Option<&Swap>, config: &mut Map<String, Value>) -> Result<(), Error> {
    let Some(swap) = swap else { return Ok(()) };
    let path = swap.path.as_deref().unwrap_or("/swap.img");
    check::path(&at.field("path"), path)?;
    fstab_word(&at.field("path"), path)?;
    let Bytes(size) = swap.size;
    if !(1 << 20..=16 << 40).contains(&size) {
        return Err(at.field("size").is(Problem::SwapSize));
    }
    config.insert("swap".into(), json!({ "filename": path, "size": size, "maxsize": size }));
    Ok(())
}
