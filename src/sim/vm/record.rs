//! One machine as it is kept in the state folder: JSON, its devices as the XML of the API, checked by the same tables.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::snapshot::{Snapshot, Snapshots};
use super::{Power, Vm};
use crate::sim::decode;
use crate::sim::encode;
use crate::sim::guest::Applied;
use crate::sim::schema::{Kind, Version};
use crate::sim::value::{Data, Value};
use crate::xml::{self, Limits};

/// The file's form. Unknown keys are an error: a newer program wrote them, and would lose them.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    id: u64,
    name: String,
    uuid: String,
    instance_uuid: String,
    guest_id: String,
    version: String,
    firmware: String,
    cpus: i32,
    cores_per_socket: i32,
    memory_mb: i32,
    annotation: String,
    vmx: String,
    created: i64,
    change_version: u64,
    extra: Vec<(String, String)>,
    devices: Vec<String>,
    settings: String,
    power: Power,
    powered_on_ms: Option<i64>,
    suspended_ms: Option<i64>,
    system: bool,
    applied: Option<Applied>,
    leases: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    snapshots: Vec<Saved>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    current_snapshot: Option<u32>,
    #[serde(default)]
    last_snapshot: u32,
}

/// One snapshot; its machine has none of its own.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    id: u32,
    name: String,
    description: String,
    created_ms: i64,
    quiesced: bool,
    parent: Option<u32>,
    machine: Record,
}

impl Vm {
    pub fn to_json(&self) -> Result<Record, String> {
        Ok(Record {
            id: self.id,
            name: self.name.clone(),
            uuid: self.uuid.clone(),
            instance_uuid: self.instance_uuid.clone(),
            guest_id: self.guest_id.clone(),
            version: self.version.clone(),
            firmware: self.firmware.clone(),
            cpus: self.cpus,
            cores_per_socket: self.cores_per_socket,
            memory_mb: self.memory_mb,
            annotation: self.annotation.clone(),
            vmx: self.vmx.clone(),
            created: self.created.unix_timestamp(),
            change_version: self.change_version,
            extra: self.extra.clone(),
            devices: self
                .devices
                .iter()
                .map(|device| text("device", device, "VirtualDevice"))
                .collect::<Result<_, _>>()?,
            settings: text("settings", &self.settings, "VirtualMachineConfigInfo")?,
            power: self.power,
            powered_on_ms: self.powered_on.map(milliseconds),
            suspended_ms: self.suspended.map(milliseconds),
            system: self.system,
            applied: self.applied.clone(),
            leases: self.leases.clone(),
            snapshots: self.snapshots.list.iter().map(Saved::of).collect::<Result<_, _>>()?,
            current_snapshot: self.snapshots.current,
            last_snapshot: self.snapshots.last,
        })
    }

    /// Reads a record; the error says what is wrong with it.
    pub fn from_json(bytes: &[u8]) -> Result<Self, String> {
        Self::of_record(serde_json::from_slice(bytes).map_err(|error| error.to_string())?)
    }

    fn of_record(record: Record) -> Result<Self, String> {
        let devices = record.devices.iter().map(|device| data(device, "VirtualDevice")).collect::<Result<_, _>>()?;
        let time = |seconds| OffsetDateTime::from_unix_timestamp(seconds).map_err(|error| error.to_string());
        Ok(Self {
            id: record.id,
            name: record.name,
            uuid: record.uuid,
            instance_uuid: record.instance_uuid,
            guest_id: record.guest_id,
            version: record.version,
            firmware: record.firmware,
            cpus: record.cpus,
            cores_per_socket: record.cores_per_socket,
            memory_mb: record.memory_mb,
            annotation: record.annotation,
            vmx: record.vmx,
            created: time(record.created)?,
            change_version: record.change_version,
            extra: record.extra,
            devices,
            settings: data(&record.settings, "VirtualMachineConfigInfo")?,
            power: record.power,
            powered_on: record.powered_on_ms.map(moment).transpose()?,
            suspended: record.suspended_ms.map(moment).transpose()?,
            system: record.system,
            applied: record.applied,
            leases: record.leases,
            snapshots: Snapshots {
                list: record.snapshots.into_iter().map(Saved::snapshot).collect::<Result<_, _>>()?,
                current: record.current_snapshot,
                last: record.last_snapshot,
            },
        })
    }
}

impl Saved {
    fn of(snapshot: &Snapshot) -> Result<Self, String> {
        Ok(Self {
            id: snapshot.id,
            name: snapshot.name.clone(),
            description: snapshot.description.clone(),
            created_ms: milliseconds(snapshot.created),
            quiesced: snapshot.quiesced,
            parent: snapshot.parent,
            machine: snapshot.saved.to_json()?,
        })
    }

    fn snapshot(self) -> Result<Snapshot, String> {
        Ok(Snapshot {
            id: self.id,
            name: self.name,
            description: self.description,
            created: moment(self.created_ms)?,
            quiesced: self.quiesced,
            parent: self.parent,
            saved: Box::new(Vm::of_record(self.machine)?),
        })
    }
}

fn milliseconds(time: OffsetDateTime) -> i64 {
    i64::try_from(time.unix_timestamp_nanos() / 1_000_000).unwrap_or_default()
}

fn moment(milliseconds: i64) -> Result<OffsetDateTime, String> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(milliseconds) * 1_000_000).map_err(|error| error.to_string())
}

/// A data object as a document of its own.
pub fn text(name: &str, object: &Data, declared: &'static str) -> Result<String, String> {
    let mut out = String::new();
    let value = Value::Data(object.clone());
    encode::write(&mut out, name, &value, Kind::Named(declared), Version::NEWEST).map_err(|error| error.to_string())?;
    Ok(out.replacen(
        &format!("<{name}"),
        &format!(r#"<{name} xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:xsd="http://www.w3.org/2001/XMLSchema""#),
        1,
    ))
}

/// A data object out of a document that [`text`] wrote.
pub fn data(text: &str, declared: &str) -> Result<Data, String> {
    let element =
        xml::parse(text.as_bytes(), Limits { bytes: 1 << 20, depth: 32 }).map_err(|error| error.to_string())?;
    decode::partial(&element, declared).map_err(|fault| fault.message)
}
