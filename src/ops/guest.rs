//! Operations inside a machine's guest, through its tools: what they tell, programs run, files carried, the console seen.
//!
//! The guest's password is a secret's handle: a script names it and never sees it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::file_transfer::blocking;
use crate::door::Pass;
use crate::door::bind::{Binder, BoundVm};
use crate::door::file::{Access, LocalFile};
use crate::door::object::{Target, kind};
use crate::door::operation::{Effect, Operation, Place, Selector, Touch, touch};
use crate::error::Fault;
use crate::esxi::{self, GuestLogin, GuestProgram};
use crate::redact::Untrusted;
use crate::units::{Bytes, Span};

const INSIDE: &[Touch] = &[touch("vm", "guest", Selector::Argument("vm"))];

/// The most of each output that a script gets.
const LARGEST: u64 = 1 << 20;

const fn method(name: &'static str) -> Place {
    Place::Method { kind: "vm", name }
}

/// A machine, and who does something in its guest.
pub struct BoundGuest {
    bound: BoundVm,
    password: Arc<SecretString>,
}

impl BoundGuest {
    async fn bind(
        binder: &Binder<'_>,
        operation: &str,
        vm: &Target<kind::Vm>,
        (user, password): (&str, &Target<kind::Secret>),
        path: &str,
    ) -> Result<Self, Fault> {
        let wrong = |what: String| Err(Fault::new("usage.argument", format!("{operation}: {what}")));
        if user.is_empty() || user.len() > 256 || user.chars().any(char::is_control) {
            return wrong("user: it is no user's name".to_owned());
        }
        let absolute = path.starts_with('/') || path.get(1..3).is_some_and(|rest| rest == ":\\" || rest == ":/");
        if !absolute || path.len() > 4096 || path.chars().any(char::is_control) {
            let shown: String = path.chars().take(80).collect();
            return Err(Fault::new("usage.argument", format!("{operation}: {shown:?} is no absolute path of a guest"))
                .hint("such as /usr/bin/apt-get, or C:\\Windows\\System32\\whoami.exe"));
        }
        let bound = binder.vm_anew(vm, "guest").await?;
        let password = binder.guest_password(password, &bound.vm.name)?;
        Ok(Self { bound, password })
    }

    /// Whether the guest is a Windows, after a look at whether anything can be done in it now.
    async fn is_windows(&self) -> Result<bool, Fault> {
        let facts = self.bound.host.client.guest_facts(&self.bound.vm).await?;
        if !facts.ready {
            let (name, tools) = (&self.bound.vm.name, facts.tools.as_deref().unwrap_or("unknown"));
            return Err(Fault::new(
                "esxi.guest_operations_unavailable",
                format!("nothing can be done in the guest of {name:?} now: its tools are {tools}"),
            )
            .hint("turn it on, wait with vm:wait_for_ip, and look whether VMware Tools (open-vm-tools) run in it"));
        }
        Ok(facts.family.as_deref() == Some("windowsGuest"))
    }

    fn login<'a>(&'a self, user: &'a str) -> GuestLogin<'a> {
        GuestLogin { user, password: &self.password }
    }
}

/// Reads what the guest's tools tell: their state, the guest's system and name, and the addresses of each of its cards.
///
/// All of it is the guest's own word, and nothing to decide by.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// The machine.
    pub vm: Target<kind::Vm>,
}

/// What a guest's tools tell of it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct GuestFacts {
    /// The state of VMware's tools, such as `guestToolsRunning`.
    pub tools: Option<String>,
    /// Their version.
    pub tools_version: Option<Untrusted>,
    /// Whether programs can be run in it now.
    pub ready: bool,
    /// The name that the guest gives itself, escaped and cut.
    pub hostname: Option<Untrusted>,
    /// Its system, such as `Debian GNU/Linux 12 (64-bit)`.
    pub system: Option<Untrusted>,
    /// Its network cards.
    pub nics: Vec<GuestNic>,
}

/// A network card as its guest sees it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct GuestNic {
    /// Its MAC address.
    pub mac: Option<Untrusted>,
    /// The network that it is connected to.
    pub network: Option<String>,
    /// Whether it is plugged in.
    pub connected: bool,
    /// All of its addresses, link-local ones too.
    pub addresses: Vec<Untrusted>,
}

impl Operation for Facts {
    const NAME: &'static str = "guest.facts";
    const EFFECT: Effect = Effect::Read;
    const PLACE: Place = method("guest_facts");
    const TOUCHES: &'static [Touch] = &[touch("vm", "read", Selector::Argument("vm"))];
    const USAGE: &'static str = "vm:ensure_power(\"on\")\nvm:wait_for_ip()\nfor _, nic in vm:guest_facts().nics do\n  print(nic.mac, nic.addresses[1])\nend";

    type Bound = BoundVm;
    type Output = GuestFacts;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundVm, Fault> {
        binder.vm_anew(&self.vm, "read").await
    }

    async fn act(self, bound: BoundVm, _: &Pass<'_>) -> Result<GuestFacts, Fault> {
        let facts = bound.host.client.guest_facts(&bound.vm).await?;
        let nics = facts.nics.into_iter().map(|nic| GuestNic {
            mac: nic.mac.as_deref().map(Untrusted::new),
            network: nic.network,
            connected: nic.connected,
            addresses: nic.addresses.iter().map(|address| Untrusted::new(address)).collect(),
        });
        Ok(GuestFacts {
            tools: facts.tools,
            tools_version: facts.tools_version.as_deref().map(Untrusted::new),
            ready: facts.ready,
            hostname: facts.hostname.as_deref().map(Untrusted::new),
            system: facts.system.as_deref().map(Untrusted::new),
            nics: nics.collect(),
        })
    }
}

/// Runs a program in the guest to its end, and gives its exit code and what it wrote.
///
/// Its words stay words: nothing of them is taken for a shell's. An exit code that is not 0 is no error. Of each output the first MiB
/// is told, as UTF-8. A program that does not end in time is terminated. Errors: `esxi.guest_operations_unavailable`,
/// `esxi.invalid_guest_login`, `esxi.file_not_found`, `esxi.timeout`, `door.destination`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// The machine.
    pub vm: Target<kind::Vm>,
    /// The program's absolute path in the guest.
    pub program: String,
    /// Its arguments, each one word.
    #[serde(default)]
    pub arguments: Vec<String>,
    /// The user of the guest that runs it.
    pub user: String,
    /// That user's password: a secret whose purpose is `password`, and which may go to the machine.
    pub password: Target<kind::Secret>,
    /// Variables of its environment.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// The folder that it runs in. Default: the user's own.
    pub directory: Option<String>,
    /// How long it may run. Default: 5 min.
    pub timeout: Option<Span>,
}

/// How a program of a guest ended.
#[derive(Debug, Serialize, JsonSchema)]
pub struct GuestRun {
    /// Its exit code.
    pub exit_code: i32,
    /// What it wrote.
    pub stdout: String,
    /// What it wrote of its troubles.
    pub stderr: String,
    /// Whether it wrote more than is told.
    pub truncated: bool,
}

impl Run {
    fn variables(&self) -> Result<Vec<String>, Fault> {
        let wrong = |key: &str| {
            key.is_empty()
                || !key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
                || key.starts_with(|c: char| c.is_ascii_digit())
        };
        if let Some(key) = self.environment.keys().find(|key| wrong(key)) {
            return Err(Fault::new("usage.argument", format!("{}: environment: {key:?} is no variable", Self::NAME)));
        }
        Ok(self.environment.iter().map(|(key, value)| format!("{key}={value}")).collect())
    }
}

impl Operation for Run {
    const NAME: &'static str = "guest.run";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = method("run_program");
    const CONTENTS: &'static [&'static str] = &["arguments", "environment"];
    const TOUCHES: &'static [Touch] = INSIDE;
    const USAGE: &'static str = "vm:ensure_power(\"on\")\nvm:wait_for_ip()\nlocal done = vm:run_program({ program = \"/bin/echo\", arguments = { \"hello\" }, user = \"root\", password = cloudinit.secret(\"guest-password\") })\nprint(done.exit_code, done.stdout)";

    type Bound = BoundGuest;
    type Output = GuestRun;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundGuest, Fault> {
        self.variables()?;
        BoundGuest::bind(binder, Self::NAME, &self.vm, (&self.user, &self.password), &self.program).await
    }

    async fn act(self, guest: BoundGuest, pass: &Pass<'_>) -> Result<GuestRun, Fault> {
        let windows = guest.is_windows().await?;
        let program = GuestProgram {
            program: &self.program,
            arguments: &self.arguments,
            environment: self.variables()?,
            directory: self.directory.as_deref(),
            limit: LARGEST,
            timeout: pass.time(self.timeout.map_or(Duration::from_secs(300), |span| span.0)),
        };
        let BoundGuest { bound, .. } = &guest;
        let login = guest.login(&self.user);
        let done = bound.host.client.run_in_guest(&bound.vm, login, &program, windows, &|step| pass.step(step)).await?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(GuestRun {
            exit_code: done.exit_code,
            stdout: text(&done.stdout),
            stderr: text(&done.stderr),
            truncated: done.truncated,
        })
    }
}

/// A file that was carried over whole.
#[derive(Debug, Serialize, JsonSchema)]
pub struct GuestTransfer {
    /// The file in the guest.
    pub path: String,
    /// How long it is.
    pub size: Bytes,
    /// Its SHA-256, in hexadecimal, summed on the way.
    pub sha256: String,
}

impl GuestTransfer {
    fn new(path: String, done: &esxi::Transferred) -> Self {
        let sha256 = done.sha256.map(hex::encode).unwrap_or_default();
        Self { path, size: Bytes(done.bytes), sha256 }
    }
}

/// Uploads a file of this machine into the guest.
///
/// Errors: `esxi.file_already_exists` unless `overwrite`, `esxi.guest_operations_unavailable`, `esxi.invalid_guest_login`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Upload {
    /// The machine.
    pub vm: Target<kind::Vm>,
    /// The file of this machine: a parameter of type `file`.
    pub file: Target<kind::File>,
    /// The file's absolute path in the guest.
    pub path: String,
    /// The user of the guest that writes it.
    pub user: String,
    /// That user's password: a secret whose purpose is `password`, and which may go to the machine.
    pub password: Target<kind::Secret>,
    /// Whether it may take the place of a file that is there. Default: false.
    #[serde(default)]
    pub overwrite: bool,
}

impl Operation for Upload {
    const NAME: &'static str = "guest.upload";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = method("upload_to_guest");
    const TOUCHES: &'static [Touch] = INSIDE;
    const USAGE: &'static str = "local vm = host:ensure_clone({ template = \"debian-12\", name = \"upload-1\" })\nvm:ensure_power(\"on\")\nvm:wait_for_ip()\nvm:upload_to_guest({ file = file, path = \"/tmp/tools.tar\", user = \"root\", password = cloudinit.secret(\"guest-password\") })";

    type Bound = (BoundGuest, Arc<LocalFile>);
    type Output = GuestTransfer;

    async fn bind(&self, binder: &Binder<'_>) -> Result<Self::Bound, Fault> {
        let file = binder.file(&self.file, Access::Read)?;
        let login = (self.user.as_str(), &self.password);
        Ok((BoundGuest::bind(binder, Self::NAME, &self.vm, login, &self.path).await?, file))
    }

    async fn act(self, (guest, file): Self::Bound, pass: &Pass<'_>) -> Result<GuestTransfer, Fault> {
        let windows = guest.is_windows().await?;
        let open = || file.reader().map(|reader| Box::new(reader) as Box<dyn std::io::Read + Send>);
        let content = esxi::Content { length: file.length(), open: &open, sum: esxi::Sum::Told };
        let (login, how) = (guest.login(&self.user), (self.overwrite, windows));
        let BoundGuest { bound, .. } = &guest;
        let client = &bound.host.client;
        let sent = client.upload_to_guest(&bound.vm, login, &self.path, content, how, &|step| pass.step(step)).await?;
        Ok(GuestTransfer::new(self.path, &sent))
    }
}

/// Downloads a file of the guest to a new file of this machine.
///
/// Errors: `esxi.file_not_found`, `esxi.guest_operations_unavailable`, `esxi.invalid_guest_login`, `local.file_exists`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Download {
    /// The machine.
    pub vm: Target<kind::Vm>,
    /// The file's absolute path in the guest.
    pub path: String,
    /// The new file of this machine: a parameter of type `file` with `access = "write"`.
    pub into: Target<kind::File>,
    /// The user of the guest that reads it.
    pub user: String,
    /// That user's password: a secret whose purpose is `password`, and which may go to the machine.
    pub password: Target<kind::Secret>,
}

impl Operation for Download {
    const NAME: &'static str = "guest.download";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = method("download_from_guest");
    const TOUCHES: &'static [Touch] = INSIDE;
    const USAGE: &'static str = "local vm = host:ensure_clone({ template = \"debian-12\", name = \"download-1\" })\nvm:ensure_power(\"on\")\nvm:wait_for_ip()\nvm:run_program({ program = \"/bin/sh\", arguments = { \"-c\", \"/bin/hostname > /tmp/name\" }, user = \"root\", password = cloudinit.secret(\"guest-password\") })\nvm:download_from_guest({ path = \"/tmp/name\", into = file, user = \"root\", password = cloudinit.secret(\"guest-password\") })";

    type Bound = (BoundGuest, Arc<LocalFile>);
    type Output = GuestTransfer;

    async fn bind(&self, binder: &Binder<'_>) -> Result<Self::Bound, Fault> {
        let file = binder.file(&self.into, Access::Write)?;
        let login = (self.user.as_str(), &self.password);
        Ok((BoundGuest::bind(binder, Self::NAME, &self.vm, login, &self.path).await?, file))
    }

    async fn act(self, (guest, file): Self::Bound, pass: &Pass<'_>) -> Result<GuestTransfer, Fault> {
        guest.is_windows().await?;
        let part = blocking(move || file.begin(false)).await?;
        let sink = part.writer().map_err(|error| unwritable(&error))?;
        let (login, BoundGuest { bound, .. }) = (guest.login(&self.user), &guest);
        let client = &bound.host.client;
        match client.download_from_guest(&bound.vm, login, &self.path, Box::new(sink), &|step| pass.step(step)).await {
            Ok(done) => {
                blocking(move || part.finish()).await?;
                Ok(GuestTransfer::new(self.path, &done))
            }
            Err(error) => {
                blocking(move || part.discard()).await?;
                Err(error.into())
            }
        }
    }
}

/// Takes a picture of what a running machine's console shows, into a new PNG file of this machine.
///
/// Errors: `esxi.invalid_power_state` where it is not on, `local.file_exists`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Screenshot {
    /// The machine.
    pub vm: Target<kind::Vm>,
    /// The new file of this machine: a parameter of type `file` with `access = "write"`.
    pub into: Target<kind::File>,
}

/// A picture of a console.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Picture {
    /// How large its file is.
    pub size: Bytes,
}

impl Operation for Screenshot {
    const NAME: &'static str = "guest.screenshot";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = method("screenshot");
    const POSITIONAL: &'static [&'static str] = &["into"];
    const TOUCHES: &'static [Touch] = INSIDE;
    const USAGE: &'static str = "local vm = host:ensure_clone({ template = \"debian-12\", name = \"shown-1\" })\nvm:ensure_power(\"on\")\nprint(vm:screenshot({ into = file }).size)";

    type Bound = (BoundVm, Arc<LocalFile>);
    type Output = Picture;

    async fn bind(&self, binder: &Binder<'_>) -> Result<Self::Bound, Fault> {
        let file = binder.file(&self.into, Access::Write)?;
        Ok((binder.vm(&self.vm, "guest").await?, file))
    }

    async fn act(self, (bound, file): Self::Bound, pass: &Pass<'_>) -> Result<Picture, Fault> {
        let picture = bound.host.client.screenshot(&bound.vm, &|step| pass.step(step)).await?;
        let size = Bytes(picture.len() as u64);
        blocking(move || {
            let part = file.begin(false)?;
            let written = part.writer().and_then(|mut sink| std::io::Write::write_all(&mut sink, &picture));
            match written {
                Ok(()) => part.finish(),
                Err(error) => {
                    part.discard()?;
                    Err(unwritable(&error))
                }
            }
        })
        .await?;
        Ok(Picture { size })
    }
}

fn unwritable(error: &std::io::Error) -> Fault {
    Fault::new("local.file", format!("the file cannot be written: {error}"))
        .hint("look at the file, its folder and its disk on this machine")
}
