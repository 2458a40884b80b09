//! The one host system of a standalone host: its own properties, and the managers that it names.
//!
//! A vCenter has many, and what is done to one of them is done by connecting to it.

use super::error::Error;
use super::host::Host;
use super::moref::MoRef;
use super::places::Reach;
use super::property::Object;

impl Host {
    /// The host system with these properties, in one request. Errors: `esxi.needs_host` on a vCenter.
    pub(super) async fn system(&self, paths: &[&'static str]) -> Result<Object, Error> {
        if self.is_vcenter() {
            return Err(self.needs_host().await);
        }
        let query = self.link.everything(&[Reach::Hosts], vec![("HostSystem", paths.to_vec())]);
        let objects = self.link.retrieve(&query).await?;
        objects.into_iter().find(|object| object.moref.kind == "HostSystem").ok_or_else(|| Error::BadAnswer {
            host: self.name().to_owned(),
            reason: "an inventory without a host".to_owned(),
        })
    }

    /// A manager of the host's configuration, such as `configManager.networkSystem`.
    pub(super) async fn manager(&self, path: &'static str) -> Result<MoRef, Error> {
        self.system(&[path]).await?.reference(path).ok_or_else(|| Error::Invalid {
            reason: format!("host {} has no {}", self.name(), path.rsplit('.').next().unwrap_or(path)),
            hint: Some("this release, or this account, does not offer it".to_owned()),
        })
    }
}
