//! Operations of the catalog: what is known of backups, machines, hosts, repositories and runs, without asking any of them.

use schemars::JsonSchema;
use serde::Deserialize;

use super::catalog_rows::{
    CatalogBackup, CatalogBackups, CatalogChild, CatalogDrill, CatalogHost, CatalogHostProbe, CatalogMachine,
    CatalogMachines, CatalogRepository, CatalogRuns, CatalogTag, Rebuilt, RunRow, row_of,
};
use super::repository::{BackupState, When};
use crate::catalog::{self, Wanted};
use crate::door::Pass;
use crate::door::bind::Binder;
use crate::door::operation::{Effect, Operation, Place, Selector, Touch, touch};
use crate::door::repository::CheckedName;
use crate::error::{Fault, nearest};

const fn function(name: &'static str) -> Place {
    Place::Function { binding: "catalog", name }
}

/// The rows of a page where no number is given.
const USUAL: u32 = 100;

const READ: &[Touch] = &[touch("catalog", "read", Selector::Filtered)];

fn limit(limit: Option<u32>) -> usize {
    limit.unwrap_or(USUAL) as usize
}

/// The names of machines that a run may see, so that they can be asked about on another thread.
struct Visible(std::sync::Arc<dyn Fn(&str) -> bool + Send + Sync>);

impl Visible {
    fn of(pass: &Pass<'_>) -> Self {
        Self(pass.reader("catalog"))
    }
}

/// Lists backups, the newest first, page by page: of a machine, since a time, with a tag.
///
/// Backups of machines that may not be read are left out. The repositories are not asked: what another machine has put into them since is
/// known after `catalog.rebuild`. Errors: `catalog.damaged` once where the file was, `catalog.busy`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Backups {
    /// Only those of this machine.
    pub vm: Option<String>,
    /// Only those begun at or after this time (RFC 3339), or this long ago ("7 days").
    pub since: Option<When>,
    /// Only those begun before this time, or longer ago.
    pub before: Option<When>,
    /// Only those in this state.
    pub state: Option<BackupState>,
    /// Only those with this tag.
    pub tag: Option<String>,
    /// Only those in this repository: its name or its id.
    pub repository: Option<String>,
    /// The most rows of the page, 1 to 10000. Default: 100.
    pub limit: Option<u32>,
    /// Where the page before ended: its `cursor`.
    pub cursor: Option<String>,
}

impl Operation for Backups {
    const NAME: &'static str = "catalog.backups";
    const EFFECT: Effect = Effect::Read;
    const PLACE: Place = function("backups");
    const TOUCHES: &'static [Touch] = READ;
    const USAGE: &'static str = "local page = catalog.backups({ vm = \"web-1\", since = \"30 days\", state = \"complete\" })\nfor _, backup in page.backups do\n  print(backup.time, backup.size, backup.repository)\nend";

    type Bound = ();
    type Output = CatalogBackups;

    async fn bind(&self, binder: &Binder<'_>) -> Result<(), Fault> {
        binder.filtered("catalog", "read")
    }

    async fn act(self, (): (), pass: &Pass<'_>) -> Result<CatalogBackups, Fault> {
        let visible = Visible::of(pass);
        pass.catalog(move |catalog| {
            let repositories = catalog.repositories()?;
            let repository = self.repository.as_deref().map(|name| identity(&repositories, name)).transpose()?;
            let state = self.state.map(|state| match state {
                BackupState::Complete => catalog::State::Complete,
                BackupState::Failed => catalog::State::Failed,
            });
            let wanted = Wanted {
                machine: self.vm,
                since: self.since.map(|when| when.0),
                until: self.before.map(|when| when.0),
                state,
                tag: self.tag,
                repository,
                limit: limit(self.limit),
                cursor: self.cursor,
            };
            let page = catalog.backups(&wanted, &*visible.0)?;
            let backups = page.rows.into_iter().map(|row| CatalogBackup::of(row, &repositories)).collect();
            Ok(CatalogBackups { backups, cursor: page.cursor })
        })
        .await
    }
}

type Known = [(catalog::Repository, u64)];

/// The repository that a name means, or an id, or the first 8 or more digits of one: the one seen last of several.
fn identity(repositories: &Known, name: &str) -> Result<uuid::Uuid, Fault> {
    let named = repositories.iter().map(|(repository, _)| repository);
    let is_id = |known: &&catalog::Repository| name.len() >= 8 && known.identity().to_string().starts_with(name);
    let found = named.clone().filter(|known| known.name == name || is_id(known));
    if let Some(found) = found.max_by_key(|known| known.last_seen) {
        return Ok(found.id);
    }
    let fault = Fault::new("catalog.unknown_repository", format!("the catalog knows no repository named {name:?}"));
    Err(match nearest(name, named.map(|known| known.name.as_str())).first() {
        Some(near) => fault.hint(format!("did you mean {near:?}?")),
        None => fault.hint("catalog.rebuild() reads the repositories of the configuration"),
    })
}

/// Tells of one backup by its id, or the first 8 or more digits of it; nothing where none is known.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetBackup {
    /// The id, or its first digits.
    pub id: String,
}

impl Operation for GetBackup {
    const NAME: &'static str = "catalog.backup";
    const EFFECT: Effect = Effect::Read;
    const PLACE: Place = function("backup");
    const POSITIONAL: &'static [&'static str] = &["id"];
    const TOUCHES: &'static [Touch] = READ;
    const USAGE: &'static str =
        "local found = catalog.backup(\"0a1b2c3d\")[1]\nprint(if found then found.vm else \"no such backup\")";

    type Bound = ();
    type Output = Vec<CatalogBackup>;

    async fn bind(&self, binder: &Binder<'_>) -> Result<(), Fault> {
        binder.filtered("catalog", "read")
    }

    async fn act(self, (): (), pass: &Pass<'_>) -> Result<Self::Output, Fault> {
        if self.id.len() < 8 || !self.id.bytes().all(|b| b.is_ascii_hexdigit()) {
            let shown: String = self.id.chars().take(80).collect();
            return Err(Fault::new("usage.argument", format!("catalog.backup: id: {shown:?} is no backup's id"))
                .hint("give 8 to 64 hexadecimal digits"));
        }
        let visible = Visible::of(pass);
        pass.catalog(move |catalog| {
            let repositories = catalog.repositories()?;
            let found = catalog.backup(&self.id.to_ascii_lowercase(), &*visible.0)?;
            Ok(found.into_iter().map(|row| CatalogBackup::of(row, &repositories)).collect())
        })
        .await
    }
}

/// Tells what is known of a machine: where it was seen, its newest and oldest backup, what its backups hold and what was saved.
///
/// Errors: `catalog.unknown_machine` with the nearest names.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// The machine's name.
    pub name: String,
}

impl Operation for Machine {
    const NAME: &'static str = "catalog.machine";
    const EFFECT: Effect = Effect::Read;
    const PLACE: Place = function("machine");
    const POSITIONAL: &'static [&'static str] = &["name"];
    const TOUCHES: &'static [Touch] = &[touch("catalog", "read", Selector::Argument("name"))];
    const USAGE: &'static str = "local ok, known: any = pcall(catalog.machine, \"web-1\")\nif ok then\n  print(known.backups, known.saved, known.newest and known.newest.time)\nend";

    type Bound = ();
    type Output = CatalogMachine;

    async fn bind(&self, binder: &Binder<'_>) -> Result<(), Fault> {
        binder.named("catalog", "read", &self.name)
    }

    async fn act(self, (): (), pass: &Pass<'_>) -> Result<CatalogMachine, Fault> {
        let visible = Visible::of(pass);
        pass.catalog(move |catalog| {
            let repositories = catalog.repositories()?;
            if let Some(known) = catalog.machine(&self.name)? {
                return Ok(CatalogMachine::of(known, &repositories, &catalog.hosts()?));
            }
            let name = self.name;
            let fault = Fault::new("catalog.unknown_machine", format!("the catalog knows no machine named {name:?}"));
            let some = catalog.machines(catalog::MOST, None, &*visible.0)?;
            Err(match nearest(&name, some.rows.iter().map(|known| known.name.as_str())).first() {
                Some(near) => fault.hint(format!("did you mean {near:?}?")),
                None => fault.hint("ceso catalog machines lists them; ceso catalog rebuild reads the repositories"),
            })
        })
        .await
    }
}

/// Lists machines by name, page by page: those that runs have seen and those that have backups.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Machines {
    /// The most rows of the page, 1 to 10000. Default: 100.
    pub limit: Option<u32>,
    /// Where the page before ended: its `cursor`.
    pub cursor: Option<String>,
}

impl Operation for Machines {
    const NAME: &'static str = "catalog.machines";
    const EFFECT: Effect = Effect::Read;
    const PLACE: Place = function("machines");
    const TOUCHES: &'static [Touch] = READ;
    const USAGE: &'static str = "for _, machine in catalog.machines().machines do\n  if not machine.newest then\n    print(machine.name, \"has no backup\")\n  end\nend";

    type Bound = ();
    type Output = CatalogMachines;

    async fn bind(&self, binder: &Binder<'_>) -> Result<(), Fault> {
        binder.filtered("catalog", "read")
    }

    async fn act(self, (): (), pass: &Pass<'_>) -> Result<CatalogMachines, Fault> {
        let visible = Visible::of(pass);
        pass.catalog(move |catalog| {
            let (repositories, hosts) = (catalog.repositories()?, catalog.hosts()?);
            let page = catalog.machines(limit(self.limit), self.cursor.as_deref(), &*visible.0)?;
            let rows = page.rows.into_iter().map(|known| CatalogMachine::of(known, &repositories, &hosts));
            Ok(CatalogMachines { machines: rows.collect(), cursor: page.cursor })
        })
        .await
    }
}

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

/// Lists the machines that were cloned from a template, or from any.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Children {
    /// The template's name.
    pub template: Option<String>,
}

impl Operation for Children {
    const NAME: &'static str = "catalog.children";
    const EFFECT: Effect = Effect::Read;
    const PLACE: Place = function("children");
    const POSITIONAL: &'static [&'static str] = &["template"];
    const TOUCHES: &'static [Touch] = READ;
    const USAGE: &'static str =
        "for _, child in catalog.children(\"debian-12\") do\n  print(child.name, child.host, child.linked)\nend";

    type Bound = ();
    type Output = Vec<CatalogChild>;

    async fn bind(&self, binder: &Binder<'_>) -> Result<(), Fault> {
        binder.filtered("catalog", "read")
    }

    async fn act(self, (): (), pass: &Pass<'_>) -> Result<Self::Output, Fault> {
        let visible = Visible::of(pass);
        pass.catalog(move |catalog| {
            let found = catalog.children(self.template.as_deref(), &*visible.0)?;
            Ok(found.into_iter().map(CatalogChild::from).collect())
        })
        .await
    }
}

/// Lists the tries whether backups can be used, the newest first.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Drills {
    /// Only those of this machine.
    pub vm: Option<String>,
}

impl Operation for Drills {
    const NAME: &'static str = "catalog.drills";
    const EFFECT: Effect = Effect::Read;
    const PLACE: Place = function("drills");
    const TOUCHES: &'static [Touch] = READ;
    const USAGE: &'static str =
        "for _, drill in catalog.drills({ vm = \"web-1\" }) do\n  print(drill.time, drill.passed, drill.details)\nend";

    type Bound = ();
    type Output = Vec<CatalogDrill>;

    async fn bind(&self, binder: &Binder<'_>) -> Result<(), Fault> {
        binder.filtered("catalog", "read")
    }

    async fn act(self, (): (), pass: &Pass<'_>) -> Result<Self::Output, Fault> {
        let visible = Visible::of(pass);
        pass.catalog(move |catalog| {
            let found = catalog.drills(self.vm.as_deref(), &*visible.0)?;
            Ok(found.into_iter().map(CatalogDrill::from).collect())
        })
        .await
    }
}

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
