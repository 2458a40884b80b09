//! What one call has made on a datastore so far, so that a failure can take it away again: exactly that and nothing else.
//!
//! A thing is noted before it is made. What was there before is never noted. What cannot be taken away is named in the error.

use super::error::Error;
use super::files::path;
use super::host::Host;
use super::object::Datastore;

/// A new machine's folder, and the files that were put into it.
pub(super) struct Making<'a> {
    host: &'a Host,
    datastore: &'a Datastore,
    /// The folder's name, and that of the files in it.
    base: String,
    disks: Vec<String>,
    files: Vec<String>,
    configured: bool,
    /// Whether the host makes disks here under names of its own.
    children: bool,
}

impl<'a> Making<'a> {
    /// Makes the folder. Errors: `esxi.file_already_exists`, and nothing is made.
    pub(super) async fn folder(host: &'a Host, datastore: &'a Datastore, name: &str) -> Result<Making<'a>, Error> {
        let base = folder_name(name)?;
        let making =
            Self { host, datastore, base, disks: Vec::new(), files: Vec::new(), configured: false, children: false };
        match host.make_folder(&making.folder_path()).await {
            Ok(()) => Ok(making),
            Err(error) if error.outcome_unknown() => {
                match host.folder_files(datastore, &making.folder_path()).await {
                    // It was not made, and nobody is at work on it: it is no task.
                    Err(gone) if gone.is("FileNotFound") => {
                        host.make_folder(&making.folder_path()).await?;
                        Ok(making)
                    }
                    // It is there, and may be somebody else's: it is named, not removed.
                    _ => Err(making.left_behind(vec![format!("perhaps {}", making.folder_path())], error)),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// What may be there of a machine that is being made, for whoever has to look for it.
    pub(super) fn perhaps(datastore: &Datastore, name: &str) -> Result<String, Error> {
        Ok(format!("perhaps {} with what is in it", path(&datastore.name, &folder_name(name)?)))
    }

    pub(super) fn folder_path(&self) -> String {
        path(&self.datastore.name, &self.base)
    }

    /// The path of a file in the folder: its name begins with the machine's, then comes the suffix.
    pub(super) fn file_path(&self, suffix: &str) -> String {
        path(&self.datastore.name, &format!("{0}/{0}{suffix}", self.base))
    }

    pub(super) fn disk_path(&self, index: usize) -> String {
        self.file_path(&if index == 0 { ".vmdk".to_owned() } else { format!("_{index}.vmdk") })
    }

    /// Notes a disk that is about to be made, or, where `result` says that another was there, takes the note back.
    pub(super) fn disk(&mut self, path: String, result: Result<(), Error>) -> Result<(), Error> {
        if !matches!(&result, Err(error) if error.is("FileAlreadyExists")) {
            self.disks.push(path);
        }
        result
    }

    pub(super) fn file(&mut self, path: String, result: Result<(), Error>) -> Result<(), Error> {
        if !matches!(&result, Err(error) if error.is("FileAlreadyExists")) {
            self.files.push(path);
        }
        result
    }

    /// Notes that the host is about to write the machine's configuration, with a disk of its own where there is one.
    pub(super) fn configuration(&mut self, new_disk: Option<String>) {
        self.configured = true;
        self.disks.extend(new_disk);
    }

    /// Notes that the host is about to make disks on another machine's, under names of its own. They go as files: a host that deletes
    /// them as disks may take the other machine's along.
    pub(super) fn children(&mut self) {
        self.children = true;
    }

    pub(super) fn datastore(&self) -> &str {
        &self.datastore.name
    }

    /// Takes away what was made, and returns the error with what could not be.
    pub(super) async fn undo(self, error: Error) -> Error {
        if error.outcome_unknown() {
            // The host may still be at work on these files: whatever is done now would be done to what it goes on to use.
            return self.left_behind(vec![format!("perhaps {} with what is in it", self.folder_path())], error);
        }
        let mut left = Vec::new();
        for disk in &self.disks {
            if let Err(failure) = self.host.delete_disk(disk).await
                && !failure.is("FileNotFound")
            {
                left.push(format!("{disk} ({failure})"));
            }
        }
        for file in &self.files {
            self.remove(file, &mut left).await;
        }
        let folder = self.folder_path();
        let found = match self.host.folder_files(self.datastore, &folder).await {
            Ok(found) => found,
            Err(failure) => return self.left_behind(vec![format!("{folder} ({failure})")], error),
        };
        let mut others = 0;
        for name in found {
            let child = self.children && name.starts_with(self.base.as_str()) && name.ends_with(".vmdk");
            if child || (self.configured && self.is_configuration(&name)) {
                self.remove(&path(&self.datastore.name, &format!("{}/{name}", self.base)), &mut left).await;
            } else {
                others += 1;
            }
        }
        if others == 0 && left.is_empty() {
            self.remove(&folder, &mut left).await;
        } else if left.is_empty() {
            left.push(format!("{folder} (it holds {others} files that are not of this operation)"));
        }
        if left.is_empty() { error } else { self.left_behind(left, error) }
    }

    async fn remove(&self, path: &str, left: &mut Vec<String>) {
        if let Err(failure) = self.host.delete_file(path).await
            && !failure.is("FileNotFound")
        {
            left.push(format!("{path} ({failure})"));
        }
    }

    /// Files that a host writes by itself when it makes a machine.
    fn is_configuration(&self, name: &str) -> bool {
        let own = name.strip_prefix(self.base.as_str());
        matches!(own, Some(".vmx" | ".vmx~" | ".vmxf" | ".vmsd" | ".nvram" | ".vmx.lck"))
            || (name.starts_with("vmware") && name.ends_with(".log"))
    }

    pub(super) fn left_behind(&self, left: Vec<String>, error: Error) -> Error {
        Error::LeftBehind { host: self.host.name().to_owned(), left, source: Box::new(error) }
    }
}

/// The folder for a machine of that name. Errors: `esxi.invalid_argument` where it is no name.
pub(super) fn folder_name(name: &str) -> Result<String, Error> {
    let wrong = |why: &str| {
        let hint = Some("use up to 80 letters, digits, spaces, dots, dashes and underscores".to_owned());
        Err(Error::Invalid { reason: format!("{name:?} is no name for a machine: {why}"), hint })
    };
    if name.trim() != name || name.is_empty() {
        return wrong("it is empty, or begins or ends with a space");
    }
    if name.chars().count() > 80 {
        return wrong("it has more than 80 characters");
    }
    if name.starts_with('.') || name.chars().any(char::is_control) {
        return wrong("it begins with a dot or holds a control character");
    }
    Ok(name.chars().map(|c| if "/\\%:*?\"<>|[]".contains(c) { '_' } else { c }).collect())
}

#[cfg(test)]
mod tests {
    use super::folder_name;

    #[test]
    fn a_name_cannot_lead_out_of_its_folder() {
        assert_eq!(folder_name("web-1 é").unwrap(), "web-1 é");
        assert_eq!(folder_name("a/../../b").unwrap(), "a_.._.._b");
        assert_eq!(folder_name("x] [y").unwrap(), "x_ _y");
        for wrong in ["", " a", "a ", "..", ".", ".hidden", "a\nb", "a\u{0}", &"x".repeat(81)] {
            assert!(folder_name(wrong).is_err(), "{wrong:?}");
        }
    }
}
