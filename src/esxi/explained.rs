//! What a host's fault leaves out and the host can be asked for: who is at work on a machine, who holds a file, how much is free.
//!
//! It adds to a fault and changes nothing else of it. Where the host does not tell, the fault stays as it came.

use crate::units::Bytes;
use crate::xml::Element;

use super::error::Error;
use super::fault::Known;
use super::files::split;
use super::host::Host;
use super::lookup::unescape;
use super::moref::MoRef;
use super::places::Reach;
use super::property::Query;

impl Host {
    /// Adds to a fault what the host knows beyond it.
    pub(super) async fn explained(&self, error: Error) -> Error {
        let Error::Vim { host, mut fault } = error else { return error };
        let learned = match fault.known() {
            Known::TaskInProgress { task: Some(task) } => self.at_work(&MoRef::new("Task", task)).await,
            Known::FileLocked { file: Some(file) } => self.holder(file).await.map(Some),
            Known::NoDiskSpace { datastore: Some(datastore), .. } => self.left_on(datastore).await,
            _ => return Error::Vim { host, fault },
        };
        match learned {
            Ok(learned) => fault.learned = learned,
            Err(error) => tracing::debug!(host = self.name(), "no more was learned of a fault: {error}"),
        }
        Error::Vim { host, fault }
    }

    /// What a task does, and for whom.
    async fn at_work(&self, task: &MoRef) -> Result<Option<String>, Error> {
        let objects = self.link.retrieve(&Query::object(task, "Task", &["info"])).await?;
        let Some(info) = objects.iter().find_map(|object| object.get("info")) else { return Ok(None) };
        let text = |path: &str| info.text_at(path).map(str::trim).filter(|text| !text.is_empty());
        let what = text("descriptionId").or(text("name")).unwrap_or("a task");
        let by = text("reason.userName").map(|user| format!(" by {user}")).unwrap_or_default();
        let since = text("startTime").or(text("queueTime")).map(|time| format!(" since {time}")).unwrap_or_default();
        let far = text("progress").map(|percent| format!(", at {percent} %")).unwrap_or_default();
        let asks = match info.child("entity").and_then(MoRef::read).filter(|entity| entity.kind == "VirtualMachine") {
            Some(vm) => self.asked(&vm).await?,
            None => None,
        };
        let asks = asks.map(|asks| format!(", and waits for an answer to: {}", asks.text)).unwrap_or_default();
        Ok(Some(format!("{what}{by}{since}{far}{asks}")))
    }

    /// Which machine of this host a locked file belongs to.
    async fn holder(&self, file: &str) -> Result<String, Error> {
        let paths = vec!["name", "runtime.powerState", "config.files.vmPathName", "layoutEx.file"];
        let objects = self.link.retrieve(&self.link.everything(&[Reach::Vms], vec![("VirtualMachine", paths)])).await?;
        let holds = |name: &str| unescape(name.trim()) == file || name.trim() == file;
        let owner = objects.iter().find(|object| {
            let files = object.get("layoutEx.file").map(|list| list.children.as_slice()).unwrap_or_default();
            let mut names = files.iter().filter_map(|file: &Element| file.text_at("name"));
            names.any(holds) || object.text("config.files.vmPathName").is_some_and(holds)
        });
        Ok(match owner {
            Some(object) => {
                let power = super::vm_list::PowerState::read(object.text("runtime.powerState").unwrap_or_default());
                format!("it is of the machine {:?}, which is {}", unescape(&object.string("name")), power.as_str())
            }
            None => "no machine of this host has it: another host, a backup or a copy under way holds it".to_owned(),
        })
    }

    /// Says how much was missing where something did not fit on the datastore that a file lies on.
    pub(super) async fn missing_at(&self, file: &str, needed: u64, error: Error) -> Error {
        let Some((datastore, _)) = split(file).filter(|_| error.is("NoDiskSpace")) else { return error };
        match self.free_on(datastore).await {
            Ok(Some(free)) if needed > free => {
                let (host, datastore) = (self.name().to_owned(), datastore.to_owned());
                error.because(Error::NoSpace { host, datastore, needed: Bytes(needed), free: Bytes(free), most: false })
            }
            _ => error,
        }
    }

    async fn left_on(&self, datastore: &str) -> Result<Option<String>, Error> {
        Ok(self.free_on(datastore).await?.map(|free| format!("{} are free", Bytes(free))))
    }

    async fn free_on(&self, datastore: &str) -> Result<Option<u64>, Error> {
        let paths = vec!["name", "summary.freeSpace"];
        let objects =
            self.link.retrieve(&self.link.everything(&[Reach::Datastores], vec![("Datastore", paths)])).await?;
        let found = objects.iter().find(|object| unescape(&object.string("name")) == datastore);
        Ok(found.and_then(|object| object.number("summary.freeSpace")))
    }
}
