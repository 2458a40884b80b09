//! cloudbase-init's dialect: what Windows guests take, and a refusal with its reason for everything else.
//!
//! Source: cloudbase-init 1.1.9, which reads the same guestinfo keys and the same `cidata` image:
//! - Cloud-config: `hostname`, `timezone`, `ntp`, `groups`, `users`, `write_files` and `runcmd`. Every other key is passed over.
//! - A list in `runcmd` is joined with blanks and not quoted, and everything becomes one `.cmd` file.
//! - A password is as it is typed, at most 20 characters; there are no hashes, and no locked passwords.
//! - Keys that belong to no account go into the meta-data, for the administrator that the service is set up with.
//! - Network: cards are found by MAC address and renamed. A card with an address gets that address, one gateway and its name servers; a card without is
//!   left as it is, which is DHCP. A second address of a family deletes the first, and the gateway is given to both families.

use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::check;
use super::error::{At, Error, Problem, Shown};
use super::forms::{Command, Nics, Sudo};
use super::machine;
use super::parts;
use super::spec::{File, Spec, User};
use super::user_data::{self, MOST_ENTRIES, Wiped};

/// NetBIOS: cloudbase-init cuts a longer host name off.
const LONGEST_HOSTNAME: usize = 15;
const LONGEST_ACCOUNT: usize = 20;
const LONGEST_GROUP: usize = 256;
const LONGEST_PASSWORD: usize = 20;

/// Checks all but the network; answers with the user-data and with the keys for the administrator.
pub(super) fn build(spec: &Spec) -> Result<(Zeroizing<String>, Vec<String>), Error> {
    let root = At::root();
    refused(&root, spec)?;
    let mut config = Wiped(Value::Object(Map::new()));
    let keys = user_data::keys(&root.field("ssh_keys"), &spec.ssh_keys.0)?;
    if let Value::Object(config) = &mut config.0 {
        let at = root.field("hostname");
        check::hostname(&at, &spec.hostname)?;
        if spec.hostname.len() > LONGEST_HOSTNAME {
            return Err(at.is(Problem::TooLong(spec.hostname.len(), LONGEST_HOSTNAME)));
        }
        config.insert("hostname".into(), json!(spec.hostname));
        if let Some(zone) = &spec.timezone {
            machine::timezone(&root.field("timezone"), zone)?;
            config.insert("timezone".into(), json!(zone));
        }
        if let Some(ntp) = &spec.ntp {
            config.insert("ntp".into(), machine::ntp(&root.field("ntp"), ntp)?);
        }
        let groups = groups(&root.field("groups"), &spec.groups.0)?;
        if !groups.is_empty() {
            config.insert("groups".into(), json!(groups));
        }
        users(&root.field("users"), &spec.users, &keys, config)?;
        files(&root.field("files"), &spec.files, config)?;
        commands(&root.field("commands"), &spec.commands, config)?;
    }
    let text = user_data::cloud_config(&config)?;
    let keys = if spec.users.is_empty() { keys } else { Vec::new() };
    Ok((parts::assemble(&root, spec, text)?, keys))
}

/// The fields that Windows has nothing for.
fn refused(root: &At, spec: &Spec) -> Result<(), Error> {
    let package = "cloudbase-init installs no packages; run an installer with `commands`";
    let disk = "cloudbase-init sets up no disks; use `diskpart` or PowerShell in `commands`";
    let ssh = "cloudbase-init sets up no SSH server; use PowerShell in `commands`";
    for (field, given, why) in [
        ("fqdn", spec.fqdn.is_some(), "the domain comes from joining one"),
        ("manage_etc_hosts", spec.manage_etc_hosts.is_some(), "cloudbase-init does not write the hosts file"),
        ("ssh", !spec.ssh.host_keys.is_empty() || spec.ssh.password_login, ssh),
        ("ssh", spec.ssh.delete_host_keys.is_some() || spec.ssh.disable_root.is_some(), ssh),
        ("packages", !spec.packages.0.is_empty(), package),
        ("package_update", spec.package_update.is_some(), package),
        ("package_upgrade", spec.package_upgrade, package),
        ("reboot_if_required", spec.reboot_if_required, package),
        (
            "boot_commands",
            !spec.boot_commands.is_empty(),
            "cloudbase-init runs nothing at every boot; make a scheduled task",
        ),
        ("disks", !spec.disks.is_empty(), disk),
        ("filesystems", !spec.filesystems.is_empty(), disk),
        ("mounts", !spec.mounts.is_empty(), disk),
        ("swap", spec.swap.is_some(), "Windows manages its page file itself"),
        ("grow", spec.grow.is_some(), "cloudbase-init grows the system's volume by its own settings"),
        ("locale", spec.locale.is_some(), "use `Set-WinSystemLocale` in `commands`"),
        ("keyboard", spec.keyboard.is_some(), "use `Set-WinUserLanguageList` in `commands`"),
        (
            "ca_certificates",
            !spec.ca_certificates.0.is_empty(),
            "use `files` and `certutil -addstore Root` in `commands`",
        ),
        ("remove_default_ca_certificates", spec.remove_default_ca_certificates, "use `certutil` in `commands`"),
        ("raw", spec.raw.is_some(), "cloudbase-init merges nothing; use `parts`"),
        ("merge", spec.merge.is_some(), "cloudbase-init merges nothing"),
        ("vendor_data", spec.vendor_data.is_some(), "cloudbase-init reads none"),
    ] {
        if given {
            return Err(root.field(field).is(Problem::Windows(why)));
        }
    }
    Ok(())
}

/// What no name of an account or group on Windows may hold.
const RESERVED: [char; 16] = ['"', '/', '\\', '[', ']', ':', ';', '|', '=', ',', '+', '*', '?', '<', '>', '@'];

fn name(at: &At, name: &str, longest: usize) -> Result<(), Error> {
    check::line(at, name, longest, &RESERVED)?;
    if name.ends_with('.') || name.starts_with(' ') || name.ends_with(' ') {
        return Err(at.is(Problem::AccountName(Shown::new(name), "it begins or ends with a blank, or ends with a dot")));
    }
    Ok(())
}

fn groups(at: &At, groups: &[String]) -> Result<Vec<String>, Error> {
    check::at_most(at, groups.len(), 256)?;
    for (index, group) in groups.iter().enumerate() {
        name(&at.item(index), group, LONGEST_GROUP)?;
    }
    check::distinct(at, groups.iter().map(String::as_str))?;
    Ok(groups.to_vec())
}

fn users(at: &At, users: &[User], shared: &[String], config: &mut Map<String, Value>) -> Result<(), Error> {
    check::at_most(at, users.len(), 256)?;
    let mut entries = Wiped(Value::Array(Vec::with_capacity(users.len())));
    for (index, each) in users.iter().enumerate() {
        let entry = user(&at.item(index), each, shared)?;
        if let Value::Array(entries) = &mut entries.0 {
            entries.push(entry);
        }
    }
    user_data::twice(at, users)?;
    if !users.is_empty() {
        config.insert("users".into(), std::mem::take(&mut entries.0));
    }
    Ok(())
}

fn user(at: &At, user: &User, shared: &[String]) -> Result<Value, Error> {
    let unix = "Windows has no such thing";
    for (field, given, why) in [
        ("primary_group", user.primary_group.is_some(), "an account has no group of its own; use `groups`"),
        ("sudo", user.sudo != Sudo::No, "there is no sudo; put the account into the group `Administrators`"),
        ("shell", user.shell.is_some(), unix),
        (
            "password_hash",
            user.password_hash.is_some(),
            "it takes a password as it is typed; give `password`, a secret",
        ),
        (
            "lock_password",
            user.lock_password.is_some(),
            "a password cannot be locked; without `password` it is a random one",
        ),
        ("uid", user.uid.is_some(), unix),
        ("system", user.system, unix),
        ("home", user.home.is_some(), "the profile's folder is Windows' own"),
    ] {
        if given {
            return Err(at.field(field).is(Problem::Windows(why)));
        }
    }
    name(&at.field("name"), &user.name, LONGEST_ACCOUNT)?;
    let mut out = Map::new();
    out.insert("name".into(), json!(user.name));
    if let Some(gecos) = &user.gecos {
        check::line(&at.field("gecos"), gecos, 255, &[])?;
        out.insert("gecos".into(), json!(gecos));
    }
    let groups = groups(&at.field("groups"), &user.groups.0)?;
    if !groups.is_empty() {
        out.insert("groups".into(), json!(groups));
    }
    if let Some(password) = &user.password {
        let at = at.field("password");
        if !password.has_secret() {
            return Err(at.is(Problem::NotASecret));
        }
        let password = password.string(&at)?;
        let length = password.chars().count();
        if length == 0 || length > LONGEST_PASSWORD || password.chars().any(char::is_control) {
            return Err(at.is(Problem::Password("Windows' cloudbase-init takes 1 to 20 characters, none of control")));
        }
        out.insert("passwd".into(), json!(password.as_str()));
    }
    if let Some(day) = &user.expires {
        check::day(&at.field("expires"), day)?;
        out.insert("expiredate".into(), json!(day));
    }
    let mut keys = user_data::keys(&at.field("ssh_keys"), &user.ssh_keys.0)?;
    for key in shared {
        if !keys.contains(key) {
            keys.push(key.clone());
        }
    }
    if user.create_home == Some(false) {
        if !keys.is_empty() {
            return Err(at.field("create_home").is(Problem::Both("`ssh_keys`, which need a home folder")));
        }
        out.insert("no_create_home".into(), json!(true));
    }
    if !keys.is_empty() {
        out.insert("ssh_authorized_keys".into(), json!(keys));
    }
    Ok(Value::Object(out))
}

fn files(at: &At, files: &[File], config: &mut Map<String, Value>) -> Result<(), Error> {
    check::at_most(at, files.len(), MOST_ENTRIES)?;
    let mut entries = Wiped(Value::Array(Vec::with_capacity(files.len())));
    let mut written = std::collections::HashSet::new();
    for (index, file) in files.iter().enumerate() {
        let at = at.item(index);
        for (field, given) in
            [("mode", file.mode.is_some()), ("owner", file.owner.is_some()), ("defer", file.defer.is_some())]
        {
            if given {
                let why = "a file gets the rights of its folder and is written before everything else; use `icacls` in `commands`";
                return Err(at.field(field).is(Problem::Windows(why)));
            }
        }
        path(&at.field("path"), &file.path)?;
        let mut out = Map::new();
        out.insert("path".into(), json!(file.path));
        user_data::content(&at, file, &mut out)?;
        // Only whether it can be written counts there, and without this cloudbase-init complains.
        out.insert("permissions".into(), json!("0644"));
        if file.append {
            out.insert("append".into(), json!(true));
        }
        if !written.insert(file.path.to_lowercase()) && !file.append {
            return Err(at.field("path").is(Problem::Twice(Shown::new(&file.path))));
        }
        if let Value::Array(entries) = &mut entries.0 {
            entries.push(Value::Object(out));
        }
    }
    if !files.is_empty() {
        config.insert("write_files".into(), std::mem::take(&mut entries.0));
    }
    Ok(())
}

/// A path with a drive, by `\` or `/`, that names one file.
fn path(at: &At, path: &str) -> Result<(), Error> {
    let bad = |why| Err(at.is(Problem::WindowsPath(Shown::new(path), why)));
    check::line(at, path, 259, &['"', '<', '>', '|', '?', '*'])?;
    let (drive, rest) = path.split_at_checked(3).unwrap_or((path, ""));
    let mut letters = drive.chars();
    let drive = letters.next().is_some_and(|c| c.is_ascii_alphabetic())
        && letters.next() == Some(':')
        && matches!(letters.next(), Some('\\' | '/'));
    if !drive {
        return bad("it does not begin with a drive, such as `C:\\`");
    }
    if rest.contains(':') {
        return bad("it has a second colon");
    }
    let part = |part: &str| !part.is_empty() && !part.ends_with(['.', ' ']);
    if !rest.split(['\\', '/']).all(part) {
        return bad("a part of it is empty or ends with a dot or a blank");
    }
    const DEVICES: [&str; 4] = ["con", "prn", "aux", "nul"];
    let device = |part: &str| {
        let stem = part.split('.').next().unwrap_or_default().to_ascii_lowercase();
        let port = stem.strip_prefix("com").or_else(|| stem.strip_prefix("lpt"));
        DEVICES.contains(&stem.as_str()) || port.is_some_and(|n| n.len() == 1 && n.bytes().all(|b| b.is_ascii_digit()))
    };
    if rest.split(['\\', '/']).any(device) {
        return bad("it names a device");
    }
    Ok(())
}

fn commands(at: &At, commands: &[Command], config: &mut Map<String, Value>) -> Result<(), Error> {
    check::at_most(at, commands.len(), MOST_ENTRIES)?;
    let mut entries = Wiped(Value::Array(Vec::with_capacity(commands.len())));
    for (index, command) in commands.iter().enumerate() {
        let at = at.item(index);
        if let Command::Program(_) = command {
            let why = "the words of a list are joined and not quoted; write the whole line as one string";
            return Err(at.is(Problem::Windows(why)));
        }
        let entry = user_data::command_entry(&at, command)?;
        if let Value::Array(entries) = &mut entries.0 {
            entries.push(entry);
        }
    }
    if !commands.is_empty() {
        config.insert("runcmd".into(), std::mem::take(&mut entries.0));
    }
    Ok(())
}

/// What of a network cloudbase-init would leave out, or do wrong.
pub(super) fn network(at: &At, nics: &Nics) -> Result<(), Error> {
    let single = nics.0.len() == 1;
    for (index, nic) in nics.0.iter().enumerate() {
        let at = if single { at.clone() } else { at.item(index) };
        for (field, given, why) in [
            ("routes", !nic.routes.is_empty(), "cloudbase-init sets no route but the default one"),
            ("vlan", nic.vlan.is_some(), "cloudbase-init makes VLANs on teams alone"),
            ("bond", nic.bond.is_some(), "teams need a Windows Server, and are left to PowerShell in `commands`"),
            ("bridge", nic.bridge.is_some(), "cloudbase-init makes no bridges"),
            ("accept_ra", nic.accept_ra.is_some(), "cloudbase-init leaves router advertisements as they are"),
            ("optional", nic.optional, "nothing waits for the network there"),
        ] {
            if given {
                return Err(at.field(field).is(Problem::Windows(why)));
            }
        }
        if nic.address.0.iter().any(|text| text == "none") {
            return Err(at.field("address").is(Problem::Windows("a card without an address asks by DHCP")));
        }
        let by_hand: Vec<&String> = nic.address.0.iter().filter(|text| !text.starts_with("dhcp")).collect();
        let v6 = by_hand.iter().filter(|text| text.contains(':')).count();
        let v4 = by_hand.len() - v6;
        if v4 > 1 || v6 > 1 {
            return Err(at.field("address").is(Problem::Windows("a second address of a family deletes the first")));
        }
        if !by_hand.is_empty() && by_hand.len() < nic.address.0.len() {
            return Err(at.field("address").is(Problem::Windows("a card has addresses or DHCP, not both")));
        }
        if v4 + v6 == 2 && !nic.gateway.0.is_empty() {
            return Err(at.field("gateway").is(Problem::Windows("one gateway would be given to both families")));
        }
        if by_hand.is_empty() && !nic.dns.0.is_empty() {
            return Err(at.field("dns").is(Problem::Windows("a card with DHCP keeps the name servers of DHCP")));
        }
        if !nic.search.0.is_empty() {
            return Err(at.field("search").is(Problem::Windows("cloudbase-init sets no search domains")));
        }
    }
    Ok(())
}
