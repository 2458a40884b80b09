//! User-data: the cloud-config that the guest's cloud-init acts on.
//!
//! It never asks for `updates: {network: {when: [boot]}}`, however much a machine that takes its new address at the next boot is wanted: the
//! VMware data source of cloud-init before 23.1 (Debian 12 has 22.4) answers that event by reading its data a second time, finds
//! nothing, and goes on as another instance, which makes new host keys and runs every command again at each boot. A test with the
//! real cloud-init shows it. (Newer guests publish what they can do in `guestinfo.cloudinit.updates.supported`.)

use serde_json::{Map, Value, json};

use super::check;
use super::error::{At, Error, Problem, Shown};
use super::forms::{Command, Sudo};
use super::spec::{File, Spec, User};
use super::ssh_key;
use super::yaml;

const MOST_USERS: usize = 256;
const MOST_KEYS: usize = 256;
const MOST_ENTRIES: usize = 4096;

/// Checks all but the network, and writes the user-data.
pub(super) fn build(spec: &Spec) -> Result<String, Error> {
    let root = At::root();
    let mut config = Map::new();
    check::hostname(&root.field("hostname"), &spec.hostname)?;
    config.insert("hostname".into(), json!(spec.hostname));
    if let Some(fqdn) = &spec.fqdn {
        check::fqdn(&root.field("fqdn"), fqdn, &spec.hostname)?;
        config.insert("fqdn".into(), json!(fqdn));
    }
    accounts(&root, spec, &mut config)?;
    packages(&root.field("packages"), &spec.packages.0, &mut config)?;
    files(&root.field("files"), &spec.files, &mut config)?;
    commands(&root.field("commands"), &spec.commands, &mut config)?;
    Ok(format!("#cloud-config\n{}\n", yaml::to_text(&Value::Object(config))?))
}

fn accounts(root: &At, spec: &Spec, config: &mut Map<String, Value>) -> Result<(), Error> {
    let shared = keys(&root.field("ssh_keys"), &spec.ssh_keys.0)?;
    let at = root.field("users");
    check::at_most(&at, spec.users.len(), MOST_USERS)?;
    let mut users = Vec::with_capacity(spec.users.len());
    for (index, user) in spec.users.iter().enumerate() {
        users.push(account(&at.item(index), user, &shared)?);
    }
    for (index, user) in spec.users.iter().enumerate() {
        if spec.users.iter().take(index).any(|other| other.name == user.name) {
            return Err(at.item(index).field("name").is(Problem::Twice(Shown::new(&user.name))));
        }
    }
    if !users.is_empty() {
        config.insert("users".into(), Value::Array(users));
    } else if !shared.is_empty() {
        config.insert("ssh_authorized_keys".into(), json!(shared));
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
    if let Some(groups) = groups(&at.field("groups"), &user.groups.0)? {
        out.insert("groups".into(), groups);
    }
    match &user.sudo {
        Sudo::No => {}
        Sudo::All => {
            out.insert("sudo".into(), json!("ALL=(ALL) NOPASSWD:ALL"));
        }
        Sudo::Rule(rule) => {
            let at = at.field("sudo");
            check::line(&at, rule, 1000, &[])?;
            // It would join the next line of sudoers to this one, and a file that sudo cannot read locks everybody out.
            if rule.ends_with('\\') {
                return Err(at.is(Problem::Reserved('\\')));
            }
            out.insert("sudo".into(), json!(rule));
        }
    }
    if let Some(shell) = &user.shell {
        let at = at.field("shell");
        check::path(&at, shell)?;
        check::line(&at, shell, 255, &[':', ' '])?;
        out.insert("shell".into(), json!(shell));
    }
    out.insert("lock_passwd".into(), json!(user.lock_password));
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

fn groups(at: &At, groups: &[String]) -> Result<Option<Value>, Error> {
    check::at_most(at, groups.len(), MOST_USERS)?;
    for (index, group) in groups.iter().enumerate() {
        check::account(&at.item(index), group)?;
    }
    check::distinct(at, groups.iter().map(String::as_str))?;
    Ok((!groups.is_empty()).then(|| json!(groups)))
}

fn keys(at: &At, lines: &[String]) -> Result<Vec<String>, Error> {
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

fn packages(at: &At, names: &[String], config: &mut Map<String, Value>) -> Result<(), Error> {
    check::at_most(at, names.len(), MOST_ENTRIES)?;
    for (index, name) in names.iter().enumerate() {
        check::package(&at.item(index), name)?;
    }
    check::distinct(at, names.iter().map(String::as_str))?;
    if !names.is_empty() {
        config.insert("package_update".into(), json!(true));
        config.insert("packages".into(), json!(names));
    }
    Ok(())
}

fn files(at: &At, files: &[File], config: &mut Map<String, Value>) -> Result<(), Error> {
    check::at_most(at, files.len(), MOST_ENTRIES)?;
    let mut entries = Vec::with_capacity(files.len());
    for (index, file) in files.iter().enumerate() {
        entries.push(file_entry(&at.item(index), file)?);
    }
    for (index, file) in files.iter().enumerate() {
        if !file.append && files.iter().take(index).any(|other| other.path == file.path) {
            return Err(at.item(index).field("path").is(Problem::Twice(Shown::new(&file.path))));
        }
    }
    if !entries.is_empty() {
        config.insert("write_files".into(), Value::Array(entries));
    }
    Ok(())
}

fn file_entry(at: &At, file: &File) -> Result<Value, Error> {
    check::path(&at.field("path"), &file.path)?;
    check::text(&at.field("content"), &file.content)?;
    let mode = file.mode.as_deref().unwrap_or("0644");
    check::mode(&at.field("mode"), mode)?;
    let mut out = Map::new();
    out.insert("path".into(), json!(file.path));
    out.insert("content".into(), json!(file.content));
    out.insert("permissions".into(), json!(mode));
    if file.append {
        out.insert("append".into(), json!(true));
    }
    if let Some(owner) = &file.owner {
        let at = at.field("owner");
        // The tools of every distribution give a user a group of the same name.
        let (user, group) = owner.split_once(':').unwrap_or((owner, owner));
        check::account(&at, user)?;
        check::account(&at, group)?;
        out.insert("owner".into(), json!(format!("{user}:{group}")));
        // Files are written before accounts are made; a deferred one comes after.
        if (user, group) != ("root", "root") {
            out.insert("defer".into(), json!(true));
        }
    }
    Ok(Value::Object(out))
}

fn commands(at: &At, commands: &[Command], config: &mut Map<String, Value>) -> Result<(), Error> {
    check::at_most(at, commands.len(), MOST_ENTRIES)?;
    let mut entries = Vec::with_capacity(commands.len());
    for (index, command) in commands.iter().enumerate() {
        let at = at.item(index);
        match command {
            Command::Shell(line) => {
                if line.trim().is_empty() {
                    return Err(at.is(Problem::Empty));
                }
                check::text(&at, line)?;
                entries.push(json!(line));
            }
            Command::Program(words) => {
                if words.first().is_none_or(|program| program.trim().is_empty()) {
                    return Err(at.is(Problem::Empty));
                }
                for (index, word) in words.iter().enumerate() {
                    check::text(&at.item(index), word)?;
                }
                entries.push(json!(words));
            }
        }
    }
    if !entries.is_empty() {
        config.insert("runcmd".into(), Value::Array(entries));
    }
    Ok(())
}
