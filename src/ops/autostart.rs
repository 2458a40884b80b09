//! Operations on what a host starts and stops by itself: told as a whole, set for the host and for each machine.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::host_change::ADMINISTERS;
use super::linked::refuse_with_clones;
use crate::door::Pass;
use crate::door::bind::{Binder, BoundHost, BoundVm};
use crate::door::object::{Target, kind};
use crate::door::operation::{Effect, Operation, Place, Selector, Touch, touch};
use crate::error::Fault;
use crate::esxi;
use crate::units::Span;

/// The longest a host waits between two machines.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Tells which machines the host starts by itself when it comes up, in which order, and what it does with them when it goes down.
///
/// Only machines that may be read are told. Errors: `esxi.invalid_argument` where the host has no autostart manager.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tell {
    /// The host.
    pub host: Target<kind::Host>,
}

/// What a host starts and stops by itself.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "HostAutostart")]
pub struct Autostart {
    /// Whether it does so at all.
    pub enabled: bool,
    /// How long it waits after starting a machine, before the next.
    pub start_delay: Span,
    /// How long it waits for a machine to stop, before the next.
    pub stop_delay: Span,
    /// Whether the next machine is started as soon as a guest shows that it is alive.
    pub wait_for_heartbeat: bool,
    /// What it does with a machine when it goes down.
    #[schemars(extend("enum" = ["guestShutdown", "powerOff", "suspend", "none"]))]
    pub stop_action: String,
    /// The machines that take part, in the order in which they are started.
    pub machines: Vec<AutostartRow>,
}

/// A machine that a host starts or stops by itself; what is nil is as the host's own default says.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "HostAutostartRow")]
pub struct AutostartRow {
    /// The machine's name.
    pub name: String,
    /// Whether it is started with the host.
    pub start: bool,
    /// Its place in the order of starting, from 1; nil for one that is started at any time, after the others.
    pub order: Option<u32>,
    /// How long the host waits after it, before the next.
    pub start_delay: Option<Span>,
    /// Whether the next is started as soon as its guest shows that it is alive.
    pub wait_for_heartbeat: Option<bool>,
    /// What the host does with it when it goes down.
    #[schemars(extend("enum" = ["systemDefault", "guestShutdown", "powerOff", "suspend", "none"]))]
    pub stop_action: String,
    /// How long the host waits for it to stop.
    pub stop_delay: Option<Span>,
}

fn row(name: String, setting: &esxi::AutostartSetting) -> AutostartRow {
    AutostartRow {
        name,
        start: setting.start,
        order: setting.order,
        start_delay: setting.start_delay.map(Span),
        wait_for_heartbeat: setting.wait_for_heartbeat,
        stop_action: setting.stop_action.as_str().to_owned(),
        stop_delay: setting.stop_delay.map(Span),
    }
}

impl Operation for Tell {
    const NAME: &'static str = "host.autostart";
    const EFFECT: Effect = Effect::Read;
    const PLACE: Place = Place::Method { kind: "host", name: "autostart" };
    const TOUCHES: &'static [Touch] =
        &[touch("host", "read", Selector::Argument("host")), touch("vm", "read", Selector::Filtered)];
    const USAGE: &'static str = "local starts = host:autostart()\nfor _, machine in starts.machines do\n  print(machine.order, machine.name)\nend";

    type Bound = BoundHost;
    type Output = Autostart;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundHost, Fault> {
        let bound = binder.host_for(&self.host, "read")?;
        binder.filtered("vm", "read")?;
        Ok(bound)
    }

    async fn act(self, bound: BoundHost, pass: &Pass<'_>) -> Result<Autostart, Fault> {
        let own = bound.host.client.autostart(&bound.system).await?;
        let readable = own.machines.into_iter().filter(|machine| pass.may_read("vm", &machine.name));
        Ok(Autostart {
            enabled: own.enabled,
            start_delay: Span(own.start_delay),
            stop_delay: Span(own.stop_delay),
            wait_for_heartbeat: own.wait_for_heartbeat,
            stop_action: own.stop_action.as_str().to_owned(),
            machines: readable.map(|machine| row(machine.name, &machine.setting)).collect(),
        })
    }
}

/// What a host does with a machine when it goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub enum StopAction {
    SystemDefault,
    GuestShutdown,
    PowerOff,
    Suspend,
    None,
}

impl From<StopAction> for esxi::StopAction {
    fn from(action: StopAction) -> Self {
        match action {
            StopAction::SystemDefault => Self::SystemDefault,
            StopAction::GuestShutdown => Self::GuestShutdown,
            StopAction::PowerOff => Self::PowerOff,
            StopAction::Suspend => Self::Suspend,
            StopAction::None => Self::None,
        }
    }
}

/// Delays are whole seconds, a day at most.
fn check_delay(argument: &str, delay: Option<&Span>) -> Result<(), Fault> {
    match delay {
        Some(Span(delay)) if *delay > LONGEST || delay.subsec_nanos() != 0 => {
            Err(Fault::new("usage.argument", format!("{argument}: a delay is of whole seconds, a day at most"))
                .hint("such as \"30 s\" or \"2 min\""))
        }
        _ => Ok(()),
    }
}

/// Makes sure that the host starts and stops its machines by itself, or not, and how where a machine's own setting does not say.
///
/// Where it is so already, nothing is done; what is left out stays as it is. Errors: `esxi.invalid_argument` where the host has no
/// autostart manager.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetForHost {
    /// The host.
    pub host: Target<kind::Host>,
    /// Whether it does so at all.
    pub enabled: Option<bool>,
    /// How long it waits after starting a machine, before the next.
    pub start_delay: Option<Span>,
    /// How long it waits for a machine to stop, before the next.
    pub stop_delay: Option<Span>,
    /// Whether the next machine is started as soon as a guest shows that it is alive.
    pub wait_for_heartbeat: Option<bool>,
    /// What it does with a machine when it goes down. `systemDefault` is none.
    pub stop_action: Option<StopAction>,
}

impl SetForHost {
    fn wanted(&self) -> esxi::AutostartDefaults {
        esxi::AutostartDefaults {
            enabled: self.enabled,
            start_delay: self.start_delay.as_ref().map(|span| span.0),
            stop_delay: self.stop_delay.as_ref().map(|span| span.0),
            wait_for_heartbeat: self.wait_for_heartbeat,
            stop_action: self.stop_action.map(esxi::StopAction::from),
        }
    }
}

impl Operation for SetForHost {
    const NAME: &'static str = "host.set_autostart";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = Place::Method { kind: "host", name: "set_autostart" };
    const TOUCHES: &'static [Touch] = ADMINISTERS;
    const USAGE: &'static str = "host:set_autostart({ enabled = true, stop_action = \"guestShutdown\" })";

    type Bound = BoundHost;
    type Output = ();

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundHost, Fault> {
        check_delay("start_delay", self.start_delay.as_ref())?;
        check_delay("stop_delay", self.stop_delay.as_ref())?;
        if self.stop_action == Some(StopAction::SystemDefault) {
            return Err(Fault::new("usage.argument", "stop_action: the system's default cannot be itself")
                .hint("use guestShutdown, powerOff, suspend or none"));
        }
        binder.host_for(&self.host, "administer")
    }

    async fn settled(&self, bound: &BoundHost, _: &Pass<'_>) -> Result<Option<()>, Fault> {
        let own = bound.host.client.autostart(&bound.system).await?;
        let wanted = self.wanted();
        let so = wanted.enabled.is_none_or(|on| on == own.enabled)
            && wanted.start_delay.is_none_or(|delay| delay == own.start_delay)
            && wanted.stop_delay.is_none_or(|delay| delay == own.stop_delay)
            && wanted.wait_for_heartbeat.is_none_or(|on| on == own.wait_for_heartbeat)
            && wanted.stop_action.is_none_or(|action| action == own.stop_action);
        Ok(so.then_some(()))
    }

    async fn act(self, bound: BoundHost, _: &Pass<'_>) -> Result<(), Fault> {
        Ok(bound.host.client.set_autostart_defaults(&bound.system, &self.wanted()).await?)
    }
}

/// Makes sure that the host starts a machine by itself when it comes up, or not, and how; gives what is set then.
///
/// Where it is so already, nothing is done; what is left out stays as it is. A machine that takes the place of another pushes it, and those
/// behind it, one further. With `start = false` and no `stop_action` it takes no part any more. Nothing of it happens unless the host does
/// so at all: `host:set_autostart`. A machine that linked clones build on cannot be started by it: `esxi.has_linked_clones`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetForMachine {
    /// The machine.
    pub vm: Target<kind::Vm>,
    /// Whether it is started with the host. Default, for one that takes no part yet: true.
    pub start: Option<bool>,
    /// Its place in the order of starting, from 1; 0 for none: it is started at any time, after the others.
    pub order: Option<u32>,
    /// How long the host waits after it, before the next.
    pub start_delay: Option<Span>,
    /// Whether the next is started as soon as its guest shows that it is alive.
    pub wait_for_heartbeat: Option<bool>,
    /// What the host does with it when it goes down.
    pub stop_action: Option<StopAction>,
    /// How long the host waits for it to stop.
    pub stop_delay: Option<Span>,
}

impl SetForMachine {
    fn wanted(&self, own: Option<&esxi::AutostartSetting>) -> esxi::AutostartSetting {
        let before = own.copied().unwrap_or(esxi::AutostartSetting::STARTED);
        let start = self.start.unwrap_or(before.start);
        if !start && self.start.is_some() && self.stop_action.is_none() {
            return esxi::AutostartSetting::LEFT_ALONE;
        }
        let wanted = esxi::AutostartSetting {
            start,
            order: self.order.map_or(before.order, |order| Some(order).filter(|order| *order > 0)).filter(|_| start),
            start_delay: self.start_delay.as_ref().map(|span| span.0).or(before.start_delay),
            wait_for_heartbeat: self.wait_for_heartbeat.or(before.wait_for_heartbeat),
            stop_action: self.stop_action.map_or(before.stop_action, esxi::StopAction::from),
            stop_delay: self.stop_delay.as_ref().map(|span| span.0).or(before.stop_delay),
        };
        match (wanted.start, wanted.stop_action) {
            (false, esxi::StopAction::None) => esxi::AutostartSetting::LEFT_ALONE,
            _ => wanted,
        }
    }
}

impl Operation for SetForMachine {
    const NAME: &'static str = "vm.set_autostart";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = Place::Method { kind: "vm", name: "set_autostart" };
    const TOUCHES: &'static [Touch] = &[touch("vm", "configure", Selector::Argument("vm"))];
    const USAGE: &'static str = "local set = vm:set_autostart({ order = 1, stop_action = \"guestShutdown\" })\nprint(set.order, set.stop_action)";

    type Bound = (BoundVm, BoundHost);
    type Output = AutostartRow;

    async fn bind(&self, binder: &Binder<'_>) -> Result<Self::Bound, Fault> {
        check_delay("start_delay", self.start_delay.as_ref())?;
        check_delay("stop_delay", self.stop_delay.as_ref())?;
        if self.start == Some(false) && self.order.is_some_and(|order| order > 0) {
            return Err(Fault::new("usage.argument", "order: a machine that is not started has no place in the order")
                .hint("leave the order out, or start = false"));
        }
        let bound = binder.vm(&self.vm, "configure").await?;
        let host = binder.host_of(&bound);
        Ok((bound, host))
    }

    async fn settled(&self, (bound, host): &Self::Bound, _: &Pass<'_>) -> Result<Option<AutostartRow>, Fault> {
        let own = bound.host.client.autostart(&host.system).await?;
        let now = own.of(&bound.vm).copied().unwrap_or(esxi::AutostartSetting::LEFT_ALONE);
        let wanted = self.wanted(own.of(&bound.vm));
        Ok((now == wanted).then(|| row(bound.vm.name.clone(), &now)))
    }

    async fn act(self, (bound, host): Self::Bound, pass: &Pass<'_>) -> Result<AutostartRow, Fault> {
        let client = &bound.host.client;
        let own = client.autostart(&host.system).await?;
        let wanted = self.wanted(own.of(&bound.vm));
        if wanted.start {
            refuse_with_clones(&bound.host, &bound.vm, pass, "started with the host", true).await?;
        }
        let last = own.placed_beside(&bound.vm) + 1;
        if let Some(order) = wanted.order.filter(|order| usize::try_from(*order).is_ok_and(|order| order > last)) {
            return Err(Fault::new(
                "usage.argument",
                format!("order: there is no place {order}: the next that is free is {last}"),
            )
            .hint("places are counted from 1, without gaps"));
        }
        client.set_autostart(&bound.vm, &wanted).await?;
        let own = client.autostart(&host.system).await?;
        let now = own.of(&bound.vm).copied().unwrap_or(esxi::AutostartSetting::LEFT_ALONE);
        Ok(row(bound.vm.name.clone(), &now))
    }
}
