//! User-data: the cloud-config that the guest's cloud-init acts on.
//!
//! It never asks for `updates: {network: {when: [boot]}}`, however much a machine that takes its new address at the next boot is wanted: the
//! VMware data source of cloud-init before 23.1 (Debian 12 has 22.4) answers that event by reading its data a second time, finds
//! nothing, and goes on as another instance, which makes new host keys and runs every command again at each boot. A test with the
//! real cloud-init shows it. (Newer guests publish what they can do in `guestinfo.cloudinit.updates.supported`.)

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use zeroize::{Zeroize, Zeroizing};

use super::error::{At, Error, Problem, Shown};
use super::forms::{Command, Packages, Sudo};
use super::spec::{File, Spec, User};
use super::text::Text;
use super::yaml;
use super::{check, machine, parts, ssh_key, storage};

const MOST_USERS: usize = 256;
const MOST_KEYS: usize = 256;
pub(super) const MOST_ENTRIES: usize = 4096;

/// Checks all but the network, and writes the user-data.
pub(super) fn build(spec: &Spec) -> Result<Zeroizing<String>, Error> {
    let root = At::root();
    let mut config = Map::new();
    check::hostname(&root.field("hostname"), &spec.hostname)?;
    config.insert("hostname".into(), json!(spec.hostname));
    if let Some(fqdn) = &spec.fqdn {
        check::fqdn(&root.field("fqdn"), fqdn, &spec.hostname)?;
        config.insert("fqdn".into(), json!(fqdn));
    }
    if let Some(manage) = spec.manage_etc_hosts {
        config.insert("manage_etc_hosts".into(), json!(manage));
    }
    let mut config = Wiped(Value::Object(config));
    if let Value::Object(config) = &mut config.0 {
        if let Some(groups) = groups(&root.field("groups"), &spec.groups.0)? {
            config.insert("groups".into(), groups);
        }
        accounts(&root, spec, config)?;
        machine::build(&root, spec, config)?;
        packages(&root, spec, config)?;
        storage::build(&root, spec, config)?;
        files(&root.field("files"), &spec.files, config)?;
        commands(&root.field("boot_commands"), "bootcmd", &spec.boot_commands, config)?;
        commands(&root.field("commands"), "runcmd", &spec.commands, config)?;
    }
    parts::assemble(&root, spec, cloud_config(&config)?)
}

/// A tree of values whose texts are overwritten when it goes.
pub(super) struct Wiped(pub(super) Value);

impl Drop for Wiped {
    fn drop(&mut self) {
        fn wipe(value: &mut Value) {
            match value {
                Value::String(text) => text.zeroize(),
                Value::Array(items) => items.iter_mut().for_each(wipe),
                Value::Object(fields) => fields.values_mut().for_each(wipe),
                _ => {}
            }
        }
        wipe(&mut self.0);
    }
}

/// The text of a cloud-config.
pub(super) fn cloud_config(config: &Wiped) -> Result<Zeroizing<String>, Error> {
    yaml::to_text_after("#cloud-config\n", &config.0)
}

/// Vendor data as it will be sent: it must begin with what cloud-init knows, or it would be passed over.
pub(super) fn vendor_data(at: &At, text: &Text) -> Result<Zeroizing<String>, Error> {
    let content = text.string(at)?;
    check::text(at, &content)?;
    if content.trim().is_empty() {
        return Err(at.is(Problem::Empty));
    }
    if content.starts_with("#cloud-config\n") || content.starts_with("#cloud-config\r\n") {
        parts::cloud_config(at, &content)?;
        return Ok(content);
    }
    let known = [
        "#!",
        "#include\n",
        "#cloud-boothook\n",
        "#cloud-config-archive\n",
        "## template: jinja\n",
        "Content-Type: multipart/",
    ];
    if known.iter().any(|first| content.starts_with(first)) {
        return Ok(content);
    }
    Err(at.is(Problem::VendorData))
}

fn accounts(root: &At, spec: &Spec, config: &mut Map<String, Value>) -> Result<(), Error> {
    let shared = keys(&root.field("ssh_keys"), &spec.ssh_keys.0)?;
    let at = root.field("users");
    check::at_most(&at, spec.users.len(), MOST_USERS)?;
    let mut users = Vec::with_capacity(spec.users.len());
    for (index, user) in spec.users.iter().enumerate() {
        users.push(account(&at.item(index), user, &shared)?);
    }
    twice(&at, &spec.users)?;
    if !users.is_empty() {
        config.insert("users".into(), Value::Array(users));
    } else if !shared.is_empty() {
        config.insert("ssh_authorized_keys".into(), json!(shared));
    }
    Ok(())
}

/// No name and no number belongs to two accounts.
pub(super) fn twice(at: &At, users: &[User]) -> Result<(), Error> {
    for (index, user) in users.iter().enumerate() {
        let mut before = users.iter().take(index);
        if before.clone().any(|other| other.name == user.name) {
            return Err(at.item(index).field("name").is(Problem::Twice(Shown::new(&user.name))));
        }
        if let Some(uid) = user.uid.filter(|uid| before.any(|other| other.uid == Some(*uid))) {
            return Err(at.item(index).field("uid").is(Problem::Twice(Shown::new(&uid.to_string()))));
        }
    }
    Ok(())
}

fn account(at: &At, user: &User, shared: &[String]) -> Result<Value, Error> {
    if user.name == "default" {
        return Err(at.field("name").is(Problem::UserDefault));
    }
    check::account(&at.field("name"), &user.name)?;
    let mut out = Map::new();
    out.insert("name".into(), json!(user.name));
    if let Some(gecos) = &user.gecos {
        check::line(&at.field("gecos"), gecos, 255, &[':'])?;
        out.insert("gecos".into(), json!(gecos));
    }
    if let Some(group) = &user.primary_group {
        check::account(&at.field("primary_group"), group)?;
        out.insert("primary_group".into(), json!(group));
    }
    if let Some(groups) = groups(&at.field("groups"), &user.groups.0)? {
        out.insert("groups".into(), groups);
    }
    sudo(&at.field("sudo"), &user.sudo, &mut out)?;
    if let Some(shell) = &user.shell {
        let at = at.field("shell");
        check::path(&at, shell)?;
        check::line(&at, shell, 255, &[':', ' '])?;
        out.insert("shell".into(), json!(shell));
    }
    home(at, user, &mut out)?;
    if let Some(day) = &user.expires {
        check::day(&at.field("expires"), day)?;
        out.insert("expiredate".into(), json!(day));
    }
    password(at, user, &mut out)?;
    let mut all = keys(&at.field("ssh_keys"), &user.ssh_keys.0)?;
    for key in shared {
        if !all.contains(key) {
            all.push(key.clone());
        }
    }
    if !all.is_empty() {
        out.insert("ssh_authorized_keys".into(), json!(all));
    }
    Ok(Value::Object(out))
}

fn sudo(at: &At, sudo: &Sudo, out: &mut Map<String, Value>) -> Result<(), Error> {
    match sudo {
        Sudo::No => {}
        Sudo::All => {
            out.insert("sudo".into(), json!("ALL=(ALL) NOPASSWD:ALL"));
        }
        Sudo::Rule(rule) => {
            check::line(at, rule, 1000, &[])?;
            // It would join the next line of sudoers to this one, and a file that sudo cannot read locks everybody out.
            if rule.ends_with('\\') {
                return Err(at.is(Problem::Reserved('\\')));
            }
            out.insert("sudo".into(), json!(rule));
        }
    }
    Ok(())
}

/// The account's number and home folder.
fn home(at: &At, user: &User, out: &mut Map<String, Value>) -> Result<(), Error> {
    if let Some(uid) = user.uid {
        check::within(&at.field("uid"), uid, 1, u32::MAX - 1)?;
        out.insert("uid".into(), json!(uid));
    }
    if user.system {
        out.insert("system".into(), json!(true));
    }
    if let Some(home) = &user.home {
        let at = at.field("home");
        check::path(&at, home)?;
        check::line(&at, home, 1024, &[':'])?;
        out.insert("homedir".into(), json!(home));
    }
    match user.create_home {
        // A system account gets no home folder unless it is told so, and there is no word for telling.
        Some(true) if user.system => return Err(at.field("create_home").is(Problem::Both("`system`"))),
        Some(false) if !user.ssh_keys.0.is_empty() => {
            return Err(at.field("create_home").is(Problem::Both("`ssh_keys`, which need a home folder")));
        }
        Some(false) => {
            out.insert("no_create_home".into(), json!(true));
        }
        _ => {}
    }
    Ok(())
}

fn password(at: &At, user: &User, out: &mut Map<String, Value>) -> Result<(), Error> {
    if user.password.is_some() {
        let why = "only Windows takes a password as it is typed; give `password_hash`";
        return Err(at.field("password").is(Problem::Password(why)));
    }
    if let Some(hash) = &user.password_hash {
        let at = at.field("password_hash");
        let hash = hash.string(&at)?;
        check::password_hash(&at, &hash)?;
        // Not `passwd`: that one goes to useradd as an argument, which every account in the guest can read.
        out.insert("hashed_passwd".into(), json!(hash.as_str()));
    }
    out.insert("lock_passwd".into(), json!(user.lock_password.unwrap_or(user.password_hash.is_none())));
    Ok(())
}

fn groups(at: &At, groups: &[String]) -> Result<Option<Value>, Error> {
    check::at_most(at, groups.len(), MOST_USERS)?;
    for (index, group) in groups.iter().enumerate() {
        check::account(&at.item(index), group)?;
    }
    check::distinct(at, groups.iter().map(String::as_str))?;
    Ok((!groups.is_empty()).then(|| json!(groups)))
}

pub(super) fn keys(at: &At, lines: &[String]) -> Result<Vec<String>, Error> {
    check::at_most(at, lines.len(), MOST_KEYS)?;
    let mut keys: Vec<String> = Vec::with_capacity(lines.len());
    for (index, line) in lines.iter().enumerate() {
        let at = at.item(index);
        let key = ssh_key::check(&at, line)?;
        if keys.contains(&key) {
            return Err(at.is(Problem::Twice(Shown::new("this key"))));
        }
        keys.push(key);
    }
    Ok(keys)
}

fn packages(root: &At, spec: &Spec, config: &mut Map<String, Value>) -> Result<(), Error> {
    let at = root.field("packages");
    let Packages(packages) = &spec.packages;
    check::at_most(&at, packages.len(), MOST_ENTRIES)?;
    let mut entries = Vec::with_capacity(packages.len());
    for (index, package) in packages.iter().enumerate() {
        let at = at.item(index);
        check::package(&at, &package.name)?;
        entries.push(match &package.version {
            None => json!(package.name),
            Some(version) => {
                check::version(&at.field("version"), version)?;
                json!([package.name, version])
            }
        });
    }
    check::distinct(&at, packages.iter().map(|package| package.name.as_str()))?;
    if spec.package_update.unwrap_or(!entries.is_empty() || spec.package_upgrade) {
        config.insert("package_update".into(), json!(true));
    } else if spec.package_update.is_some() {
        config.insert("package_update".into(), json!(false));
    }
    if spec.package_upgrade {
        config.insert("package_upgrade".into(), json!(true));
    }
    if spec.reboot_if_required {
        config.insert("package_reboot_if_required".into(), json!(true));
    }
    if !entries.is_empty() {
        config.insert("packages".into(), Value::Array(entries));
    }
    Ok(())
}

fn files(at: &At, files: &[File], config: &mut Map<String, Value>) -> Result<(), Error> {
    check::at_most(at, files.len(), MOST_ENTRIES)?;
    let mut entries = Wiped(Value::Array(Vec::with_capacity(files.len())));
    let mut written = std::collections::HashSet::new();
    for (index, file) in files.iter().enumerate() {
        let at = at.item(index);
        let entry = file_entry(&at, file)?;
        if let Value::Array(entries) = &mut entries.0 {
            entries.push(entry);
        }
        if !written.insert(file.path.as_str()) && !file.append {
            return Err(at.field("path").is(Problem::Twice(Shown::new(&file.path))));
        }
    }
    if !files.is_empty() {
        config.insert("write_files".into(), std::mem::take(&mut entries.0));
    }
    Ok(())
}

fn file_entry(at: &At, file: &File) -> Result<Value, Error> {
    check::path(&at.field("path"), &file.path)?;
    let mut out = Map::new();
    out.insert("path".into(), json!(file.path));
    content(at, file, &mut out)?;
    let secret = file.content.as_ref().is_some_and(Text::has_secret);
    let mode = file.mode.as_deref().unwrap_or(if secret { "0600" } else { "0644" });
    check::mode(&at.field("mode"), mode)?;
    out.insert("permissions".into(), json!(mode));
    if file.append {
        out.insert("append".into(), json!(true));
    }
    let mut of_another = false;
    if let Some(owner) = &file.owner {
        let at = at.field("owner");
        // The tools of every distribution give a user a group of the same name.
        let (user, group) = owner.split_once(':').unwrap_or((owner, owner));
        check::account(&at, user)?;
        check::account(&at, group)?;
        out.insert("owner".into(), json!(format!("{user}:{group}")));
        of_another = (user, group) != ("root", "root");
    }
    match file.defer {
        // Files are written before accounts are made; a deferred one comes after.
        Some(false) if of_another => return Err(at.field("defer").is(Problem::Needs("an owner that is there: root"))),
        Some(true) => {
            out.insert("defer".into(), json!(true));
        }
        _ if of_another => {
            out.insert("defer".into(), json!(true));
        }
        _ => {}
    }
    Ok(Value::Object(out))
}

/// The content: as text where it is text, else in base64.
pub(super) fn content(at: &At, file: &File, out: &mut Map<String, Value>) -> Result<(), Error> {
    let bytes = match (&file.content, &file.content_base64) {
        (Some(content), None) => content.bytes(&at.field("content"))?,
        (None, Some(encoded)) => {
            let at = at.field("content_base64");
            let compact: Vec<u8> = encoded.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
            Zeroizing::new(STANDARD.decode(compact).map_err(|_| at.is(Problem::NotBase64))?)
        }
        (Some(_), Some(_)) => return Err(at.field("content_base64").is(Problem::Both("`content`"))),
        (None, None) => return Err(at.is(Problem::Needs("`content` or `content_base64`"))),
    };
    match std::str::from_utf8(&bytes) {
        Ok(text) if !text.contains('\0') => {
            out.insert("content".into(), json!(text));
        }
        _ => {
            out.insert("encoding".into(), json!("b64"));
            out.insert("content".into(), json!(STANDARD.encode(&*bytes)));
        }
    }
    Ok(())
}

fn commands(at: &At, key: &str, commands: &[Command], config: &mut Map<String, Value>) -> Result<(), Error> {
    check::at_most(at, commands.len(), MOST_ENTRIES)?;
    let mut entries = Vec::with_capacity(commands.len());
    for (index, command) in commands.iter().enumerate() {
        entries.push(command_entry(&at.item(index), command)?);
    }
    if !entries.is_empty() {
        config.insert(key.into(), Value::Array(entries));
    }
    Ok(())
}

pub(super) fn command_entry(at: &At, command: &Command) -> Result<Value, Error> {
    match command {
        Command::Shell(line) => {
            let line = line.string(at)?;
            if line.trim().is_empty() {
                return Err(at.is(Problem::Empty));
            }
            check::text(at, &line)?;
            Ok(json!(line.as_str()))
        }
        Command::Program(words) => {
            let mut checked = Vec::with_capacity(words.len());
            for (index, word) in words.iter().enumerate() {
                let at = at.item(index);
                let word = word.string(&at)?;
                check::text(&at, &word)?;
                if index == 0 && word.trim().is_empty() {
                    return Err(at.is(Problem::Empty));
                }
                checked.push(json!(word.as_str()));
            }
            if checked.is_empty() {
                return Err(at.is(Problem::Empty));
            }
            Ok(Value::Array(checked))
        }
    }
}
