//! Secrets of a run: a script holds a handle, the parent the value, and it goes only where it may.
//!
//! A secret has a purpose, which decides the fields that it fits into, and a destination: the machines that a document with it may be
//! given to. Both are checked here, by the parent. Nothing of a secret is in a handle but its name and purpose.
//!
//! What remains, and cannot be taken away: whoever may run commands in a guest that got a secret can have the guest send it anywhere;
//! and whoever may use a secret can test a whole guess of it, as a text that comes back redacted or as a document that a machine has
//! already. So a secret must be one that cannot be guessed.

use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};

use super::acting::Pass;
use super::object::{Object, Target, kind};
use super::policy::{Layer, denial};
use super::table::Pattern;
use crate::cloudinit::{self, Purpose, Slot};
use crate::config::{Mode, NamedSecret, SecretPurpose};
use crate::error::Fault;
use crate::wire::Value;

/// A secret that this run may use. It has no Debug that shows more than its name.
pub struct Secret {
    name: String,
    purpose: SecretPurpose,
    /// The machines that it may go to; `None`: any that the run may give data to.
    machines: Option<Vec<Pattern>>,
    value: Arc<SecretString>,
}

impl From<NamedSecret> for Secret {
    fn from(named: NamedSecret) -> Self {
        let patterns = |list: Vec<String>| list.iter().filter_map(|text| Pattern::parse(text)).collect();
        Self { name: named.name, purpose: named.purpose, machines: named.machines.map(patterns), value: named.value }
    }
}

impl Secret {
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn purpose(&self) -> SecretPurpose {
        self.purpose
    }

    /// The fields that a secret of this purpose fits into.
    fn fits(&self, slot: Purpose) -> bool {
        match self.purpose {
            SecretPurpose::PasswordHash => slot == Purpose::PasswordHash,
            SecretPurpose::Password => slot == Purpose::Password,
            SecretPurpose::PrivateKey => matches!(slot, Purpose::HostKey | Purpose::File),
            SecretPurpose::Token | SecretPurpose::Text => {
                matches!(slot, Purpose::File | Purpose::Command | Purpose::UserData)
            }
        }
    }

    fn may_go_to(&self, vm: &str) -> bool {
        self.machines.as_ref().is_none_or(|machines| machines.iter().any(|pattern| pattern.matches(vm, false)))
    }

    /// What it counts as where sizes are compared: the same for every secret of its purpose, so that no size tells its length.
    fn counted(&self) -> usize {
        match self.purpose {
            SecretPurpose::PasswordHash | SecretPurpose::Password | SecretPurpose::Token => 4 << 10,
            SecretPurpose::PrivateKey | SecretPurpose::Text => 64 << 10,
        }
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secret").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Cloud-init data with what is known of the secrets in it.
#[derive(Debug)]
pub struct Built {
    pub document: cloudinit::Document,
    secrets: Vec<Arc<Secret>>,
}

/// The largest document with secrets: far from the limit of guestinfo, because whether a document fits tells how well it is compressed,
/// and that tells whether a guess stands in it twice.
const LARGEST_WITH_SECRETS: usize = 512 << 10;

impl Built {
    /// A document without secrets.
    pub fn plain(document: cloudinit::Document) -> Self {
        Self { document, secrets: Vec::new() }
    }

    /// Whether it holds any secret.
    pub fn has_secrets(&self) -> bool {
        !self.secrets.is_empty()
    }

    /// Refuses a machine that one of the document's secrets may not go to. Faults: `door.destination`.
    pub fn check_destination(&self, vm: &str) -> Result<(), Fault> {
        let Some(secret) = self.secrets.iter().find(|secret| !secret.may_go_to(vm)) else { return Ok(()) };
        let machines = secret.machines.iter().flatten().map(|pattern| format!("{pattern}")).collect::<Vec<_>>();
        let where_to =
            if machines.is_empty() { "to no machine".to_owned() } else { format!("to {}", machines.join(", ")) };
        Err(Fault::new(
            "door.destination",
            format!(
                "denied: the document holds the secret {:?}, which may go {where_to}, and not to {vm:?}",
                secret.name
            ),
        )
        .hint(format!(
            "add the machine to secrets.{}.for in ~/.ceso/config.yaml, or leave the secret out",
            secret.name
        )))
    }
}

impl Pass<'_> {
    /// Builds a document, with the secrets that its fields name by their handles.
    ///
    /// Faults: `usage.handle`, `door.purpose` where a secret does not fit into a field; those of [`cloudinit::build`].
    pub fn build(&self, mut spec: cloudinit::Spec) -> Result<Built, Fault> {
        let (mut secrets, mut real, mut counted) = (Vec::new(), 0, 0);
        spec.fill(|slot, handle| {
            let secret = match self.door.objects.get(handle.id) {
                Some(Object::Secret(secret)) => secret,
                _ => return Err(no_secret(slot, &handle.kind)),
            };
            if !secret.fits(slot.purpose) {
                return Err(wrong_purpose(slot, &secret));
            }
            real += secret.value.expose_secret().len();
            counted += secret.counted();
            let value = secret.value.clone();
            secrets.push(secret);
            Ok(value)
        })?;
        if secrets.is_empty() {
            return cloudinit::build(&spec).map(Built::plain);
        }
        let document = cloudinit::build(&spec)
            .map_err(|fault| if fault.is("cloudinit.too_large") { too_large_with_secrets() } else { fault })?;
        if document.size().saturating_sub(real) + counted > LARGEST_WITH_SECRETS {
            return Err(too_large_with_secrets());
        }
        Ok(Built { document, secrets })
    }
}

impl super::Door {
    /// The secret of that name out of the configuration, read once in a run.
    pub(super) async fn secret(&self, name: &str) -> Result<Arc<Secret>, Fault> {
        let mut known = self.secrets.lock().await;
        if let Some(secret) = known.get(name) {
            return Ok(secret.clone());
        }
        let (hosts, wanted) = (self.hosts.clone(), name.to_owned());
        // A keyring may take its time.
        let read = tokio::task::spawn_blocking(move || hosts.secret(&wanted)).await.map_err(|error| {
            Fault::new("ceso.secret", format!("the secret {name:?} was not read: {error}"))
                .hint("this is a defect of ceso: please report it")
        })?;
        let secret = Arc::new(Secret::from(read?));
        known.insert(name.to_owned(), secret.clone());
        Ok(secret)
    }

    /// Reads the secret that a person named for a parameter, and gives its handle: naming it there is what allows the script to use it.
    ///
    /// Faults: `door.denied` in mode restricted, and where the grant does not name it.
    pub fn secret_parameter(&self, parameter: &str, reference: &str, purpose: SecretPurpose) -> Result<Value, Fault> {
        let name = reference.strip_prefix("secret:").unwrap_or(parameter);
        if self.policy.mode() == Mode::Restricted {
            return Err(denial(Layer::Mode(Mode::Restricted), "secret", "use", Some(name)));
        }
        if self.policy.granted().is_some_and(|grant| grant.allowing("secret", "use", name, false).is_none()) {
            return Err(denial(Layer::Grant, "secret", "use", Some(name)));
        }
        let secret = Arc::new(Secret::from(self.hosts.secret_parameter(parameter, reference, purpose)?));
        let fields = vec![("purpose".to_owned(), Value::Text(secret.purpose.as_str().to_owned()))];
        let name = secret.name.clone();
        Ok(self.objects.give::<kind::Secret>(Object::Secret(secret), &name, fields).into_value())
    }
}

impl super::bind::Binder<'_> {
    /// The cloud-init data behind a handle.
    pub fn document(&self, target: &Target<kind::Document>) -> Result<Arc<Built>, Fault> {
        match self.object(target.id) {
            Some(Object::Document(document)) => Ok(document),
            _ => Err(Fault::new("usage.handle", format!("handle {} is not a document of this run", target.id))),
        }
    }

    /// The password behind a handle, for the guest of a machine that it may go to. Faults: `door.purpose`, `door.destination`.
    pub fn guest_password(&self, target: &Target<kind::Secret>, vm: &str) -> Result<Arc<SecretString>, Fault> {
        let Some(Object::Secret(secret)) = self.object(target.id) else {
            return Err(Fault::new("usage.handle", format!("handle {} is not a secret of this run", target.id)));
        };
        let name = &secret.name;
        if secret.purpose != SecretPurpose::Password {
            let what =
                format!("denied: the secret {name:?} is a {}, and no password of a guest's user", secret.purpose);
            return Err(Fault::new("door.purpose", what).hint("a secret of purpose password is one"));
        }
        if !secret.may_go_to(vm) {
            let what = format!("denied: the secret {name:?} may not go to {vm:?}");
            return Err(Fault::new("door.destination", what)
                .hint(format!("add the machine to secrets.{name}.for in ~/.ceso/config.yaml")));
        }
        Ok(secret.value.clone())
    }

    /// The secret of that name, which the tables must allow to be used.
    pub async fn secret(&self, name: &str) -> Result<Arc<Secret>, Fault> {
        self.check("secret", "use", name, false)?;
        self.door().secret(name).await
    }
}

/// Refuses a secret where its purpose does not fit, for what is built without a run. Faults: `door.purpose`.
pub fn check_purpose(slot: &Slot, named: &NamedSecret) -> Result<(), Fault> {
    let secret = Secret::from(named.clone());
    if secret.fits(slot.purpose) { Ok(()) } else { Err(wrong_purpose(slot, &secret)) }
}

fn no_secret(slot: &Slot, kind: &str) -> Fault {
    Fault::new(
        "usage.argument",
        format!("cloudinit.build: {}: expected a text or a secret, found a {kind} handle", slot.at),
    )
    .hint("cloudinit.secret(\"NAME\") gives a secret")
}

fn wrong_purpose(slot: &Slot, secret: &Secret) -> Fault {
    let (name, purpose) = (&secret.name, secret.purpose);
    Fault::new(
        "door.purpose",
        format!("denied: {}: the secret {name:?} is a {purpose}, and does not fit there", slot.at),
    )
    .hint(match purpose {
        SecretPurpose::PasswordHash => "a password_hash fits into users[].password_hash",
        SecretPurpose::Password => "a password fits into users[].password, on Windows",
        SecretPurpose::PrivateKey => "a private_key fits into ssh.host_keys[].private and files[].content",
        SecretPurpose::Token | SecretPurpose::Text => {
            "a token or text fits into files[].content, commands, raw, parts and vendor_data"
        }
    })
}

/// No number is told: it would say how long the secret is.
fn too_large_with_secrets() -> Fault {
    Fault::new(
        "cloudinit.too_large",
        "a document that holds secrets is at most 512 KiB, and each secret counts as 4 or 64 KiB",
    )
    .hint("let the machine fetch large files itself, or put them into the template")
}
