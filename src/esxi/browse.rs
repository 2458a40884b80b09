//! What lies on a datastore: the files of a folder, by a pattern, with or without what is below, and what a disk is.
//!
//! The host answers from its own reading of the datastore; a running machine's files are listed too.
//! Specification: vSphere Web Services API, `HostDatastoreBrowser`, `FileQueryFlags`, `VmDiskFileQuery`.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::units::Bytes;
use crate::xml::Element;

use super::checked::Checked;
use super::error::Error;
use super::file_path::{FilePath, Role};
use super::files::split;
use super::host::{Host, silent};
use super::making::folder_name;
use super::object::Datastore;
use super::property::Query;
use super::soap::{Call, Method};
use super::task::Task;

/// A file or folder of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRow {
    /// Its path on the datastore.
    pub path: String,
    /// `folder`, `disk`, `config`, `nvram`, `log`, `snapshot`, `iso`, `floppy` or `file`.
    pub kind: &'static str,
    pub size: Option<Bytes>,
    /// When it was changed last, as the host writes it.
    pub modified: Option<String>,
}

/// What is looked for in a folder.
#[derive(Debug, Clone, Copy, Default)]
pub struct Search<'a> {
    /// `*` and `?` stand for any characters; `None`: everything.
    pub pattern: Option<&'a str>,
    /// Whether the folders below are searched too.
    pub deep: bool,
}

/// A virtual disk as its descriptor tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskFile {
    pub path: String,
    /// What the guest sees; `None` where the host does not say.
    pub capacity: Option<Bytes>,
    /// What it takes up.
    pub size: Option<Bytes>,
    /// `None` where the host does not say.
    pub thin: Option<bool>,
    /// The type of a controller that fits, by its wire name.
    pub controller: Option<String>,
    /// The names of the files that hold the content.
    pub extents: Vec<String>,
}

/// How often a look whose answer was lost is taken again.
const LOOKS: u32 = 2;

impl Host {
    /// Lists what a folder holds, in the order of the paths.
    ///
    /// Errors: `esxi.file_not_found` where there is no such folder.
    pub async fn browse(
        &self,
        datastore: &Checked<Datastore>,
        folder: &FilePath,
        search: Search<'_>,
    ) -> Result<Vec<FileRow>, Error> {
        let spec = Element::new("searchSpec")
            .with(
                Element::new("details")
                    .with(Element::leaf("fileType", "true"))
                    .with(Element::leaf("fileSize", "true"))
                    .with(Element::leaf("modification", "true"))
                    .with(Element::leaf("fileOwner", "false")),
            )
            .with(Element::leaf("searchCaseInsensitive", "false"))
            .with_all(search.pattern.map(|pattern| Element::leaf("matchPattern", pattern)));
        let mut rows = Vec::new();
        for (folder, file) in self.search(datastore, folder, search.deep, spec).await? {
            rows.extend(row(&folder, &file));
        }
        rows.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(rows)
    }

    /// Reads what a virtual disk is. Errors: `esxi.file_not_found` where no disk lies there.
    pub async fn disk_file(&self, datastore: &Checked<Datastore>, path: &FilePath) -> Result<DiskFile, Error> {
        let details = Element::new("details")
            .with(Element::leaf("diskType", "true"))
            .with(Element::leaf("capacityKb", "true"))
            .with(Element::leaf("hardwareVersion", "false"))
            .with(Element::leaf("controllerType", "true"))
            .with(Element::leaf("diskExtents", "true"))
            .with(Element::leaf("thin", "true"));
        let spec = Element::new("searchSpec")
            .with(Element::new("query").typed("VmDiskFileQuery").with(details))
            .with(
                Element::new("details")
                    .with(Element::leaf("fileType", "true"))
                    .with(Element::leaf("fileSize", "true"))
                    .with(Element::leaf("modification", "false"))
                    .with(Element::leaf("fileOwner", "false")),
            )
            .with(Element::leaf("searchCaseInsensitive", "false"))
            .with(Element::leaf("matchPattern", path.name()));
        let found = self.search(datastore, &path.parent(), false, spec).await?;
        let disk = found.iter().find(|(_, file)| file.text_at("path").map(str::trim) == Some(path.name()));
        let Some((_, file)) = disk.filter(|_| path.role() == Role::Disk) else {
            return Err(self.no_file(&path.on(&datastore.name), "no virtual disk lies there"));
        };
        let text = |name: &str| file.text_at(name).map(str::trim).filter(|text| !text.is_empty());
        let number = |name: &str| text(name).and_then(|text| text.parse::<u64>().ok());
        Ok(DiskFile {
            path: path.on(&datastore.name),
            capacity: number("capacityKb").and_then(|kilobytes| kilobytes.checked_mul(1024)).map(Bytes),
            size: number("fileSize").map(Bytes),
            thin: text("thin").and_then(super::property::boolean),
            controller: text("controllerType").map(str::to_owned),
            extents: file.all("diskExtents").map(|extent| extent.text.trim().to_owned()).collect(),
        })
    }

    /// The names of the files in a folder.
    pub(super) async fn folder_files(&self, datastore: &Datastore, folder: &str) -> Result<Vec<String>, Error> {
        let found = self.search_path(datastore, folder, false, None).await?;
        Ok(found.iter().filter_map(|(_, file)| file.text_at("path")).map(str::to_owned).collect())
    }

    /// Refuses a new machine whose folder is there: a host that takes one in would make it another, of another name, in silence.
    ///
    /// Errors: `esxi.file_already_exists`.
    pub(super) async fn refuse_folder(&self, datastore: &Checked<Datastore>, name: &str) -> Result<(), Error> {
        let folder = super::files::path(&datastore.name, &folder_name(name)?);
        match self.folder_files(datastore, &folder).await {
            Ok(_) => Err(self.file_exists(&folder)),
            Err(error) if error.is("FileNotFound") => Ok(()),
            // What may not be looked into is the host's own affair.
            Err(error) if error.vim().is_some() => {
                tracing::debug!(host = self.name(), "{folder}: {error}");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// When a file was changed last; nothing where there is none.
    #[allow(clippy::disallowed_methods, reason = "the path is this room's own; nobody is handed the datastore")]
    pub(super) async fn modified(&self, file: &str) -> Result<Option<Option<OffsetDateTime>>, Error> {
        let (store, rest) = split(file).ok_or_else(|| self.lacks("that path"))?;
        let stores = self.lookup_datastores().await?;
        let store = stores.iter().find(|own| own.name == store).ok_or_else(|| self.no_file(file, ""))?;
        let (folder, name) = rest.rsplit_once('/').unwrap_or(("", rest));
        let details = Element::new("details")
            .with(Element::leaf("fileType", "false"))
            .with(Element::leaf("fileSize", "false"))
            .with(Element::leaf("modification", "true"))
            .with(Element::leaf("fileOwner", "false"));
        let spec = Element::new("searchSpec").with(details);
        let found = match self.search_path(store, &super::files::path(&store.name, folder), false, Some(spec)).await {
            Err(error) if error.is("FileNotFound") => return Ok(None),
            found => found?,
        };
        let file = found.iter().find(|(_, file)| file.text_at("path").map(str::trim) == Some(name));
        Ok(file.map(|(_, file)| OffsetDateTime::parse(file.text_at("modification")?.trim(), &Rfc3339).ok()))
    }

    async fn search(
        &self,
        datastore: &Datastore,
        folder: &FilePath,
        deep: bool,
        spec: Element,
    ) -> Result<Vec<(String, Element)>, Error> {
        self.search_path(datastore, &folder.on(&datastore.name), deep, Some(spec)).await
    }

    /// Each file that is found, with the path of its folder on the datastore.
    pub(super) async fn search_path(
        &self,
        datastore: &Datastore,
        folder: &str,
        deep: bool,
        spec: Option<Element>,
    ) -> Result<Vec<(String, Element)>, Error> {
        let found = async {
            let objects = self.link.retrieve(&Query::object(&datastore.moref, "Datastore", &["browser"])).await?;
            let browser = objects.iter().find_map(|object| object.reference("browser"));
            let browser = browser.ok_or_else(|| self.lacks("a datastore browser"))?;
            let method = if deep { Method::SearchDatastoreSubFolders } else { Method::SearchDatastore };
            let call = Call::new(&browser, method).with_text("datastorePath", folder).with_opt(spec);
            let mut looks = LOOKS;
            loop {
                let look = async { Task::start(self, "look", &call).await?.done(&silent).await };
                match look.await {
                    // It changes nothing, so it is asked for again.
                    Err(error) if error.outcome_unknown() && looks > 0 => looks -= 1,
                    found => return found,
                }
            }
        };
        let result = found.await.map_err(|error| error.doing(format!("look into {folder}")))?;
        let mut files = Vec::new();
        let Some(result) = result else { return Ok(files) };
        let results: Vec<&Element> =
            if deep { result.all("HostDatastoreBrowserSearchResults").collect() } else { vec![&result] };
        for result in results {
            let folder = result.text_at("folderPath").and_then(split).map_or("", |(_, folder)| folder);
            let folder = folder.trim_end_matches('/');
            files.extend(result.all("file").map(|file| (folder.to_owned(), file.clone())));
        }
        Ok(files)
    }
}

fn row(folder: &str, file: &Element) -> Option<FileRow> {
    let name = file.text_at("path")?.trim().trim_end_matches('/');
    let text = |name: &str| file.text_at(name).map(str::trim).filter(|text| !text.is_empty());
    let kind = match file.xsi_type.as_deref().unwrap_or_default() {
        "FolderFileInfo" => "folder",
        "VmDiskFileInfo" => "disk",
        "VmConfigFileInfo" | "TemplateConfigFileInfo" => "config",
        "VmNvramFileInfo" => "nvram",
        "VmLogFileInfo" => "log",
        "VmSnapshotFileInfo" => "snapshot",
        "IsoImageFileInfo" => "iso",
        "FloppyImageFileInfo" => "floppy",
        _ => "file",
    };
    let path = if folder.is_empty() || folder == "." { name.to_owned() } else { format!("{folder}/{name}") };
    let size = text("fileSize").and_then(|size| size.parse().ok()).map(Bytes).filter(|_| kind != "folder");
    Some(FileRow { path, kind, size, modified: text("modification").map(str::to_owned) })
}
