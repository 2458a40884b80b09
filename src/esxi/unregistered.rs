//! Disks of machines that are registered nowhere and build on another machine's: linked clones that were taken out of the inventory.
//!
//! The inventory does not tell of them, so the datastores are searched for deltas, and the descriptor of each that belongs to no registered
//! machine is read for what it builds on. It costs one search of each datastore, which calls at the same time share, and one small file for
//! each such delta. It is bounded: [`LONGEST`] for all of it, and the first [`MOST`] deltas. A datastore that cannot be searched in that time is
//! not seen, which is no reason to refuse anything.
//! Specification: vSphere Web Services API, `HostDatastoreBrowser.SearchDatastoreSubFolders_Task`; Virtual Disk Format,
//! `parentFileNameHint`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::xml::Element;

use super::checked::Checked;
use super::error::Error;
use super::files::{path, split};
use super::host::Host;
use super::linked::{Builds, folder};
use super::object::{Datastore, Vm};

/// How long all of it may take.
const LONGEST: Duration = Duration::from_secs(10);
/// How many descriptors are read.
const MOST: usize = 200;
/// A descriptor is a small text.
const DESCRIPTOR: u64 = 64 << 10;
/// What the names of deltas' contents end in.
const DELTAS: [&str; 2] = ["-delta.vmdk", "-sesparse.vmdk"];

/// A disk of no registered machine, and what it builds on, each by its whole path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stray {
    disk: String,
    parent: String,
}

/// What the last search found, and when it began.
pub(super) type LastSearch = tokio::sync::Mutex<Option<(Instant, Arc<Vec<Stray>>)>>;

impl Host {
    /// The disks of no registered machine that build on this machine's: what was found within the bounds.
    pub async fn stray_children(&self, vm: &Checked<Vm>) -> Vec<String> {
        let found = tokio::time::timeout(LONGEST, async {
            let strays = self.strays().await?;
            let all = self.scan().await?;
            Ok::<_, Error>((strays, all))
        });
        let (strays, all) = match found.await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                tracing::debug!(host = self.name(), "disks of no machine were not looked for: {error}");
                return Vec::new();
            }
            Err(_) => {
                tracing::warn!(host = self.name(), "disks of no machine were not found in time, if there are any");
                return Vec::new();
            }
        };
        let own: Vec<&str> = all.iter().filter(|own| own.vm == vm.moref).flat_map(Builds::files).collect();
        let home = folder(&vm.path);
        let builds = |stray: &&Stray| own.contains(&stray.parent.as_str()) || folder(&stray.parent) == home;
        strays.iter().filter(builds).map(|stray| stray.disk.clone()).collect()
    }

    /// All disks of no registered machine that build on others. Calls that come while somebody looks share the next look.
    async fn strays(&self) -> Result<Arc<Vec<Stray>>, Error> {
        let asked = Instant::now();
        let mut last = self.last_search.lock().await;
        if let Some((_, found)) = last.as_ref().filter(|(began, _)| *began >= asked) {
            return Ok(found.clone());
        }
        let began = Instant::now();
        let found = Arc::new(self.search_strays().await?);
        *last = Some((began, found.clone()));
        Ok(found)
    }

    #[allow(clippy::disallowed_methods, reason = "nothing of it is handed out but what builds on a checked machine")]
    async fn search_strays(&self) -> Result<Vec<Stray>, Error> {
        let stores = self.lookup_datastores().await?;
        let all = self.scan().await?;
        let homes: BTreeSet<(&str, &str)> = all.iter().flat_map(Builds::files).filter_map(folder).collect();
        let deltas = join_all(stores.iter().map(async |store| match self.deltas_on(store).await {
            Ok(found) => found.into_iter().map(|(folder, name)| (store, folder, name)).collect::<Vec<_>>(),
            Err(error) => {
                tracing::debug!(host = self.name(), "{} was not searched for deltas: {error}", store.name);
                Vec::new()
            }
        }));
        let deltas = deltas.await.into_iter().flatten();
        let unowned = deltas.filter(|(store, folder, _)| !homes.contains(&(store.name.as_str(), folder.as_str())));
        let mut strays = Vec::new();
        for (store, folder, name) in unowned.take(MOST) {
            let file = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            let hint = self.builds_on(store, &file).await;
            if let Some(parent) = hint.and_then(|hint| parent(&stores, store, &folder, &hint)) {
                strays.push(Stray { disk: path(&store.name, &file), parent });
            }
        }
        Ok(strays)
    }

    /// The descriptors of the deltas on a datastore, each with its folder.
    async fn deltas_on(&self, store: &Datastore) -> Result<Vec<(String, String)>, Error> {
        let spec = Element::new("searchSpec")
            .with_all(DELTAS.map(|ending| Element::leaf("matchPattern", format!("*{ending}"))));
        let found = self.search_path(store, &path(&store.name, ""), true, Some(spec)).await?;
        let described = found.into_iter().filter_map(|(folder, file)| {
            let name = file.text_at("path")?.trim();
            let stem = DELTAS.iter().find_map(|ending| name.strip_suffix(ending))?;
            Some((folder.trim_matches('.').to_owned(), format!("{stem}.vmdk")))
        });
        Ok(described.collect())
    }

    /// What a descriptor says that its disk builds on.
    async fn builds_on(&self, store: &Datastore, file: &str) -> Option<String> {
        let read = self.read_whole(store, file, DESCRIPTOR).await;
        let text =
            read.inspect_err(|error| tracing::debug!(host = self.name(), "{file} was not read: {error}")).ok()?;
        let text = String::from_utf8_lossy(&text);
        let hint = text.lines().find_map(|line| line.trim().strip_prefix("parentFileNameHint="))?;
        Some(hint.trim().trim_matches('"').to_owned()).filter(|hint| !hint.is_empty())
    }
}

/// The whole path of what a hint names: beside the disk, or anywhere by the host's own path. A datastore that is named by its number is taken
/// for that of the disk.
fn parent(stores: &[Datastore], store: &Datastore, folder: &str, hint: &str) -> Option<String> {
    let (name, rest) = match hint.strip_prefix("/vmfs/volumes/") {
        Some(rest) => {
            let (volume, rest) = rest.split_once('/')?;
            let known = stores.iter().find(|own| own.name == volume).unwrap_or(store);
            (known.name.as_str(), rest.to_owned())
        }
        None => match split(hint) {
            Some((datastore, rest)) => (datastore, rest.to_owned()),
            None => (store.name.as_str(), format!("{folder}/{hint}")),
        },
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in rest.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(path(name, &parts.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::esxi::moref::MoRef;

    #[test]
    fn a_hint_names_a_disk_beside_it_or_by_the_hosts_path() {
        let stores = ["a", "b"].map(|name| Datastore { moref: MoRef::new("Datastore", name), name: name.to_owned() });
        let of = |folder: &str, hint: &str| parent(&stores, &stores[0], folder, hint);
        assert_eq!(of("child", "../base/base.vmdk").as_deref(), Some("[a] base/base.vmdk"));
        assert_eq!(of("child", "child.vmdk").as_deref(), Some("[a] child/child.vmdk"));
        assert_eq!(of("child", "/vmfs/volumes/b/base/base.vmdk").as_deref(), Some("[b] base/base.vmdk"));
        assert_eq!(of("child", "/vmfs/volumes/5f-1/base/base.vmdk").as_deref(), Some("[a] base/base.vmdk"));
        assert_eq!(of("child", "../../../etc"), None);
    }
}
