//! Files and disks on a host's datastores, by their datastore paths (`[datastore1] web-1/web-1.vmdk`).
//!
//! Nothing is overwritten: every call that makes a file fails where one is. Not public: a path is not a checked object.
//! Specification: vSphere Web Services API, `FileManager`, `VirtualDiskManager`.

use crate::xml::Element;

use super::error::Error;
use super::host::{Host, Progress, silent};
use super::moref::MoRef;
use super::soap::{Call, Method};
use super::task::Task;

/// The path of something on a datastore.
pub(super) fn path(datastore: &str, rest: &str) -> String {
    format!("[{datastore}] {rest}")
}

/// Splits `[datastore] folder/file` into its datastore and the rest.
pub(super) fn split(path: &str) -> Option<(&str, &str)> {
    let (datastore, rest) = path.trim().strip_prefix('[')?.split_once(']')?;
    Some((datastore, rest.trim_start()))
}

impl Host {
    pub(super) fn file_manager(&self) -> Result<MoRef, Error> {
        let contract = self.link.contract();
        let id = contract.content.file_manager.as_deref();
        id.map(|id| MoRef::new("FileManager", id)).ok_or_else(|| self.lacks("a file manager"))
    }

    pub(super) fn disk_manager(&self) -> Result<MoRef, Error> {
        let contract = self.link.contract();
        let id = contract.content.disk_manager.as_deref();
        id.map(|id| MoRef::new("VirtualDiskManager", id)).ok_or_else(|| self.lacks("a virtual disk manager"))
    }

    /// That something is there already, as the host says it.
    pub(super) fn file_exists(&self, file: &str) -> Error {
        self.file_fault("FileAlreadyExists", file, "")
    }

    /// That something is not there, as the host says it.
    pub(super) fn no_file(&self, file: &str, why: &str) -> Error {
        self.file_fault("FileNotFound", file, why)
    }

    fn file_fault(&self, kind: &str, file: &str, message: &str) -> Error {
        let data = Element::new("fault").typed(kind).with(Element::leaf("file", file));
        let fault = Element::new("error").with(data).with(Element::leaf("localizedMessage", message));
        let fault = super::fault::VimFault::from_localized(&fault);
        Error::Vim { host: self.name().to_owned(), fault: Box::new(fault) }
    }

    pub(super) fn lacks(&self, what: &str) -> Error {
        Error::BadAnswer { host: self.name().to_owned(), reason: format!("a service content without {what}") }
    }

    /// Makes a folder. Errors: `esxi.file_already_exists`; a folder that is there is never used.
    pub(super) async fn make_folder(&self, path: &str) -> Result<(), Error> {
        self.make_folders(path, false).await
    }

    /// The same, with the folders above it where `parents` says so.
    pub(super) async fn make_folders(&self, path: &str, parents: bool) -> Result<(), Error> {
        let call = Call::new(&self.file_manager()?, Method::MakeDirectory)
            .with_text("name", path)
            .with_ref("datacenter", &self.datacenter().await?)
            .with_text("createParentDirectories", parents.to_string());
        self.link.call(&call).await.map(|_| ()).map_err(|error| error.doing(format!("make the folder {path}")))
    }

    /// Copies a file that is no disk.
    pub(super) async fn copy_file(
        &self,
        from: &str,
        to: &str,
        what: &str,
        progress: Progress<'_>,
    ) -> Result<(), Error> {
        let datacenter = &self.datacenter().await?;
        let call = Call::new(&self.file_manager()?, Method::CopyDatastoreFile)
            .with_text("sourceName", from)
            .with_ref("sourceDatacenter", datacenter)
            .with_text("destinationName", to)
            .with_ref("destinationDatacenter", datacenter)
            .with_text("force", "false");
        self.file_task(what, call, format!("copy {from} to {to}"), progress).await.map(|_| ())
    }

    /// Moves a file or a folder to where nothing is yet.
    pub(super) async fn move_file(&self, from: &str, to: &str, progress: Progress<'_>) -> Result<(), Error> {
        let datacenter = &self.datacenter().await?;
        let call = Call::new(&self.file_manager()?, Method::MoveDatastoreFile)
            .with_text("sourceName", from)
            .with_ref("sourceDatacenter", datacenter)
            .with_text("destinationName", to)
            .with_ref("destinationDatacenter", datacenter)
            .with_text("force", "false");
        self.file_task("move", call, format!("move {from} to {to}"), progress).await.map(|_| ())
    }

    pub(super) async fn move_plain(&self, from: &str, to: &str) -> Result<(), Error> {
        self.move_file(from, to, &silent).await
    }

    /// Deletes a file, or a folder with all that is in it.
    pub(super) async fn delete_file(&self, path: &str) -> Result<(), Error> {
        let call = Call::new(&self.file_manager()?, Method::DeleteDatastoreFile)
            .with_text("name", path)
            .with_ref("datacenter", &self.datacenter().await?);
        self.file_task("delete", call, format!("delete {path}"), &silent).await.map(|_| ())
    }

    /// Copies a disk. A standalone host must be told the form of the copy, or thin becomes thick; a vCenter must not be told.
    pub(super) async fn copy_disk(
        &self,
        from: &str,
        to: &str,
        form: (&str, &str),
        what: &str,
        progress: Progress<'_>,
    ) -> Result<(), Error> {
        self.copy_disk_told(from, to, Some(form).filter(|_| self.tells_disk_form()), what, progress).await
    }

    /// The same, told the form or not, whatever is known of the host.
    pub(super) async fn copy_disk_told(
        &self,
        from: &str,
        to: &str,
        form: Option<(&str, &str)>,
        what: &str,
        progress: Progress<'_>,
    ) -> Result<(), Error> {
        let datacenter = &self.datacenter().await?;
        let form = form.map(|(disk_type, adapter_type)| {
            Element::new("destSpec")
                .typed("VirtualDiskSpec")
                .with(Element::leaf("diskType", disk_type))
                .with(Element::leaf("adapterType", adapter_type))
        });
        let call = Call::new(&self.disk_manager()?, Method::CopyVirtualDisk)
            .with_text("sourceName", from)
            .with_ref("sourceDatacenter", datacenter)
            .with_text("destName", to)
            .with_ref("destDatacenter", datacenter)
            .with_opt(form)
            .with_text("force", "false");
        self.file_task(what, call, format!("copy the disk {from} to {to}"), progress).await.map(|_| ())
    }

    pub(super) async fn delete_disk(&self, path: &str) -> Result<(), Error> {
        let call = Call::new(&self.disk_manager()?, Method::DeleteVirtualDisk)
            .with_text("name", path)
            .with_ref("datacenter", &self.datacenter().await?);
        self.file_task("delete", call, format!("delete the disk {path}"), &silent).await.map(|_| ())
    }

    pub(super) async fn file_task(
        &self,
        what: &str,
        call: Call,
        doing: String,
        progress: Progress<'_>,
    ) -> Result<Option<Element>, Error> {
        let task = async { Task::start(self, what, &call).await?.done(progress).await };
        let done = match task.await {
            Err(error) if self.shows_effect(&call, &error).await => Ok(None),
            done => done,
        };
        done.map_err(|error| error.doing(doing))
    }

    /// Whether a call whose task cannot be told from others' has done its work: what was to go is gone, what was to be made is there,
    /// and made since then.
    async fn shows_effect(&self, call: &Call, error: &Error) -> bool {
        let Error::Unclaimed { since, succeeded, .. } = error.root() else { return false };
        let text = |name: &str| call.arguments.iter().find(|argument| argument.name == name).map(|found| &*found.text);
        let seen = async {
            let gone =
                async |name: &str| Ok::<_, Error>(self.modified(text(name).unwrap_or_default()).await?.is_none());
            match call.method {
                Method::DeleteDatastoreFile | Method::DeleteVirtualDisk => gone("name").await,
                Method::MoveDatastoreFile | Method::MoveVirtualDisk => {
                    let target = text("destinationName").or_else(|| text("destName")).unwrap_or_default();
                    Ok(gone("sourceName").await? && self.modified(target).await?.is_some())
                }
                Method::CopyDatastoreFile | Method::CopyVirtualDisk | Method::CreateVirtualDisk if *succeeded => {
                    let target = text("destinationName").or_else(|| text("destName")).or_else(|| text("name"));
                    let made = self.modified(target.unwrap_or_default()).await?;
                    Ok(made.flatten().is_some_and(|made| made >= *since))
                }
                _ => Ok(false),
            }
        };
        seen.await.unwrap_or_else(|error: Error| {
            tracing::debug!(host = self.name(), "the effect of a lost call was not looked for: {error}");
            false
        })
    }
}
