//! The operation that makes the catalog anew from the repositories, which are the truth of what they hold.

use schemars::JsonSchema;
use serde::Deserialize;

use super::catalog::function;
use super::catalog_rows::{Rebuilt, row_of};
use crate::catalog;
use crate::door::Pass;
use crate::door::bind::Binder;
use crate::door::operation::{Effect, Operation, Place, Selector, Touch, touch};
use crate::door::repository::CheckedName;
use crate::error::Fault;

/// Makes what is known of backups anew from the repositories: those that are named, or all of the configuration and those that it knows by
/// a place that was typed out.
///
/// What it then says of their backups is what it would say had it never been lost. A repository that cannot be read is named in the
/// result, and what was known of it stays. Errors: `catalog.busy`, `catalog.full`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rebuild {
    /// The repositories' names in the configuration. Default: all, and those that are known by their places.
    pub repositories: Option<Vec<String>>,
}

impl Operation for Rebuild {
    const NAME: &'static str = "catalog.rebuild";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = function("rebuild");
    const TOUCHES: &'static [Touch] =
        &[touch("catalog", "write", Selector::Filtered), touch("repository", "read", Selector::Found)];
    const USAGE: &'static str = "for _, repository in catalog.rebuild() do\n  print(repository.name, repository.backups, repository.problem)\nend";

    type Bound = Vec<CheckedName>;
    type Output = Vec<Rebuilt>;

    async fn bind(&self, binder: &Binder<'_>) -> Result<Self::Bound, Fault> {
        binder.everything("catalog", "write")?;
        binder.repositories(self.repositories.as_deref(), "read")
    }

    async fn act(self, names: Vec<CheckedName>, pass: &Pass<'_>) -> Result<Self::Output, Fault> {
        let mut rebuilt = Vec::new();
        for name in &names {
            rebuilt.push(anew(name, pass).await?);
        }
        // After those of the configuration, which may be the same places under their names.
        if self.repositories.is_none() {
            for name in pass.typed_out_repositories().await? {
                rebuilt.push(anew(&name, pass).await?);
            }
        }
        Ok(rebuilt)
    }
}

/// Replaces what is known of a repository by what is in it. One that cannot be read is told, and is no fault.
async fn anew(name: &CheckedName, pass: &Pass<'_>) -> Result<Rebuilt, Fault> {
    let told = |backups, problem| Rebuilt { name: name.name().to_owned(), backups, problem };
    let (row, backups) = match read_whole(name, pass).await {
        Ok(read) => read,
        Err(fault) if fault.is("script") || fault.is("limit") => return Err(fault),
        Err(fault) => return Ok(told(0, Some(fault.to_string()))),
    };
    let count = backups.len() as u64;
    pass.catalog(move |catalog| {
        // A damaged catalog is set aside at the first touch; what is asked for here is a new one.
        match catalog.replace(&row, &backups) {
            Err(catalog::Error::Damaged { aside: Some(_), .. }) => Ok(catalog.replace(&row, &backups)?),
            replaced => Ok(replaced?),
        }
    })
    .await?;
    Ok(told(count, None))
}

async fn read_whole(name: &CheckedName, pass: &Pass<'_>) -> Result<(catalog::Repository, Vec<catalog::Backup>), Fault> {
    let bound = pass.open_repository(name).await?;
    let row = pass.read_whole(&bound).ok_or_else(|| {
        Fault::new("backup.damaged", format!("the repository {:?} has no identity", name.name()))
            .hint("ceso repository check tells what is wrong with it")
    })?;
    let repository = row.id;
    let backups = pass
        .blocking(move |watch| {
            // One whose file is damaged is no backup any more, and hides no other.
            let (found, _) = bound.watched(watch).backups_and_damaged()?;
            Ok(found.iter().map(|(id, manifest)| row_of(*id, manifest, repository)).collect())
        })
        .await?;
    Ok((row, backups))
}
