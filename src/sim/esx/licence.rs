//! The licence manager: the simulator runs on the evaluation licence, which allows everything, or on the free one, and takes no other key.
//!
//! A key that is not valid is no fault: the answer carries a `diagnostic`, and the licence stays what it was. The key of zeros goes back
//! to the evaluation. Specification: vSphere Web Services API, `LicenseManager`, `LicenseAssignmentManager`.

use crate::sim::call::{Answer, Call, Reply};
use crate::sim::fault::VimFault;
use crate::sim::service::PRODUCT;
use crate::sim::value::{Data, Ref, Value};
use crate::sim::world::World;

const KEY: &str = "00000-00000-00000-00000-00000";

/// The key of the free licence: none that VMware gave out.
const FREE: &str = "FREE0-00000-00000-00000-00000";

pub fn property(world: &World, property: &str) -> Option<Value> {
    Some(match property {
        "source" => Data::new("EvaluationLicenseSource").with("remainingHours", 1440i64).into(),
        "sourceAvailable" => true.into(),
        "licensedEdition" => if world.hindrances.free_licence { "esxBasic" } else { "eval" }.into(),
        "licenses" => vec![own(world)].into(),
        "evaluation" => Data::new("LicenseManagerEvaluationInfo").with("properties", properties()).into(),
        "licenseAssignmentManager" => Ref::fixed("LicenseAssignmentManager", "ha-license-assignment-manager").into(),
        _ => return None,
    })
}

fn pair(key: &'static str, value: Value) -> Data {
    Data::new("KeyAnyValue").with("key", key).with("value", value)
}

fn properties() -> Vec<Data> {
    vec![
        pair("expirationHours", 1440i64.into()),
        pair("expirationMinutes", 86_400i64.into()),
        pair("ProductName", "VMware ESX Server".into()),
        pair("ProductVersion", PRODUCT.0.into()),
    ]
}

fn evaluation() -> Data {
    Data::new("LicenseManagerLicenseInfo")
        .with("licenseKey", KEY)
        .with("editionKey", "eval")
        .with("name", "Evaluation Mode")
        .with("total", 0)
        .with("used", 1)
        .with("costUnit", "")
        .with("properties", properties())
}

/// The licence that the host runs on.
fn own(world: &World) -> Data {
    if !world.hindrances.free_licence {
        return evaluation();
    }
    Data::new("LicenseManagerLicenseInfo")
        .with("licenseKey", FREE)
        .with("editionKey", "esxBasic")
        .with("name", "VMware vSphere 8 Hypervisor")
        .with("total", 0)
        .with("used", 1)
        .with("costUnit", "cpuPackage:32core")
        .with(
            "properties",
            vec![pair("ProductName", "VMware ESX Server".into()), pair("ProductVersion", PRODUCT.0.into())],
        )
}

/// What a key is worth: that of the evaluation, or nothing.
fn decode(key: &str) -> Result<Data, VimFault> {
    let groups: Vec<&str> = key.split('-').collect();
    let five = |group: &&str| group.len() == 5 && group.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if groups.len() != 5 || !groups.iter().all(five) {
        return Err(VimFault::invalid_argument("licenseKey", "it is five groups of five letters and digits"));
    }
    if key == KEY {
        return Ok(evaluation());
    }
    let diagnostic = pair("diagnostic", "License is not valid for this product".into());
    Ok(Data::new("LicenseManagerLicenseInfo")
        .with("licenseKey", key.to_owned())
        .with("editionKey", "")
        .with("name", "")
        .with("total", 0)
        .with("used", 0)
        .with("costUnit", "")
        .with("properties", vec![diagnostic]))
}

pub fn call(world: &World, call: &Call) -> Answer {
    match call.method {
        "QueryAssignedLicenses" => {
            let assigned = Data::new("LicenseAssignmentManagerLicenseAssignment")
                .with("entityId", "ha-host")
                .with("entityDisplayName", super::HOST_NAME)
                .with("assignedLicense", own(world));
            Ok(Reply::Value(vec![assigned].into()))
        }
        "DecodeLicense" | "UpdateLicense" => Ok(decode(call.text("licenseKey")?)?.into()),
        "AddLicense" | "RemoveLicense" | "UpdateAssignedLicense" | "RemoveAssignedLicense" => {
            Err(VimFault::not_supported(format!("{} needs a vCenter Server; a host takes UpdateLicense", call.method)))
        }
        other => Err(VimFault::not_supported(format!("{other}: the simulator keeps its evaluation licence"))),
    }
}
