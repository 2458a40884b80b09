//! `ceso sim`: the simulator as a server of its own, for other clients.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::context::Context;
use crate::error::Fault;
use crate::inventory::{self, Inventory};
use crate::sim::{Hindrances, Options, Server, read_fault};
use crate::units::{Bytes, Span};

pub fn command() -> Command {
    Command::new("sim")
        .about("Run the simulator of an ESXi host as a server; prints its URL and fingerprint as one JSON line")
        .arg(
            Arg::new("listen")
                .long("listen")
                .value_name("ADDRESS")
                .value_parser(value_parser!(SocketAddr))
                .default_value("127.0.0.1:0")
                .help("Address and port to listen on; port 0 takes a free one"),
        )
        .arg(Arg::new("username").long("username").value_name("USER").default_value("root").help("Who may log in"))
        .arg(
            Arg::new("password")
                .long("password")
                .value_name("PASSWORD")
                .help("The simulator's password: it guards nothing real [default: made up anew, and printed]"),
        )
        .arg(
            Arg::new("vms")
                .long("vms")
                .value_name("N")
                .value_parser(value_parser!(usize))
                .default_value("0")
                .help("Machines that are there at the start, beside the template"),
        )
        .arg(
            Arg::new("from")
                .long("from")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("Begin with the inventory of another host, as `ceso host inventory save` wrote it; its disks on datastore1 have their sizes and a system that boots, and nothing else on them"),
        )
        .arg(
            Arg::new("state")
                .long("state")
                .value_name("DIR")
                .value_parser(value_parser!(PathBuf))
                .help("Where its state and files are kept; without it they end with the process"),
        )
        .arg(
            Arg::new("boot")
                .long("boot")
                .value_name("TIME")
                .value_parser(|text: &str| text.parse::<Span>())
                .help("How long a guest takes to boot [default: 50 ms]"),
        )
        .arg(
            Arg::new("task-delay")
                .long("task-delay")
                .value_name("TIME")
                .value_parser(|text: &str| text.parse::<Span>())
                .help("How long each task takes at least [default: 0 s]"),
        )
        .arg(
            Arg::new("guest-writes")
                .long("guest-writes")
                .value_name("TIME")
                .value_parser(|text: &str| text.parse::<Span>())
                .help("How often running guests write to their disks [default: when they boot, and then no more]"),
        )
        .arg(
            Arg::new("idle")
                .long("idle")
                .value_name("TIME")
                .value_parser(|text: &str| text.parse::<Span>())
                .help("After how long an unused session ends [default: 30 min]"),
        )
        .arg(
            Arg::new("capacity")
                .long("capacity")
                .value_name("SIZE")
                .value_parser(|text: &str| text.parse::<Bytes>())
                .help("How large its datastore is [default: the file system that it lies on]"),
        )
        .arg(
            Arg::new("lease")
                .long("lease")
                .value_name("TIME")
                .value_parser(|text: &str| text.parse::<Span>())
                .help("How long a lease lives that is not renewed [default: 5 min]"),
        )
        .arg(
            Arg::new("no-ranges")
                .long("no-ranges")
                .action(ArgAction::SetTrue)
                .help("Heed no Range of a download, as some hosts do not"),
        )
        .arg(
            Arg::new("free-licence")
                .long("free-licence")
                .action(ArgAction::SetTrue)
                .help("Run on the free licence, which refuses every change"),
        )
        .arg(
            Arg::new("lacks")
                .long("lacks")
                .value_name("PRIVILEGE")
                .action(ArgAction::Append)
                .help("What the account may not do, such as VirtualMachine.Interact.PowerOn; may be repeated"),
        )
        .arg(Arg::new("lockdown").long("lockdown").action(ArgAction::SetTrue).help("Be in lockdown mode"))
        .arg(
            Arg::new("managed-by")
                .long("managed-by")
                .value_name("ADDRESS")
                .help("Say that the vCenter at this address manages the host"),
        )
        .arg(
            Arg::new("seed")
                .long("seed")
                .value_name("N")
                .value_parser(value_parser!(u64))
                .help("What decides by chance which requests a fault catches: the same seed, the same run [default: 1]"),
        )
        .arg(
            Arg::new("fault")
                .long("fault")
                .value_name("METHOD:FAULT[:TIMES][:after=N][:chance=P]")
                .action(ArgAction::Append)
                .help(
                    "Have a method (or * for all) fail: with a fault of the API, 503, drop, drop-answer, expire, leave-delta, delay=2s, late=2s, fill[=BYTES], partition[=2s], restart[=2s] or restart-after[=2s], a transfer with cut=BYTES, no-ranges or page, a task of a machine with ask=moved, ask=space or ask=door, QueryChangedDiskAreas with lie=missing, lie=everything or lie=unknown; may be repeated. A running one takes the same lines at /simulator/faults",
                ),
        )
}

/// Reads a file that a person named; one that is too large is not read on.
fn read_inventory(path: &Path) -> Result<Inventory, Fault> {
    let failed = |error: std::io::Error| {
        Fault::new("sim.inventory", format!("{} cannot be read: {error}", path.display()))
            .hint("name a file that ceso host inventory save wrote")
    };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(inventory::LARGEST + 1).read_to_end(&mut bytes).map_err(failed)?;
    Inventory::read(&bytes)
}

pub fn run(matches: &ArgMatches, context: &Context) -> Result<ExitCode, Fault> {
    let mut options = Options { boot_delay: Duration::from_millis(50), ..Options::default() };
    if let Some(listen) = matches.get_one::<SocketAddr>("listen") {
        options.listen = *listen;
    }
    if let Some(username) = matches.get_one::<String>("username") {
        options.username.clone_from(username);
    }
    let password = match matches.get_one::<String>("password") {
        Some(password) => password.clone(),
        None => uuid::Uuid::new_v4().simple().to_string(),
    };
    options.password = password.clone().into();
    options.vms = matches.get_one::<usize>("vms").copied().unwrap_or_default();
    options.state = matches.get_one::<PathBuf>("state").cloned();
    if let Some(boot) = matches.get_one::<Span>("boot") {
        options.boot_delay = boot.0;
    }
    if let Some(delay) = matches.get_one::<Span>("task-delay") {
        options.task_delay = delay.0;
    }
    options.guest_writes = matches.get_one::<Span>("guest-writes").map(|every| every.0);
    if let Some(idle) = matches.get_one::<Span>("idle") {
        options.idle_timeout = idle.0;
    }
    options.capacity = matches.get_one::<Bytes>("capacity").map(|size| size.0);
    if let Some(lease) = matches.get_one::<Span>("lease") {
        options.lease_timeout = lease.0;
    }
    options.ranges = !matches.get_flag("no-ranges");
    options.hindrances = Hindrances {
        free_licence: matches.get_flag("free-licence"),
        lockdown: matches.get_flag("lockdown"),
        managed_by: matches.get_one::<String>("managed-by").cloned(),
        lacks: matches.get_many::<String>("lacks").unwrap_or_default().cloned().collect(),
    };
    options.seed = matches.get_one::<u64>("seed").copied().unwrap_or(options.seed);
    if let Some(file) = matches.get_one::<PathBuf>("from") {
        options.inventory = Some(read_inventory(&context.sources().current_dir.join(file))?);
    }
    let faults = matches.get_many::<String>("fault").unwrap_or_default();
    let faults = faults.map(|text| read_fault(text)).collect::<Result<Vec<_>, _>>()?;
    let made_up = matches.get_one::<String>("password").is_none();
    let username = options.username.clone();
    context.block_on(async move {
        let server = Server::start(options).await?;
        for rule in faults {
            server.fault(rule)?;
        }
        let mut ready = serde_json::json!({
            "simulator": true,
            "url": server.url(),
            "fingerprint": server.fingerprint(),
            "username": username,
            "pid": std::process::id(),
        });
        if made_up {
            ready["password"] = password.into();
        }
        let failed = |error: std::io::Error| Fault::new("sim.output", format!("its address was not told: {error}"));
        {
            let mut out = std::io::stdout().lock();
            writeln!(out, "{ready}").and_then(|()| out.flush()).map_err(failed)?;
        }
        until_stopped().await?;
        server.stop().await;
        Ok(ExitCode::SUCCESS)
    })?
}

/// Waits for Ctrl-C or a request to end.
async fn until_stopped() -> Result<(), Fault> {
    use tokio::signal::unix::{SignalKind, signal};
    let failed = |error: std::io::Error| Fault::new("sim.signal", format!("signals cannot be awaited: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
