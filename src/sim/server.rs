//! The simulator as a library: its options, its start and its stop.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::esx::logs::Log;
use super::faults::{Faults, Rule, Tally};
use super::hindrance::Hindrances;
use super::http;
use super::stage::{Called, Calls};
use super::state::Store;
use super::world::World;
use crate::error::Fault;

/// How a simulator is started. `Options::default()` listens on a free loopback port for `root`/`ceso`.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen. Default: loopback, a free port.
    pub listen: SocketAddr,
    pub username: String,
    pub password: SecretString,
    /// How many numbered machines (`vm-0001` …) there are beside the template. Default 0.
    pub vms: usize,
    /// The folder of the state. Default: none, everything is gone at the end.
    pub state: Option<PathBuf>,
    /// From power-on until the guest's tools run. Default 50 ms.
    pub boot_delay: Duration,
    /// How often running guests write to their disks, beside the record that each boot writes. Default: never.
    pub guest_writes: Option<Duration>,
    /// How long each task runs at least. Default: none.
    pub task_delay: Duration,
    /// How long a session may rest. Default 30 minutes.
    pub idle_timeout: Duration,
    /// How many sessions may be open; further logins meet HTTP 503. Default 200.
    pub max_sessions: usize,
    /// The most objects in one page of `RetrievePropertiesEx`, whatever the client asks for. Default: no cap of the host's own.
    pub page_size: Option<usize>,
    /// The most objects in one answer of `WaitForUpdatesEx`. Default: no cap of the host's own.
    pub update_size: Option<usize>,
    /// Whether `/folder` answers Range with 206, as some hosts do and others do not. Default true.
    pub ranges: bool,
    /// Whether `/folder` says when a file was changed (Last-Modified), as some hosts do and others do not. Default false: the datastore's
    /// browser says it.
    pub dates: bool,
    /// How large the datastore is. Default: as large as the file system that its folder is on.
    pub capacity: Option<u64>,
    /// How long a lease lives without a word from its client. Default 300 s.
    pub lease_timeout: Duration,
    /// The seed of what happens by chance: the faults that were asked for with a chance.
    pub seed: u64,
    /// What it begins with in place of the template: another host's inventory. Its state folder must be new.
    pub inventory: Option<crate::inventory::Inventory>,
    /// What stands in the way of changes. Default: nothing.
    pub hindrances: Hindrances,
    /// How long to wait for another process that holds the state folder. Default 10 s.
    pub patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            username: "root".to_owned(),
            password: SecretString::from("ceso"),
            vms: 0,
            state: None,
            boot_delay: Duration::from_millis(50),
            guest_writes: None,
            task_delay: Duration::ZERO,
            idle_timeout: Duration::from_secs(1800),
            max_sessions: 200,
            page_size: None,
            update_size: None,
            ranges: true,
            dates: false,
            capacity: None,
            lease_timeout: Duration::from_secs(300),
            seed: 1,
            inventory: None,
            hindrances: Hindrances::default(),
            patience: Duration::from_secs(10),
        }
    }
}

/// What all connections share.
#[derive(Debug)]
pub struct Host {
    world: Mutex<World>,
    /// Rises with every change that a waiting client may want to see.
    pub ticks: watch::Sender<u64>,
    pub requests: Mutex<BTreeMap<String, u64>>,
    /// How many connections were taken since the start.
    pub connections: AtomicU64,
    pub faults: Faults,
    pub calls: Calls,
    /// The host's own log.
    pub log: Log,
    /// Rises whenever all connections are cut.
    pub cuts: watch::Sender<u64>,
    /// Until when nobody is answered.
    away: Mutex<Option<Instant>>,
    pub options: Options,
    /// The host was shut down: it takes connections and answers nobody.
    pub down: AtomicBool,
    /// The host's address as clients reach it, for links that it hands out.
    pub authority: String,
    /// How the next connection is met: with the certificate that is shown.
    tls: Mutex<Arc<rustls::ServerConfig>>,
}

impl Host {
    /// The inventory, for as long as no `await` comes between. Whoever changed something calls [`Host::announce`] after.
    pub fn world(&self) -> MutexGuard<'_, World> {
        // A panic in one request must not take the others down; the world is changed by whole values.
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the clients that wait for a change.
    pub fn announce(&self, tick: u64) {
        self.ticks.send_if_modified(|seen| {
            let newer = tick > *seen;
            *seen = tick.max(*seen);
            newer
        });
    }

    /// Ends every session; returns how many there were.
    pub fn expire_sessions(&self) -> usize {
        let mut world = self.world();
        let gone = world.sessions.clear();
        gone.iter().for_each(|key| world.end_session(key));
        gone.len()
    }

    /// Cuts all connections, and answers nobody for so long.
    pub fn cut_off(&self, away: Duration) {
        *self.away.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + away);
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Whether nobody is answered now.
    pub fn is_away(&self) -> bool {
        self.away.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|until| Instant::now() < until)
    }

    /// Starts the agent anew: what it knew of sessions, tasks and leases is gone, and machines and files stay as they are. The work of
    /// tasks goes on to its end where `finishes` says so, else it stops where it is.
    pub fn restart(&self, away: Duration, finishes: bool) {
        {
            let mut world = self.world();
            let world = &mut *world;
            for key in world.sessions.clear() {
                world.end_session(&key);
            }
            super::lease::forget(world);
            super::task::forget(world, finishes);
            self.announce(world.tick());
        }
        self.cut_off(away);
    }

    /// Has somebody fill the datastore, but for so many bytes.
    pub fn fill(&self, left: u64) {
        let mut world = self.world();
        world.datastore.fill(left);
        world.touch(&super::datastore::OBJECT);
        self.announce(world.tick());
    }

    /// The same by a fault, which is over when the faults are.
    pub fn fill_for_now(&self, left: u64) {
        let mut world = self.world();
        world.datastore.fill_for_now(left);
        world.touch(&super::datastore::OBJECT);
        self.announce(world.tick());
    }

    /// Has nothing go wrong any more.
    pub fn clear_faults(&self) {
        self.faults.clear();
        let mut world = self.world();
        world.datastore.unfill();
        world.touch(&super::datastore::OBJECT);
        self.announce(world.tick());
    }

    /// Meets connections with another certificate from now on.
    pub fn show(&self, tls: Arc<rustls::ServerConfig>) {
        *self.tls.lock().unwrap_or_else(PoisonError::into_inner) = tls;
    }

    /// How the next connection is met.
    pub fn tls(&self) -> Arc<rustls::ServerConfig> {
        Arc::clone(&self.tls.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn count(&self, request: &str) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        // The names come from clients: a bound keeps a hostile one from filling the memory.
        if requests.len() < 1000 || requests.contains_key(request) {
            *requests.entry(request.to_owned()).or_default() += 1;
        }
    }
}

/// A running simulator. Dropping it ends it without ceremony; [`Server::stop`] ends it in order.
#[derive(Debug)]
pub struct Server {
    host: Arc<Host>,
    address: SocketAddr,
    fingerprint: String,
    stop: watch::Sender<bool>,
    listener: Option<tokio::task::JoinHandle<()>>,
}

impl Server {
    /// Starts a simulator; it answers as soon as this returns.
    ///
    /// Errors: `sim.busy` (another process holds the state folder), `sim.state` (a file there is damaged; the message has its path),
    /// `sim.listen` (the address cannot be listened on).
    pub async fn start(options: Options) -> Result<Self, Fault> {
        let store = Store::open(options.state.as_deref(), options.patience).await?;
        let listener = TcpListener::bind(options.listen).await.map_err(|error| refuse(options.listen, error))?;
        let address = listener.local_addr().map_err(|error| refuse(options.listen, error))?;
        let (ticks, _) = watch::channel(0);
        let (stop, stopped) = watch::channel(false);
        let world = World::load(store, &options)?;
        let fingerprint = world.certificate.fingerprint();
        let tls = world.certificate.tls().map_err(|why| Fault::new("sim.certificate", why))?;
        let host = Arc::new(Host {
            world: Mutex::new(world),
            ticks,
            requests: Mutex::default(),
            connections: AtomicU64::new(0),
            faults: Faults::new(options.seed),
            calls: Calls::default(),
            log: Log::default(),
            cuts: watch::channel(0).0,
            away: Mutex::new(None),
            options,
            down: AtomicBool::new(false),
            authority: address.to_string(),
            tls: Mutex::new(tls),
        });
        super::guest::resume(&host);
        super::esx::autostart::booted(&host);
        if let Some(every) = host.options.guest_writes.filter(|every| !every.is_zero()) {
            super::guest::writes::again(&host, every);
        }
        let accepting = http::accept(listener, Arc::clone(&host), stopped);
        let listener = Some(tokio::spawn(accepting));
        Ok(Self { host, address, fingerprint, stop, listener })
    }

    /// Where clients connect: `https://127.0.0.1:PORT`. The API is at `/sdk` below it.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The SHA-256 of the certificate that it was started with: 32 upper-case hexadecimal bytes with colons between.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// How often each method was called since the start. File transfers count as `GET folder`, `PUT folder` and so on.
    pub fn requests(&self) -> BTreeMap<String, u64> {
        self.host.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many connections were taken since the start.
    pub fn connections(&self) -> u64 {
        self.host.connections.load(Ordering::Relaxed)
    }

    /// The newest calls, oldest first: each method with the object that it was called on.
    pub fn calls(&self) -> Vec<Called> {
        self.host.calls.all()
    }

    /// Has requests go wrong from now on. Faults: `sim.fault` for what the API does not have.
    pub fn fault(&self, rule: Rule) -> Result<(), Fault> {
        self.host.faults.add(rule)
    }

    /// The rules in their order, with how often each came up.
    pub fn faults(&self) -> Vec<Tally> {
        self.host.faults.tally()
    }

    /// Cuts all connections, and answers nobody for so long: what a failure of the network looks like.
    pub fn partition(&self, away: Duration) {
        self.host.cut_off(away);
    }

    /// Starts the host's agent anew: sessions, tasks and leases are forgotten, and nobody is answered for so long. The work of tasks
    /// under way goes on where `finishes` says so, else it stops where it is.
    pub fn restart(&self, away: Duration, finishes: bool) {
        self.host.restart(away, finishes);
    }

    /// Has somebody fill the datastore, but for so many bytes; [`Server::set_capacity`] undoes it.
    pub fn fill(&self, left: u64) {
        self.host.fill(left);
    }

    /// Has nothing go wrong any more; what a fault filled the datastore with is gone.
    pub fn clear_faults(&self) {
        self.host.clear_faults();
    }

    /// Gives the datastore another size from now on; what is on it stays. `None`: that of the file system below.
    pub fn set_capacity(&self, capacity: Option<u64>) {
        let mut world = self.host.world();
        world.datastore.set_capacity(capacity);
        world.touch(&super::datastore::OBJECT);
        self.host.announce(world.tick());
    }

    pub(super) fn host(&self) -> &Arc<Host> {
        &self.host
    }

    /// How many sessions are logged in now.
    pub fn open_sessions(&self) -> usize {
        self.host.world().sessions.count()
    }

    /// Whether it was shut down by its API.
    pub fn is_down(&self) -> bool {
        self.host.down.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// How many logins succeeded since the start.
    pub fn logins(&self) -> u64 {
        self.host.world().sessions.logins
    }

    /// Ends every session, as an idle time-out or a restart of the host's agent does. Returns how many there were.
    pub fn expire_sessions(&self) -> usize {
        self.host.expire_sessions()
    }

    /// Ends the simulator: no new connections, a moment for requests under way, then the state folder is free for others.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        if let Some(listener) = self.listener.take() {
            // The task ends by itself; an error can only mean that it panicked, and then it has ended too.
            if let Err(error) = listener.await {
                tracing::warn!(%error, "the simulator's listener did not end in order");
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(listener) = &self.listener {
            listener.abort();
        }
    }
}

fn refuse(address: SocketAddr, error: std::io::Error) -> Fault {
    Fault::new("sim.listen", format!("the simulator cannot listen on {address}: {error}"))
        .hint("choose another address with --listen; port 0 takes a free one")
}
