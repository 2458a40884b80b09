//! Datastores and what lies on them, bound for a call: by handle, by name, by the machine whose files they hold.

// Here names become objects.
#![allow(clippy::disallowed_methods)]

use std::sync::Arc;

use super::bind::{Binder, BoundVm, foreign, vouch};
use super::object::{Connected, Object, Target, kind};
use crate::error::Fault;
use crate::esxi::checked::Checked;
use crate::esxi::{self, FilePath};

/// A datastore that the operation under way may use, and the host that it is on.
pub struct BoundDatastore {
    pub host: Arc<Connected>,
    pub datastore: Checked<esxi::Datastore>,
}

impl Binder<'_> {
    /// The datastore behind a handle as it is now, for all of these verbs; the run's tables are asked before anything is sent.
    pub async fn datastore_of(
        &self,
        target: &Target<kind::Datastore>,
        verbs: &[&'static str],
    ) -> Result<BoundDatastore, Fault> {
        self.datastore_with(target, verbs, None).await
    }

    /// A path of a datastore, below its root, for all of these verbs; what `delete` takes away counts as made where the run made it.
    pub async fn file_of(
        &self,
        target: &Target<kind::Datastore>,
        verbs: &[&'static str],
        path: &str,
    ) -> Result<(BoundDatastore, FilePath), Fault> {
        let path = FilePath::below_root(path)?;
        let taken = verbs.contains(&"delete").then_some(&path);
        let bound = self.datastore_with(target, verbs, taken).await?;
        Ok((bound, path))
    }

    async fn datastore_with(
        &self,
        target: &Target<kind::Datastore>,
        verbs: &[&'static str],
        path: Option<&FilePath>,
    ) -> Result<BoundDatastore, Fault> {
        let Some(Object::Datastore(host, known)) = self.object(target.id) else {
            return Err(foreign(target.id));
        };
        let made = path.is_some_and(|path| self.has_made_file(&host.name, &known.name, path));
        for verb in verbs {
            self.check("datastore", verb, &known.name, made)?;
        }
        self.note_host(&host);
        let all = host.client.lookup_datastores().await?;
        match all.into_iter().find(|now| now.moref == known.moref) {
            Some(now) if now.name == known.name => Ok(BoundDatastore { host, datastore: vouch(now) }),
            _ => Err(Fault::new(
                "esxi.replaced",
                format!("the datastore {:?} on {} is gone, or was renamed", known.name, host.name),
            )
            .hint("look it up again by name")),
        }
    }

    /// The datastores that a machine's files are on: who may have a machine's content may have it from there.
    pub async fn datastores_of(&self, bound: &BoundVm) -> Result<Vec<Checked<esxi::Datastore>>, Fault> {
        let all = bound.host.client.lookup_datastores().await?;
        Ok(all.into_iter().filter(|store| bound.vm.datastores.contains(&store.name)).map(vouch).collect())
    }

    /// The datastores that the machine of a snapshot has files on.
    pub async fn datastores_of_snapshot(
        &self,
        bound: &super::snapshots::BoundSnapshot,
    ) -> Result<Vec<Checked<esxi::Datastore>>, Fault> {
        let all = bound.host.client.lookup_datastores().await?;
        Ok(all.into_iter().filter(|store| bound.vm.datastores.contains(&store.name)).map(vouch).collect())
    }

    /// Another datastore of the same host by its name, for a declared verb; without a name the same one.
    pub async fn datastore_beside(
        &self,
        bound: &BoundDatastore,
        name: Option<&str>,
        verb: &'static str,
    ) -> Result<Checked<esxi::Datastore>, Fault> {
        let name = name.unwrap_or(&bound.datastore.name);
        self.check("datastore", verb, name, false)?;
        if name == bound.datastore.name {
            return Ok(vouch((*bound.datastore).clone()));
        }
        self.datastore(&self.bound_host(bound.host.clone()), name, verb).await
    }
}

/// What tells a file or folder that the run made from every other.
pub(super) fn file_key(host: &str, datastore: &str, path: &FilePath) -> String {
    format!("{host} file {}", path.on(datastore))
}
