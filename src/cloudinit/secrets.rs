//! Which fields may hold secrets, and putting the secrets in: the one list of them.

use std::sync::Arc;

use secrecy::SecretString;

use super::error::At;
use super::forms::Command;
use super::spec::Spec;
use super::text::{Purpose, SecretHandle, Slot, Text};

impl Spec {
    /// Puts secrets into the fields that name them by a handle.
    ///
    /// `look_up` is asked once for each handle, in the order of the fields; it answers with the secret, or its error ends the filling.
    pub fn fill<E>(
        &mut self,
        mut look_up: impl FnMut(&Slot, &SecretHandle) -> Result<Arc<SecretString>, E>,
    ) -> Result<(), E> {
        self.each_text(|at, purpose, text| {
            let slot = Slot { at: at.to_string(), purpose };
            text.fill(&mut |handle| look_up(&slot, handle))
        })
    }

    fn each_text<E>(&mut self, mut visit: impl FnMut(At, Purpose, &mut Text) -> Result<(), E>) -> Result<(), E> {
        let root = At::root();
        for (index, user) in self.users.iter_mut().enumerate() {
            let at = root.field("users").item(index);
            if let Some(text) = &mut user.password_hash {
                visit(at.field("password_hash"), Purpose::PasswordHash, text)?;
            }
            if let Some(text) = &mut user.password {
                visit(at.field("password"), Purpose::Password, text)?;
            }
        }
        for (index, key) in self.ssh.host_keys.iter_mut().enumerate() {
            let at = root.field("ssh").field("host_keys").item(index).field("private");
            visit(at, Purpose::HostKey, &mut key.private)?;
        }
        for (index, file) in self.files.iter_mut().enumerate() {
            if let Some(text) = &mut file.content {
                visit(root.field("files").item(index).field("content"), Purpose::File, text)?;
            }
        }
        for (field, commands) in [("boot_commands", &mut self.boot_commands), ("commands", &mut self.commands)] {
            for (index, command) in commands.iter_mut().enumerate() {
                let at = root.field(field).item(index);
                match command {
                    Command::Shell(line) => visit(at, Purpose::Command, line)?,
                    Command::Program(words) => {
                        for (index, word) in words.iter_mut().enumerate() {
                            visit(at.item(index), Purpose::Command, word)?;
                        }
                    }
                }
            }
        }
        if let Some(text) = &mut self.raw {
            visit(root.field("raw"), Purpose::UserData, text)?;
        }
        for (index, part) in self.parts.iter_mut().enumerate() {
            visit(root.field("parts").item(index).field("content"), Purpose::UserData, &mut part.content)?;
        }
        if let Some(text) = &mut self.vendor_data {
            visit(root.field("vendor_data"), Purpose::UserData, text)?;
        }
        Ok(())
    }
}
