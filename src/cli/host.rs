//! `ceso host`: the hosts that ceso knows, whom it takes them for, and whether they answer.
//!
//! A certificate is trusted only after its fingerprint was shown to a person or given by one. A password is never an argument.

use std::io::Read;
use std::sync::Arc;

use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Command};
use secrecy::SecretString;
use serde_json::{Value, json};

use super::context::Context;
use super::hosts::Configured;
use super::noting::note;
use super::output::Format;
use super::passing::{Calls, Passing};
use crate::catalog::Catalog;
use crate::config::{Config, Fingerprint, HostConfig, HostEntry, HostUrl, Origin, Trust, files, registry, secrets};
use crate::error::Fault;
use crate::run::connect;
use crate::{esxi, ops, redact};

pub fn command() -> Command {
    let name = || Arg::new("NAME").required(true).help("The name of the host");
    Command::new("host")
        .about("Add, list, trust, check and remove hosts")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .after_help(
            "What is asked of the host that --host names is done by scripts: ceso host events, tasks, health, devices, portgroup, \
             config, maintenance, shutdown. `ceso --help` lists them.",
        )
        .subcommand(
            trust_flags(Command::new("add"))
                .about("Add a host; its certificate's fingerprint is shown and asked about")
                .arg(name())
                .arg(Arg::new("URL").required(true).help("Its address: esx1, esx1:8443 or https://esx1/sdk"))
                .arg(Arg::new("username").long("username").value_name("USER").help("The account [default: root]"))
                .arg(Arg::new("tag").long("tag").action(ArgAction::Append).help("A word to group hosts by; may be repeated"))
                .arg(
                    Arg::new("datacenter")
                        .long("datacenter")
                        .value_name("NAME")
                        .help("Where the address is a vCenter's: the datacenter that is meant; the only one unless given"),
                )
                .arg(
                    Arg::new("store")
                        .long("store")
                        .value_parser(["keyring", "file", "none"])
                        .default_value("none")
                        .help("Where the password is kept: the system's keyring, a file that only you can read, or nowhere"),
                )
                .arg(
                    Arg::new("password-stdin")
                        .long("password-stdin")
                        .action(ArgAction::SetTrue)
                        .help("Read the password that is kept from standard input instead of asking"),
                )
                .arg(Format::argument()),
        )
        .subcommand(Command::new("list").about("List the hosts").arg(Format::argument()))
        .subcommand(
            trust_flags(Command::new("trust"))
                .about("Show a host's certificate and trust it from now on")
                .arg(name())
                .arg(Format::argument()),
        )
        .subcommand(Command::new("remove").about("Remove a host, its session and its kept password").arg(name()))
        .subcommand(Command::new("logout").about("End the kept session on a host").arg(name()))
        .subcommand(
            Command::new("check")
                .about("Connect and log in; say what the host is")
                .arg(name())
                .arg(Format::argument()),
        )
}

fn trust_flags(command: Command) -> Command {
    command
        .arg(
            Arg::new("fingerprint")
                .long("fingerprint")
                .value_name("SHA256")
                .value_parser(|text: &str| text.parse::<Fingerprint>())
                .help("Trust exactly the certificate with this SHA-256 fingerprint"),
        )
        .arg(
            Arg::new("ca-file")
                .long("ca-file")
                .value_name("FILE")
                .value_parser(clap::value_parser!(std::path::PathBuf))
                .help("Trust certificates that an authority in this PEM file has signed"),
        )
        .arg(
            Arg::new("system")
                .long("system")
                .action(ArgAction::SetTrue)
                .help("Trust certificates that an authority known to this machine has signed"),
        )
        .arg(
            Arg::new("yes")
                .long("yes")
                .action(ArgAction::SetTrue)
                .help("Trust the certificate that the host shows now, without a question"),
        )
        .group(ArgGroup::new("trust").args(["fingerprint", "ca-file", "system", "yes"]))
}

pub fn run(matches: &ArgMatches, context: &Context) -> Result<(), Fault> {
    match matches.subcommand() {
        Some(("add", matches)) => add(matches, context),
        Some(("list", matches)) => list(matches, context),
        Some(("trust", matches)) => trust(matches, context),
        Some(("remove", matches)) => remove(name_of(matches), context),
        Some(("logout", matches)) => logout(name_of(matches), context),
        Some(("check", matches)) => check(matches, context),
        _ => Err(Fault::new("usage.command", "`ceso host` needs a command")
            .hint("add, list, trust, remove, logout or check")),
    }
}

fn name_of(matches: &ArgMatches) -> &str {
    matches.get_one::<String>("NAME").map(String::as_str).unwrap_or_default()
}

fn add(matches: &ArgMatches, context: &Context) -> Result<(), Fault> {
    let name = name_of(matches);
    registry::check_new_name(name)?;
    let url: HostUrl =
        matches.get_one::<String>("URL").map(String::as_str).unwrap_or_default().parse().map_err(|why| {
            Fault::new("usage.host_url", format!("not the address of a host: {why}"))
                .hint("ceso host add lab esx1.example")
        })?;
    let config = context.config()?;
    if config.host_names().any(|known| known == name) {
        return Err(exists(name));
    }
    if let Some(ip) = url.ip() {
        config.check_address(name, ip)?;
    }
    let store = matches.get_one::<String>("store").map(String::as_str).unwrap_or_default();
    if store == "none" && matches.get_flag("password-stdin") {
        return Err(Fault::new(
            "usage.password",
            "--password-stdin reads a password, but nothing says where it is kept",
        )
        .hint("add --store keyring or --store file"));
    }
    let trust = chosen_trust(matches, context, &config, name, &url, None)?;
    let mut entry = HostEntry {
        url,
        username: matches.get_one::<String>("username").cloned(),
        trust,
        password_file: None,
        password_env: None,
        tags: matches.get_many::<String>("tag").into_iter().flatten().cloned().collect(),
        datacenter: matches.get_one::<String>("datacenter").cloned(),
    };
    let account = secrets::account(entry.username.as_deref(), &entry.url);
    let password = match store {
        "none" => None,
        _ => {
            let password = new_password(matches, context, &format!("Password for {account}: "))?;
            redact::know(&password, format!("password of {name}"));
            Some(password)
        }
    };
    let result = describe(name, &entry);
    note(context, &config, "host add", name, result.clone())?;
    // Under the lock: two commands that add the same name at once must not keep the password of the one that loses.
    registry::update(config.home(), |hosts| {
        if hosts.contains_key(name) {
            return Err(exists(name));
        }
        match (&password, store) {
            (Some(password), "keyring") => secrets::keyring_store(&account, password)?,
            (Some(password), _) => entry.password_file = Some(secrets::file_store(config.home(), name, password)?),
            (None, _) => {}
        }
        hosts.insert(name.to_owned(), entry);
        Ok(())
    })?;
    context.print(matches, &result)
}

fn exists(name: &str) -> Fault {
    Fault::new("usage.host_exists", format!("a host named {name:?} exists already")).hint(format!(
        "choose another name, or `ceso host remove {name}` first; `ceso host trust {name}` renews its trust"
    ))
}

fn describe(name: &str, entry: &HostEntry) -> Value {
    let mut told = json!({
        "name": name,
        "url": entry.url.to_string(),
        "username": entry.username.as_deref().unwrap_or(crate::config::DEFAULT_USERNAME),
        "trust": entry.trust.to_string(),
        "tags": entry.tags,
    });
    if let Some(datacenter) = &entry.datacenter {
        told["datacenter"] = json!(datacenter);
    }
    told
}

fn new_password(matches: &ArgMatches, context: &Context, question: &str) -> Result<SecretString, Fault> {
    if matches.get_flag("password-stdin") {
        let mut bytes = Vec::new();
        std::io::stdin().lock().take(secrets::MAX_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(|error| {
            Fault::new("host.no_password", format!("no password was read from standard input: {error}")).cause(error)
        })?;
        return secrets::from_bytes(bytes, "standard input");
    }
    if !context.has_person() {
        return Err(Fault::new("host.no_password", "there is no terminal to ask for the password on")
            .hint("pipe it in: ceso host add … --password-stdin < FILE"));
    }
    secrets::ask(&crate::config::printable(question))
}

/// The trust that the flags name; without one the host is asked for its certificate, and a person about it.
fn chosen_trust(
    matches: &ArgMatches,
    context: &Context,
    config: &Arc<Config>,
    name: &str,
    url: &HostUrl,
    before: Option<&Trust>,
) -> Result<Trust, Fault> {
    if let Some(file) = matches.get_one::<std::path::PathBuf>("ca-file") {
        let file = context.sources().current_dir.join(file);
        if files::read(&file, 1 << 20, files::Guard::Any)?.is_none() {
            return Err(Fault::new("usage.ca_file", format!("{} does not exist", file.display()))
                .hint("name a PEM file with the certificate of the authority"));
        }
        return Ok(Trust::CaFile(file));
    }
    if matches.get_flag("system") {
        return Ok(Trust::System);
    }
    let given = matches.get_one::<Fingerprint>("fingerprint").copied();
    if let (Some(given), None) = (given, before) {
        // A new host may be described before it can be reached; the first connection compares.
        return Ok(Trust::Fingerprint(given));
    }
    let seen = context.block_on(connect::certificate(config, name, url))??;
    let print = seen.fingerprint;
    context.say(&shown(name, url, &seen, before))?;
    if let Some(given) = given {
        return if given == print {
            Ok(Trust::Fingerprint(print))
        } else {
            Err(Fault::new(
                "host.certificate_differs",
                format!("{name} shows the fingerprint {print}, not {given}; nothing was changed"),
            )
            .hint("compare it with the one on the host's console: another machine may answer at this address"))
        };
    }
    if matches.get_flag("yes") || before == Some(&Trust::Fingerprint(print)) {
        return Ok(Trust::Fingerprint(print));
    }
    match context.confirm("Does the host's console show this fingerprint, and do you trust it?")? {
        Some(true) => Ok(Trust::Fingerprint(print)),
        Some(false) => Err(Fault::new(
            "host.not_trusted",
            format!("the certificate of {name} was not trusted; nothing was changed"),
        )
        .hint("the fingerprint is on the host's console under Support Information")),
        None => Err(Fault::new(
            "host.not_trusted",
            format!("the certificate of {name} is not trusted yet, and there is no terminal to ask on"),
        )
        .hint(format!("compare the fingerprint with the host's console, then repeat with --fingerprint {print}"))),
    }
}

fn shown(name: &str, url: &HostUrl, seen: &esxi::Certificate, before: Option<&Trust>) -> String {
    let mut text = format!("{name} ({url}) shows this certificate:\n");
    let names = seen.names.join(", ");
    for (label, value) in [
        ("subject", seen.subject.as_str()),
        ("issuer", &seen.issuer),
        ("names", &names),
        ("valid from", &seen.not_before),
        ("valid until", &seen.not_after),
        ("SHA-256", &seen.fingerprint.to_string()),
    ] {
        text.push_str(&format!("  {label:12} {}\n", value.lines().collect::<Vec<_>>().join(" ")));
    }
    match before {
        Some(Trust::Fingerprint(before)) if *before == seen.fingerprint => {
            text.push_str("It is the one that is trusted already.\n");
        }
        Some(Trust::Fingerprint(before)) => {
            text.push_str(&format!("IT HAS CHANGED. Trusted until now:\n  {:12} {before}\n", "SHA-256"));
        }
        Some(other) => text.push_str(&format!("Trusted until now: {other}\n")),
        None => {}
    }
    text
}

fn list(matches: &ArgMatches, context: &Context) -> Result<(), Fault> {
    let config = context.config()?;
    let default = config.settings().default_host.as_deref();
    let rows = config.settings().hosts.iter().map(|(name, entry)| {
        let mut row = describe(name, entry);
        if let Some(row) = row.as_object_mut() {
            row.insert("default".to_owned(), json!(default == Some(name)));
            row.insert("from".to_owned(), json!(config.origin(&format!("hosts.{name}.url")).to_string()));
        }
        row
    });
    context.print(matches, &Value::Array(rows.collect()))
}

fn trust(matches: &ArgMatches, context: &Context) -> Result<(), Fault> {
    let name = name_of(matches);
    let config = context.config()?;
    let host = config.host(name)?;
    kept_here(&config, &host)?;
    let trust = chosen_trust(matches, context, &config, name, &host.url, Some(&host.trust))?;
    let details = json!({ "trust": trust.to_string(), "before": host.trust.to_string() });
    note(context, &config, "host trust", name, details)?;
    if trust != host.trust {
        // The session was made under the old trust, so it goes: it is not sent to whoever is trusted now.
        files::remove(&host.session_file)?;
    }
    let result = registry::update(config.home(), |hosts| {
        let entry = hosts.get_mut(name).ok_or_else(|| gone(name))?;
        entry.trust = trust;
        Ok(describe(name, entry))
    })?;
    context.print(matches, &result)
}

/// `ceso host` changes only what it wrote itself.
fn kept_here(config: &Config, host: &HostConfig) -> Result<(), Fault> {
    let file = config.home().hosts_file();
    match &host.origin {
        Origin::User(path) if *path == file => Ok(()),
        Origin::Variable(name) => {
            Err(Fault::new("usage.host_elsewhere", format!("the host {:?} is described by {name}", host.name))
                .hint("set CESO_FINGERPRINT to the fingerprint that you trust"))
        }
        origin => Err(Fault::new(
            "usage.host_elsewhere",
            format!("the host {:?} is described in {origin}, which ceso does not rewrite", host.name),
        )
        .hint(format!("change hosts.{} there by hand", host.name))),
    }
}

fn gone(name: &str) -> Fault {
    Fault::new("usage.unknown_host", format!("the host {name:?} was removed meanwhile"))
        .hint("`ceso host list` lists the hosts")
}

/// Works on `hosts.yaml` alone where the rest of the configuration is broken: this is one way to mend it.
fn remove(name: &str, context: &Context) -> Result<(), Fault> {
    let home = &context.sources().home;
    let known = registry::read_hosts(home)?;
    let Some(entry) = known.get(name) else {
        let config = context.config()?;
        let host = config.host(name)?;
        return kept_here(&config, &host).and(Err(gone(name)));
    };
    match context.config() {
        Ok(config) => note(context, &config, "host remove", name, json!({ "url": entry.url.to_string() }))?,
        Err(fault) => context.say(&format!("warning: the removal is not recorded: {fault}"))?,
    }
    if let Ok(config) = context.config()
        && let Ok(host) = config.host(name)
        && let Err(fault) = end_session(context, &config, &host)
    {
        context.say(&format!("the session on {name} could not be ended, and ends by itself: {fault}"))?;
    }
    registry::update(home, |hosts| hosts.remove(name).map(drop).ok_or_else(|| gone(name)))?;
    if let Err(error) = Catalog::new(home.catalog()).forget_probe(name) {
        context.say(&format!("warning: what was probed of {name} is still known: {}", Fault::from(error)))?;
    }
    if let Some(file) = entry.password_file.as_deref().filter(|file| file.parent() == Some(&home.passwords())) {
        files::remove(file)?;
    }
    if entry.password_file.is_none()
        && entry.password_env.is_none()
        && let Err(fault) = secrets::keyring_forget(&secrets::account(entry.username.as_deref(), &entry.url))
    {
        context.say(&format!("the keyring may still hold the password of {name}: {fault}"))?;
    }
    context.say(&format!("removed the host {name}"))
}

/// Whether there was a session.
fn end_session(context: &Context, config: &Arc<Config>, host: &HostConfig) -> Result<bool, Fault> {
    if host.session_file.symlink_metadata().is_err() {
        return Ok(false);
    }
    let ended = context.block_on(connect::logout(config, host))?;
    // Whatever the host said, the session is of no more use here.
    files::remove(&host.session_file)?;
    ended
}

fn logout(name: &str, context: &Context) -> Result<(), Fault> {
    let config = context.config()?;
    let host = config.host(name)?;
    note(context, &config, "host logout", name, json!({}))?;
    match end_session(context, &config, &host) {
        Ok(true) => context.say(&format!("logged out of {name}")),
        Ok(false) => context.say(&format!("there was no session on {name}")),
        Err(fault) => Err(fault),
    }
}

/// Passes the door like any script in restricted mode: connect, then the host's facts.
fn check(matches: &ArgMatches, context: &Context) -> Result<(), Fault> {
    // The person names the host to be logged in to, as --host does.
    let sources = context.sources().clone().host(Some(name_of(matches).to_owned()));
    let config = Arc::new(Config::load(sources)?);
    let hosts = Configured::new(config.clone());
    let facts = Passing::restricted(context, &config, "host check", hosts)?.run(facts)?;
    for (key, warning) in [
        ("managed_by", "a vCenter manages this host, and may undo what is changed here"),
        ("lockdown", "this host is in lockdown mode and refuses direct logins of most accounts"),
    ] {
        if let Some(value) = facts.get(key).and_then(Value::as_str) {
            context.say(&format!("warning: {warning} ({value})"))?;
        }
    }
    if facts.get("licence_restricted") == Some(&Value::Bool(true)) {
        context.say("warning: the licence of this host is the free one, which allows reads only")?;
    }
    context.print(matches, &facts)
}

/// What a host answers when it is logged in to: its product and version.
pub fn product(context: &Context, name: &str) -> Result<String, Fault> {
    let config = Arc::new(Config::load(context.sources().clone().host(Some(name.to_owned())))?);
    let hosts = Configured::new(config.clone());
    let facts = Passing::restricted(context, &config, "status --check", hosts)?.quiet().run(facts)?;
    Ok(facts.get("product").and_then(Value::as_str).unwrap_or("it answers").to_owned())
}

async fn facts(calls: &Calls<'_>) -> Result<Value, Fault> {
    let host = calls.call::<ops::host::Connect>(json!({})).await?;
    calls.method::<ops::host::Facts>(("host", host), json!({})).await.map(|facts| facts.to_json())
}
