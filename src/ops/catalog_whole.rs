//! Operations of the catalog on what is of no single machine: runs, hosts, repositories, tags. Who may not read all of it sees none of it.

use schemars::JsonSchema;
use serde::Deserialize;

use super::catalog::{READ, function, limit};
use super::catalog_rows::{CatalogHost, CatalogHostProbe, CatalogRepository, CatalogRuns, CatalogTag, RunRow};
use crate::catalog;
use crate::door::Pass;
use crate::door::bind::Binder;
use crate::door::operation::{Effect, Operation, Place, Touch};
use crate::error::{Fault, nearest};

/// Lists the runs that have ended, the newest first, page by page. The audit log tells what each did.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Runs {
    /// The most rows of the page, 1 to 10000. Default: 100.
    pub limit: Option<u32>,
    /// Where the page before ended: its `cursor`.
    pub cursor: Option<String>,
}

impl Operation for Runs {
    const NAME: &'static str = "catalog.runs";
    const EFFECT: Effect = Effect::Read;
    const PLACE: Place = function("runs");
    const TOUCHES: &'static [Touch] = READ;
    const USAGE: &'static str =
        "for _, run in catalog.runs({ limit = 10 }).runs do\n  print(run.ended, run.what, run.outcome)\nend";

    type Bound = ();
    type Output = CatalogRuns;

    async fn bind(&self, binder: &Binder<'_>) -> Result<(), Fault> {
        binder.filtered("catalog", "read")
    }

    async fn act(self, (): (), pass: &Pass<'_>) -> Result<CatalogRuns, Fault> {
        if !pass.may_read_all("catalog") {
            return Ok(CatalogRuns { runs: Vec::new(), cursor: None });
        }
        pass.catalog(move |catalog| {
            let page = catalog.runs(limit(self.limit), self.cursor.as_deref())?;
            Ok(CatalogRuns { runs: page.rows.into_iter().map(RunRow::from).collect(), cursor: page.cursor })
        })
        .await
    }
}

/// Declares an operation without arguments that lists what is of no single machine.
macro_rules! lists {
    ($(#[doc = $doc:literal])* $type:ident $name:literal $function:literal $usage:literal $row:ty, $ask:expr) => {
        $(#[doc = $doc])*
        #[derive(Debug, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $type {}

        impl Operation for $type {
            const NAME: &'static str = $name;
            const EFFECT: Effect = Effect::Read;
            const PLACE: Place = function($function);
            const TOUCHES: &'static [Touch] = READ;
            const USAGE: &'static str = $usage;

            type Bound = ();
            type Output = Vec<$row>;

            async fn bind(&self, binder: &Binder<'_>) -> Result<(), Fault> {
                binder.filtered("catalog", "read")
            }

            async fn act(self, (): (), pass: &Pass<'_>) -> Result<Self::Output, Fault> {
                if !pass.may_read_all("catalog") {
                    return Ok(Vec::new());
                }
                pass.catalog(|catalog| Ok($ask(catalog)?.into_iter().map(<$row>::from).collect())).await
            }
        }
    };
}

lists! {
    /// Lists the hosts that runs have spoken with.
    Hosts "catalog.hosts" "hosts" "for _, host in catalog.hosts() do\n  print(host.name, host.product, host.last_seen)\nend"
    CatalogHost, catalog::Catalog::hosts
}

/// Tells what is known of a host: its build, and what a probe has found out about it.
///
/// Errors: `catalog.unknown_host` with the nearest names.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// The host's name in the configuration; `sim` for the simulator.
    pub name: String,
}

impl Operation for Host {
    const NAME: &'static str = "catalog.host";
    const EFFECT: Effect = Effect::Read;
    const PLACE: Place = function("host");
    const POSITIONAL: &'static [&'static str] = &["name"];
    const TOUCHES: &'static [Touch] = READ;
    const USAGE: &'static str = "local ok, known: any = pcall(catalog.host, \"lab\")\nif ok then\n  print(known.product, known.probed, known.stale)\nend";

    type Bound = ();
    type Output = CatalogHostProbe;

    async fn bind(&self, binder: &Binder<'_>) -> Result<(), Fault> {
        binder.everything("catalog", "read")
    }

    async fn act(self, (): (), pass: &Pass<'_>) -> Result<CatalogHostProbe, Fault> {
        pass.catalog(move |catalog| {
            if let Some(host) = catalog.host(&self.name)? {
                return Ok(CatalogHostProbe::from(host));
            }
            let name = self.name;
            let fault = Fault::new("catalog.unknown_host", format!("no run has spoken with a host named {name:?}"));
            let known = catalog.hosts()?;
            Err(match nearest(&name, known.iter().map(|host| host.name.as_str())).first() {
                Some(near) => fault.hint(format!("did you mean {near:?}?")),
                None => fault.hint(
                    "ceso host probe finds out what a host can, and ceso host list names those that are configured",
                ),
            })
        })
        .await
    }
}

lists! {
    /// Lists the repositories that were opened, each with the number of its backups that are known.
    ///
    /// `read` tells when all backups of it were last read; where it is nil, only some are known: `catalog.rebuild` reads them all.
    Repositories "catalog.repositories" "repositories" "for _, repository in catalog.repositories() do\n  print(repository.name, repository.backups, repository.read)\nend"
    CatalogRepository, catalog::Catalog::repositories
}

lists! {
    /// Lists the tags of backups, each with the number of backups that bear it.
    Tags "catalog.tags" "tags" "for _, tag in catalog.tags() do\n  print(tag.tag, tag.backups)\nend"
    CatalogTag, catalog::Catalog::tags
}
