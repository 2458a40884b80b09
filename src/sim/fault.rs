//! The faults that the host answers with: a vim25 fault type, its data and a message.
//!
//! What goes wrong inside the simulator itself (a state file, the listener) is `crate::error::Fault`, not this.

use super::value::{Data, Ref, Value};

/// A typed fault of the API, as it stands in a SOAP fault's detail, a task's error or a `missingSet`.
#[derive(Debug, Clone, PartialEq)]
pub struct VimFault {
    pub data: Data,
    pub message: String,
}

impl VimFault {
    /// A fault of a type without data, or with data added by [`VimFault::with`].
    pub fn new(kind: &'static str, message: impl Into<String>) -> Self {
        Self { data: Data::new(kind), message: message.into() }
    }

    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.data = self.data.with(name, value);
        self
    }

    /// The fault as a `LocalizedMethodFault`.
    pub fn localized(&self) -> Data {
        Data::new("LocalizedMethodFault").with("fault", self.data.clone()).with("localizedMessage", &self.message)
    }

    pub fn invalid_request(what: impl std::fmt::Display) -> Self {
        Self::new("InvalidRequest", format!("The request is not valid: {what}."))
    }

    pub fn not_authenticated() -> Self {
        Self::new("NotAuthenticated", "The session is not authenticated.")
            .with("object", Ref::fixed("Folder", "ha-folder-root"))
            .with("privilegeId", "System.View")
    }

    pub fn not_found(object: &Ref) -> Self {
        let message = format!("The object '{object}' has already been deleted or has not been completely created");
        Self::new("ManagedObjectNotFound", message).with("obj", object)
    }

    pub fn not_supported(what: impl std::fmt::Display) -> Self {
        Self::new("NotSupported", format!("The operation is not supported on the object: {what}."))
    }

    pub fn not_implemented(method: &str) -> Self {
        Self::new("NotImplemented", format!("The simulator does not carry out {method}."))
    }

    pub fn invalid_argument(property: impl Into<String>, why: impl std::fmt::Display) -> Self {
        let property = property.into();
        Self::new("InvalidArgument", format!("A specified parameter was not correct: {property}: {why}"))
            .with("invalidProperty", property)
    }

    pub fn invalid_property(name: impl Into<String>) -> Self {
        let name = name.into();
        Self::new("InvalidProperty", format!("The property {name} is not known.")).with("name", name)
    }

    pub fn invalid_power_state(requested: Option<&'static str>, existing: &'static str) -> Self {
        let message = "The attempted operation cannot be performed in the current state";
        let fault = Self::new("InvalidPowerState", format!("{message} ({existing})."));
        let fault = match requested {
            Some(requested) => fault.with("requestedState", requested),
            None => fault,
        };
        fault.with("existingState", existing)
    }

    pub fn duplicate_name(name: &str, object: &Ref) -> Self {
        Self::new("DuplicateName", format!("The name '{name}' already exists."))
            .with("name", name.to_owned())
            .with("object", object)
    }

    pub fn task_in_progress(task: &Ref) -> Self {
        Self::new("TaskInProgress", "The operation is not allowed in the current state: another task is in progress.")
            .with("task", task)
    }

    /// A fault about one file: `FileNotFound`, `FileAlreadyExists`, `FileLocked`, `CannotAccessFile`.
    pub fn file(kind: &'static str, file: impl Into<String>) -> Self {
        let file = file.into();
        let what = match kind {
            "FileNotFound" => "was not found",
            "FileAlreadyExists" => "already exists",
            "FileLocked" => "is locked: a running machine uses it",
            "CannotDeleteFile" => "cannot be deleted",
            _ => "cannot be accessed",
        };
        Self::new(kind, format!("File {file} {what}")).with("file", file)
    }

    pub fn system(what: impl std::fmt::Display) -> Self {
        Self::new("SystemError", format!("A general system error occurred: {what}")).with("reason", what.to_string())
    }
}
