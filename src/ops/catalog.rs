//! Operations of the catalog: what is known of machines and their backups, without asking anybody. Each sees the machines that it may read.

use schemars::JsonSchema;
use serde::Deserialize;

use super::catalog_rows::{CatalogBackup, CatalogBackups, CatalogChild, CatalogDrill, CatalogMachine, CatalogMachines};
use super::repository::{BackupState, When};
use crate::catalog::{self, Wanted};
use crate::door::Pass;
use crate::door::bind::Binder;
use crate::door::operation::{Effect, Operation, Place, Selector, Touch, touch};
use crate::error::{Fault, nearest};

pub(super) const fn function(name: &'static str) -> Place {
    Place::Function { binding: "catalog", name }
}

/// The rows of a page where no number is given.
const USUAL: u32 = 100;

pub(super) const READ: &[Touch] = &[touch("catalog", "read", Selector::Filtered)];

pub(super) fn limit(limit: Option<u32>) -> usize {
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
