//! The licence manager: the simulator runs on the evaluation licence, which allows everything.

use crate::sim::call::{Answer, Call, Reply};
use crate::sim::fault::VimFault;
use crate::sim::service::PRODUCT;
use crate::sim::value::{Data, Ref, Value};

const KEY: &str = "00000-00000-00000-00000-00000";

pub fn property(property: &str) -> Option<Value> {
    Some(match property {
        "source" => Data::new("EvaluationLicenseSource").with("remainingHours", 1440i64).into(),
        "sourceAvailable" => true.into(),
        "licensedEdition" => "eval".into(),
        "licenses" => vec![evaluation()].into(),
        "evaluation" => Data::new("LicenseManagerEvaluationInfo").with("properties", properties()).into(),
        "licenseAssignmentManager" => Ref::fixed("LicenseAssignmentManager", "ha-license-assignment-manager").into(),
        _ => return None,
    })
}

fn properties() -> Vec<Data> {
    let pair = |key: &'static str, value: Value| Data::new("KeyAnyValue").with("key", key).with("value", value);
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

pub fn call(call: &Call) -> Answer {
    match call.method {
        "QueryAssignedLicenses" => {
            let assigned = Data::new("LicenseAssignmentManagerLicenseAssignment")
                .with("entityId", "ha-host")
                .with("entityDisplayName", super::HOST_NAME)
                .with("assignedLicense", evaluation());
            Ok(Reply::Value(vec![assigned].into()))
        }
        "DecodeLicense" => match call.text("licenseKey")? {
            KEY => Ok(evaluation().into()),
            _ => Err(VimFault::invalid_argument("licenseKey", "the simulator knows the evaluation licence only")),
        },
        other => Err(VimFault::not_supported(format!("{other}: the simulator keeps its evaluation licence"))),
    }
}
