//! What a person's own commands do with repositories and files of this machine: making a repository, backing up a disk image,
//! restoring one. No script can call these, for a script has no files.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::catalog_rows::row_of;
use super::repository::RepositoryFields;
use super::repository_rows::{BackupMade, told};
use crate::backup::{Among, BackupOptions, Codec, DiskForm, ExportOptions, InitOptions, WatchedSource};
use crate::door::Pass;
use crate::door::bind::Binder;
use crate::door::operation::{Effect, Operation, Place, Selector, Touch, touch};
use crate::door::repository::{BoundRepository, NewRepository, repository_row};
use crate::error::Fault;
use crate::units::{Bytes, Span};
use crate::vmdk::{Form, Image};

/// Makes a repository at a place where there is none.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Init {
    /// Its name in the configuration, or its place.
    pub repository: String,
    /// Whether it is not encrypted. Default: false.
    #[serde(default)]
    pub plain: bool,
    /// The length of a chunk, 64 KiB to 4 MiB. Default: 256 KiB.
    pub chunk_size: Option<Bytes>,
    /// How long what no backup needs is kept after it was marked. Default: 24 h.
    pub grace: Option<Span>,
    /// The repository that this one is to be a second place of, by its name or place: its chunk size is taken over, and blobs have the
    /// same ids in both, so that copies read only what is missing.
    pub like: Option<String>,
}

/// A repository that was made.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Made {
    /// What scripts and tables call it.
    pub name: String,
    #[serde(flatten)]
    fields: RepositoryFields,
}

impl Operation for Init {
    const NAME: &'static str = "repository.init";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = Place::Command { name: "repository init" };
    const TOUCHES: &'static [Touch] = &[
        touch("repository", "create", Selector::Argument("repository")),
        touch("repository", "copy_from", Selector::Argument("like")),
    ];

    type Bound = (NewRepository, Option<BoundRepository>);
    type Output = Made;

    async fn bind(&self, binder: &Binder<'_>) -> Result<Self::Bound, Fault> {
        let bound = binder.new_repository(&self.repository).await?;
        let like = match &self.like {
            Some(name) => Some(binder.repository_named(name, "copy_from").await?),
            None => None,
        };
        match (bound.has_secret(), self.plain) {
            (false, false) => {
                Err(Fault::new("usage.argument", "a repository is encrypted, and nothing is given to open it")
                    .hint("give --passphrase-file or --key-file, or --plain for one that anyone can read"))
            }
            (true, true) => Err(Fault::new("usage.argument", "a plain repository has no passphrase or key file")
                .hint("leave --plain out, or the passphrase or key file")),
            _ => Ok((bound, like)),
        }
    }

    async fn act(self, (bound, like): Self::Bound, pass: &Pass<'_>) -> Result<Made, Fault> {
        let name = bound.name().to_owned();
        let usual = InitOptions::default();
        let alike = like.as_ref().map_or(usual.chunk_size, |like| like.open().config().chunk_size);
        let like = like.map(|like| like.open().like());
        let chunk_size = self.chunk_size.map_or(alike, |size| u32::try_from(size.0).unwrap_or(u32::MAX));
        let grace = self.grace.map_or(usual.grace, |span| span.0);
        let (called, retention) = (name.clone(), bound.retention().cloned());
        let (fields, row) = pass
            .blocking(move |_| {
                let made = bound.make(InitOptions { chunk_size, grace, like, ..InitOptions::default() })?;
                let fields = RepositoryFields::of(&made, retention.as_ref());
                Ok((fields, repository_row(&called, &made, Some(time::OffsetDateTime::now_utc()))))
            })
            .await?;
        // It is new, so all of its backups are known: there are none.
        if let Some(row) = row {
            pass.note_repository(row).await;
        }
        Ok(Made { name, fields })
    }
}

/// How chunks are compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    None,
    #[default]
    Zstd,
    Gzip,
}

/// What the file of a disk is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ImageFormat {
    /// What its first bytes say: VMDK, else raw.
    #[default]
    Auto,
    /// The disk's bytes, whatever they begin with.
    Raw,
    /// streamOptimized, monolithicSparse, or the descriptor of a flat or split disk.
    Vmdk,
}

/// Backs up a disk image or block device of this machine.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BackUp {
    /// The repository's name in the configuration, or its place.
    pub repository: String,
    /// The path of the image.
    pub file: PathBuf,
    /// What retention counts by. Default: the file's name.
    pub group: Option<String>,
    /// Words to keep backups by.
    #[serde(default)]
    pub tags: Vec<String>,
    /// How chunks are compressed, where that makes them smaller. Default: zstd.
    #[serde(default)]
    pub compression: Compression,
    /// 1 is fast, 19 (zstd) or 9 (gzip) small. Default: 3 for zstd, 6 for gzip.
    pub level: Option<u32>,
    /// What the file is. A guest that wrote the first bytes of a raw disk can make it look like a VMDK. Default: auto.
    #[serde(default)]
    pub format: ImageFormat,
}

impl BackUp {
    fn codec(&self) -> Codec {
        match self.compression {
            Compression::None => Codec::Stored,
            Compression::Gzip => Codec::Gzip(self.level.unwrap_or(6).clamp(1, 9)),
            Compression::Zstd => Codec::Zstd(self.level.unwrap_or(3).clamp(1, 19).cast_signed()),
        }
    }
}

impl Operation for BackUp {
    const NAME: &'static str = "image.backup";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = Place::Command { name: "disk backup" };
    const TOUCHES: &'static [Touch] = &[touch("repository", "write", Selector::Argument("repository"))];

    type Bound = BoundRepository;
    type Output = BackupMade;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundRepository, Fault> {
        binder.repository_named(&self.repository, "write").await
    }

    async fn act(self, bound: BoundRepository, pass: &Pass<'_>) -> Result<BackupMade, Fault> {
        let identity = bound.identity();
        let (made, row) = pass
            .blocking(move |watch| {
                let form = match self.format {
                    ImageFormat::Auto => Form::Detect,
                    ImageFormat::Raw => Form::Raw,
                    ImageFormat::Vmdk => Form::Vmdk,
                };
                let source = Image::open(&self.file, form)?;
                let repository = bound.watched(watch);
                let name = self.file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                let options = BackupOptions {
                    group: self.group.clone().unwrap_or_else(|| name.clone()),
                    name: name.clone(),
                    tags: self.tags.clone(),
                    codec: self.codec(),
                    ..BackupOptions::default()
                };
                let mut session = repository.begin(options)?;
                session.disk(&name, &WatchedSource::new(&source, watch), None)?;
                let made = session.finish()?;
                // From here on it is visible: what the catalog cannot be told is said, and no failure.
                let row = repository.backup(&made.id.to_string()).map(|(id, manifest)| row_of(id, &manifest, identity));
                Ok((BackupMade::from(made), row.ok()))
            })
            .await?;
        pass.note_backups(row.into_iter().collect()).await;
        Ok(made)
    }
}

/// How a disk is written to files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DiskFormat {
    /// Its bytes, sparse.
    Raw,
    /// One compressed file: streamOptimized VMDK.
    Vmdk,
    /// A descriptor and a sparse `NAME-flat.vmdk` beside it, as a datastore of ESXi has them.
    VmdkFlat,
    /// The same for Workstation: monolithicFlat.
    VmdkMonolithicFlat,
}

impl DiskFormat {
    /// What a file of this name is taken for.
    fn of_name(path: &Path) -> Self {
        match path.extension() {
            Some(ending) if ending.eq_ignore_ascii_case("vmdk") => Self::Vmdk,
            _ => Self::Raw,
        }
    }
}

/// Restores a disk of a backup to a new file of this machine.
///
/// Whether there is room is asked before anything is written; zeros are holes and need none. Errors: `backup.no_room`, `backup.exists`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Restore {
    /// The repository's name in the configuration, or its place.
    pub repository: String,
    /// The backup's id, or its first 8 or more digits; `latest` is the newest that is complete.
    pub backup: String,
    /// With `latest`: only of this machine. Default: of all, and the result tells which it was.
    pub vm: Option<String>,
    /// With `latest`: only with this tag.
    pub tag: Option<String>,
    /// The path of the file, which must not exist.
    pub file: PathBuf,
    /// Which disk, where the backup has several.
    pub disk: Option<String>,
    /// How the disk is written. Default: `vmdk` where the file's name ends in .vmdk, else `raw`.
    pub format: Option<DiskFormat>,
    /// The adapter that a VMDK names: lsilogic, buslogic, ide or legacyESX. Default: lsilogic.
    pub adapter_type: Option<String>,
    /// How hard a streamOptimized VMDK is compressed: 1 is fast, 9 small. Default: 1.
    pub level: Option<u32>,
}

/// A disk that was restored.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Restored {
    /// The backup's id.
    pub id: String,
    /// The machine that it is of.
    pub vm: String,
    /// When it was begun, in UTC.
    pub time: String,
    /// The disk's name in the backup.
    pub disk: String,
    /// Its size.
    pub size: Bytes,
    /// The files that were made; what describes the disk comes first.
    pub files: Vec<PathBuf>,
}

impl Operation for Restore {
    const NAME: &'static str = "image.restore";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = Place::Command { name: "disk restore" };
    const TOUCHES: &'static [Touch] = &[touch("repository", "copy_from", Selector::Argument("repository"))];

    type Bound = BoundRepository;
    type Output = Restored;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundRepository, Fault> {
        binder.repository_named(&self.repository, "copy_from").await
    }

    async fn act(self, bound: BoundRepository, pass: &Pass<'_>) -> Result<Restored, Fault> {
        pass.blocking(move |watch| {
            let repository = bound.watched(watch);
            let among = Among { group: self.vm, tag: self.tag };
            let (id, manifest) = repository.chosen(&self.backup, &among)?;
            let disk = manifest.disk(self.disk.as_deref())?;
            let options = ExportOptions {
                form: match self.format.unwrap_or_else(|| DiskFormat::of_name(&self.file)) {
                    DiskFormat::Raw => DiskForm::Raw,
                    DiskFormat::Vmdk => DiskForm::StreamOptimized,
                    DiskFormat::VmdkFlat => DiskForm::Vmfs,
                    DiskFormat::VmdkMonolithicFlat => DiskForm::MonolithicFlat,
                },
                adapter: self.adapter_type.clone(),
                level: self.level,
                watch: Some(watch.clone()),
                ..ExportOptions::default()
            };
            let files = repository.read_disk(disk)?.export(&self.file, &options)?;
            Ok(Restored {
                id: id.to_string(),
                vm: manifest.group.clone(),
                time: told(manifest.time),
                disk: disk.name.clone(),
                size: Bytes(disk.size),
                files,
            })
        })
        .await
    }
}
