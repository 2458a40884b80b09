//! What a host starts by itself when it comes up, and in which order; and so the order in which its machines are shut down.
//!
//! Hosts write the words for actions with capitals and without: they are read in any case, and told in one. The host keeps the places
//! apart: a machine that takes another's place pushes it, and those behind it, one further.
//! Specification: vSphere Web Services API, `HostAutoStartManager`, `AutoStartPowerInfo`, `AutoStartDefaults`.

use std::time::Duration;

use crate::xml::Element;

use super::checked::Checked;
use super::error::Error;
use super::host::Host;
use super::lookup::unescape;
use super::moref::MoRef;
use super::object::{HostObject, Vm};
use super::places::Reach;
use super::property::{Query, boolean};
use super::soap::{Call, Method};
use super::vm_list::{Detail, PowerState, text};

const MANAGER: &str = "configManager.autoStartManager";

/// What a host does with a machine when it goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopAction {
    /// As the host's own default says.
    SystemDefault,
    /// The guest is asked.
    GuestShutdown,
    PowerOff,
    Suspend,
    None,
}

impl StopAction {
    const ALL: [Self; 5] = [Self::SystemDefault, Self::GuestShutdown, Self::PowerOff, Self::Suspend, Self::None];

    /// The host's word: `systemDefault`, `guestShutdown`, `powerOff`, `suspend`, `none`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SystemDefault => "systemDefault",
            Self::GuestShutdown => "guestShutdown",
            Self::PowerOff => "powerOff",
            Self::Suspend => "suspend",
            Self::None => "none",
        }
    }

    fn read(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.as_str().eq_ignore_ascii_case(word.trim()))
    }
}

/// What the host starts and stops by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Autostart {
    /// Whether it does so at all.
    pub enabled: bool,
    pub start_delay: Duration,
    pub stop_delay: Duration,
    /// Whether the next machine is started once this one's guest shows that it is alive.
    pub wait_for_heartbeat: bool,
    pub stop_action: StopAction,
    /// The machines that take part: those with a place in their order, then the others.
    pub machines: Vec<AutostartRow>,
}

/// One machine that takes part; what is `None` is as the host's own default says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AutostartRow {
    pub name: String,
    pub setting: AutostartSetting,
    moref: MoRef,
}

/// How a machine takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AutostartSetting {
    pub start: bool,
    /// Its place in the order of starting, from 1; `None`: at any time, after those that have one.
    pub order: Option<u32>,
    pub start_delay: Option<Duration>,
    pub wait_for_heartbeat: Option<bool>,
    pub stop_action: StopAction,
    pub stop_delay: Option<Duration>,
}

impl AutostartSetting {
    /// A machine that is started with the host, in no order, and for the rest as the host's own defaults say.
    pub const STARTED: Self = Self {
        start: true,
        order: None,
        start_delay: None,
        wait_for_heartbeat: None,
        stop_action: StopAction::SystemDefault,
        stop_delay: None,
    };
    /// One that takes no part.
    pub const LEFT_ALONE: Self = Self { start: false, stop_action: StopAction::None, ..Self::STARTED };
}

/// What is to be changed of the host's own defaults; `None` leaves a thing as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AutostartDefaults {
    pub enabled: Option<bool>,
    pub start_delay: Option<Duration>,
    pub stop_delay: Option<Duration>,
    pub wait_for_heartbeat: Option<bool>,
    pub stop_action: Option<StopAction>,
}

/// A running machine, where it stands in the order of a shutdown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShutdownRow {
    pub name: String,
    /// Its place in the order of starting; none where the host starts it in no order, or not at all.
    pub start_order: Option<u32>,
    /// What the host would do with it by itself; none where it takes no part.
    pub action: Option<StopAction>,
    /// Whether VMware's tools run in its guest, so that it can be asked.
    pub tools: bool,
}

impl Autostart {
    /// How a machine takes part; `None` where it does not.
    pub fn of(&self, vm: &Vm) -> Option<&AutostartSetting> {
        self.machines.iter().find(|row| row.moref == vm.moref).map(|row| &row.setting)
    }

    /// How many machines but this one have a place in the order.
    pub fn placed_beside(&self, vm: &Vm) -> usize {
        self.machines.iter().filter(|row| row.moref != vm.moref && row.setting.order.is_some()).count()
    }
}

impl Host {
    /// What the host starts and stops by itself. Errors: `esxi.invalid_argument` where it has no such manager.
    pub async fn autostart(&self, host: &Checked<HostObject>) -> Result<Autostart, Error> {
        let manager = self.manager(MANAGER).await?;
        self.read_autostart(host, &manager).await
    }

    async fn read_autostart(&self, _host: &Checked<HostObject>, manager: &MoRef) -> Result<Autostart, Error> {
        let mut query = self.link.everything(&[Reach::Vms], vec![("VirtualMachine", vec!["name"])]);
        let own = Query::object(manager, "HostAutoStartManager", &["config"]);
        query.properties.extend(own.properties);
        query.from.extend(own.from);
        let objects = self.link.retrieve(&query).await?;
        let config = objects.iter().find(|object| object.moref == *manager).and_then(|object| object.get("config"));
        let name = |vm: &MoRef| {
            let found = objects.iter().find(|object| object.moref == *vm);
            found.map(|object| unescape(&object.string("name")))
        };
        Ok(config.map_or_else(|| read(&Element::default(), &name), |config| read(config, &name)))
    }

    /// Whether the host starts a machine by itself, or will once it starts any.
    pub(super) async fn starts_by_itself(&self, vm: &Vm) -> Result<bool, Error> {
        let Some(manager) = self.system(&[MANAGER]).await?.reference(MANAGER) else { return Ok(false) };
        let objects = self.link.retrieve(&Query::object(&manager, "HostAutoStartManager", &["config"])).await?;
        let config = objects.iter().find_map(|object| object.get("config"));
        let known = config.map(|config| read(config, &|_| Some(String::new())));
        let machines = known.iter().flat_map(|known| &known.machines);
        Ok(machines.filter(|row| row.moref == vm.moref).any(|row| row.setting.start))
    }

    /// Changes the host's own defaults. Where nothing is to be changed nothing is sent.
    pub async fn set_autostart_defaults(
        &self,
        _host: &Checked<HostObject>,
        wanted: &AutostartDefaults,
    ) -> Result<(), Error> {
        if *wanted == AutostartDefaults::default() {
            return Ok(());
        }
        let seconds = |delay: Duration| delay.as_secs().min(i32::MAX as u64).to_string();
        let fields = [
            ("enabled", wanted.enabled.map(|on| on.to_string())),
            ("startDelay", wanted.start_delay.map(seconds)),
            ("stopDelay", wanted.stop_delay.map(seconds)),
            ("waitForHeartbeat", wanted.wait_for_heartbeat.map(|on| on.to_string())),
            ("stopAction", wanted.stop_action.map(|action| action.as_str().to_owned())),
        ];
        let leaves = fields.into_iter().filter_map(|(name, text)| Some(Element::leaf(name, text?)));
        self.reconfigure_autostart(Element::new("defaults").with_all(leaves)).await
    }

    /// Changes how a machine takes part; one that is neither started nor stopped takes none.
    ///
    /// Errors: `esxi.invalid_argument` for a place beyond the end of the order.
    pub async fn set_autostart(&self, vm: &Checked<Vm>, wanted: &AutostartSetting) -> Result<(), Error> {
        let seconds = |delay: Option<Duration>| match delay {
            Some(delay) => delay.as_secs().min(i32::MAX as u64).to_string(),
            None => "-1".to_owned(),
        };
        let heartbeat = match wanted.wait_for_heartbeat {
            Some(true) => "yes",
            Some(false) => "no",
            None => "systemDefault",
        };
        // What is not started has no place.
        let order = wanted.order.filter(|_| wanted.start).map_or_else(|| "-1".to_owned(), |order| order.to_string());
        let info = Element::new("powerInfo")
            .with(vm.moref.element("key"))
            .with(Element::leaf("startOrder", order))
            .with(Element::leaf("startDelay", seconds(wanted.start_delay)))
            .with(Element::leaf("waitForHeartbeat", heartbeat))
            .with(Element::leaf("startAction", if wanted.start { "powerOn" } else { "none" }))
            .with(Element::leaf("stopDelay", seconds(wanted.stop_delay)))
            .with(Element::leaf("stopAction", wanted.stop_action.as_str()));
        let done = self.reconfigure_autostart(info).await;
        done.map_err(|error| error.doing(format!("set how {:?} starts with its host", vm.name)))
    }

    async fn reconfigure_autostart(&self, inside: Element) -> Result<(), Error> {
        let manager = self.manager(MANAGER).await?;
        let call = Call::new(&manager, Method::ReconfigureAutostart).with(Element::new("spec").with(inside));
        self.link.call(&call).await.map(|_| ())
    }

    /// The running machines, the first to be shut down first: those without a place, then the reverse of the order of starting.
    pub async fn shutdown_order(&self, host: &Checked<HostObject>) -> Result<Vec<ShutdownRow>, Error> {
        let rows = self.list_vms(host, Detail::Full).await?;
        let autostart = match self.system(&[MANAGER]).await?.reference(MANAGER) {
            None => None,
            Some(manager) => Some(self.read_autostart(host, &manager).await?),
        };
        let running = rows.into_iter().filter(|row| row.power == PowerState::On);
        let running = running.map(|row| {
            let tools = matches!(row.tools.as_deref(), Some("guestToolsRunning" | "guestToolsExecutingScripts"));
            (row.vm, tools)
        });
        Ok(ordered(running, autostart.as_ref()))
    }
}

fn read(config: &Element, name: &dyn Fn(&MoRef) -> Option<String>) -> Autostart {
    let delay = |element: &Element, path: &str| {
        let seconds = element.text_at(path).and_then(|text| text.trim().parse::<i64>().ok());
        seconds.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs)
    };
    let flag = |path: &str| config.text_at(path).and_then(boolean).unwrap_or(false);
    let action = |element: &Element, path: &str| text(element, path).and_then(|word| StopAction::read(&word));
    let row = |info: &Element| {
        let moref = info.child("key").and_then(MoRef::read)?;
        let order = text(info, "startOrder").and_then(|order| order.parse::<u32>().ok()).filter(|order| *order > 0);
        let setting = AutostartSetting {
            start: text(info, "startAction").is_some_and(|word| word.eq_ignore_ascii_case("powerOn")),
            order,
            start_delay: delay(info, "startDelay"),
            wait_for_heartbeat: match text(info, "waitForHeartbeat").as_deref() {
                Some("yes") => Some(true),
                Some("no") => Some(false),
                _ => None,
            },
            stop_action: action(info, "stopAction").unwrap_or(StopAction::SystemDefault),
            stop_delay: delay(info, "stopDelay"),
        };
        // An entry of a machine that is gone, or that may not be seen, says nothing.
        Some(AutostartRow { name: name(&moref)?, setting, moref })
    };
    let mut machines: Vec<AutostartRow> = config.all("powerInfo").filter_map(row).collect();
    machines.sort_by(|a, b| {
        let place = |row: &AutostartRow| row.setting.order.map_or((1, 0), |order| (0, order));
        place(a).cmp(&place(b)).then_with(|| a.name.cmp(&b.name))
    });
    Autostart {
        enabled: flag("defaults.enabled"),
        start_delay: delay(config, "defaults.startDelay").unwrap_or_default(),
        stop_delay: delay(config, "defaults.stopDelay").unwrap_or_default(),
        wait_for_heartbeat: flag("defaults.waitForHeartbeat"),
        stop_action: action(config, "defaults.stopAction").unwrap_or(StopAction::PowerOff),
        machines,
    }
}

fn ordered(running: impl Iterator<Item = (Vm, bool)>, autostart: Option<&Autostart>) -> Vec<ShutdownRow> {
    let mut running: Vec<ShutdownRow> = running
        .map(|(vm, tools)| {
            let setting = autostart.and_then(|autostart| autostart.of(&vm));
            let action = setting.map(|setting| match (setting.stop_action, autostart) {
                (StopAction::SystemDefault, Some(autostart)) => autostart.stop_action,
                (action, _) => action,
            });
            ShutdownRow { name: vm.name, start_order: setting.and_then(|setting| setting.order), action, tools }
        })
        .collect();
    running.sort_by(|a, b| {
        let place = |row: &ShutdownRow| row.start_order.map_or((0, 0), |order| (1, -i64::from(order)));
        place(a).cmp(&place(b)).then_with(|| a.name.cmp(&b.name))
    });
    running
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xml::{Limits, parse};

    fn vm(name: &str) -> Vm {
        let moref = MoRef::new("VirtualMachine", name);
        let (instance_uuid, path) = (name.to_owned(), String::new());
        Vm { moref, name: name.to_owned(), instance_uuid, path, datastores: Vec::new(), place: None }
    }

    fn config() -> Autostart {
        let info = |name: &str, order: &str, stop: &str| {
            format!(
                "<powerInfo><key type=\"VirtualMachine\">{name}</key><startOrder>{order}</startOrder><startDelay>-1</startDelay>\
                 <waitForHeartbeat>yes</waitForHeartbeat><startAction>PowerOn</startAction><stopDelay>30</stopDelay>\
                 <stopAction>{stop}</stopAction></powerInfo>"
            )
        };
        let text = format!(
            "<val><defaults><enabled>true</enabled><startDelay>120</startDelay><stopAction>GuestShutdown</stopAction></defaults>{}{}{}{}</val>",
            info("web", "2", "Suspend"),
            info("database", "1", "SystemDefault"),
            info("any", "-1", "rubbish"),
            info("gone", "99999999999", "none"),
        );
        let parsed = parse(text.as_bytes(), Limits::default()).unwrap();
        read(&parsed, &|vm| (vm.id != "gone").then(|| vm.id.clone()))
    }

    #[test]
    fn what_starts_first_is_shut_down_last() {
        let autostart = config();
        let rows = ordered(
            ["database", "web", "free", "any"].map(|name| (vm(name), name != "free")).into_iter(),
            Some(&autostart),
        );
        let names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(names, ["any", "free", "web", "database"]);
        let actions: Vec<Option<StopAction>> = rows.iter().map(|row| row.action).collect();
        let (suspend, shutdown) = (Some(StopAction::Suspend), Some(StopAction::GuestShutdown));
        assert_eq!(actions, [shutdown, None, suspend, shutdown]);
        let tools: Vec<bool> = rows.iter().map(|row| row.tools).collect();
        assert_eq!(tools, [true, false, true, true]);
        assert_eq!(ordered([(vm("a"), true)].into_iter(), None)[0].action, None);
    }

    #[test]
    fn words_of_hosts_are_read_in_any_case_and_machines_that_are_gone_left_out() {
        let autostart = config();
        assert!(autostart.enabled && autostart.stop_action == StopAction::GuestShutdown);
        assert_eq!((autostart.start_delay.as_secs(), autostart.stop_delay.as_secs()), (120, 0));
        let told: Vec<(&str, Option<u32>)> =
            autostart.machines.iter().map(|row| (row.name.as_str(), row.setting.order)).collect();
        assert_eq!(told, [("database", Some(1)), ("web", Some(2)), ("any", None)]);
        let web = autostart.of(&vm("web")).unwrap();
        assert_eq!((web.start, web.start_delay, web.wait_for_heartbeat), (true, None, Some(true)));
        assert_eq!(web.stop_delay, Some(Duration::from_secs(30)));
        assert_eq!(autostart.placed_beside(&vm("web")), 1);
    }
}
