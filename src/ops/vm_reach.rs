//! Operations that wait until a machine is what was asked for: its guest reports an address, a port or a URL answers.

use std::net::IpAddr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::door::Pass;
use crate::door::bind::{Binder, BoundVm};
use crate::door::object::{Target, kind};
use crate::door::operation::{Effect, Operation, Place, Selector, Touch, touch};
use crate::error::Fault;
use crate::esxi::{HttpCheck, Step};
use crate::units::Span;

const fn method(name: &'static str) -> Place {
    Place::Method { kind: "vm", name }
}

const REACH: &[Touch] = &[touch("vm", "reach", Selector::Argument("vm"))];

fn address(operation: &str, text: Option<&str>) -> Result<Option<IpAddr>, Fault> {
    let Some(text) = text else { return Ok(None) };
    // With a prefix length it is what a document was given: 10.0.1.20/24.
    let bare = text.split_once('/').map_or(text, |(address, _)| address);
    bare.parse().map(Some).map_err(|_| {
        let shown: String = text.chars().take(60).collect();
        Fault::new("usage.argument", format!("{operation}: address: {shown:?} is not an IP address"))
            .hint("such as \"10.0.1.20\"")
    })
}

fn port(operation: &str, port: u32) -> Result<u16, Fault> {
    u16::try_from(port)
        .ok()
        .filter(|port| *port > 0)
        .ok_or_else(|| Fault::new("usage.argument", format!("{operation}: port: {port} is not between 1 and 65535")))
}

fn patience(pass: &Pass<'_>, timeout: Option<Span>) -> Duration {
    pass.time(timeout.map_or(Duration::from_secs(300), |span| span.0))
}

/// Waits until the guest reports exactly this address: then a machine is provisioned as it was asked for.
///
/// Another address does not count. The guest must run VMware's tools. Errors: `esxi.timeout`, with the addresses that it reports instead.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WaitForAddress {
    /// The machine.
    pub vm: Target<kind::Vm>,
    /// The address, with or without its prefix length.
    pub address: String,
    /// How long to wait. Default: 5 min.
    pub timeout: Option<Span>,
}

impl Operation for WaitForAddress {
    const NAME: &'static str = "vm.wait_for_address";
    const EFFECT: Effect = Effect::Read;
    const PLACE: Place = method("wait_for_address");
    const POSITIONAL: &'static [&'static str] = &["address"];
    const TOUCHES: &'static [Touch] = &[touch("vm", "read", Selector::Argument("vm"))];
    const USAGE: &'static str = "vm:set_guestinfo(cloudinit.build({ hostname = \"web-1\", network = { address = \"10.0.1.20/24\" } }))\nvm:ensure_power(\"on\")\nvm:wait_for_address({ address = \"10.0.1.20\", timeout = \"2 min\" })";

    type Bound = BoundVm;
    type Output = ();

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundVm, Fault> {
        address(Self::NAME, Some(&self.address))?;
        binder.vm_anew(&self.vm, "read").await
    }

    async fn act(self, bound: BoundVm, pass: &Pass<'_>) -> Result<(), Fault> {
        let Some(wanted) = address(Self::NAME, Some(&self.address))? else { return Ok(()) };
        pass.step(Step { what: "wait for the address", percent: None });
        let client = &bound.host.client;
        let waited = client.wait_for_this_address(&bound.vm, wanted, patience(pass, self.timeout)).await;
        let Err(error) = waited else { return Ok(()) };
        let fault = Fault::from(error);
        if !fault.is("esxi.timeout") {
            return Err(fault);
        }
        let has = client.vm_info(&bound.vm).await?.row.addresses;
        let has = if has.is_empty() { "none".to_owned() } else { has.join(", ") };
        Err(fault.hint(format!("its guest reports {has}; look at its console, and at cloudinit.read(vm)")))
    }
}

/// Waits until a TCP port of the guest takes connections.
///
/// The connection is made from where ceso runs, only to an address that the guest itself reports, within `security.allowed_networks`; it
/// is closed at once. On the simulator, whose guests are on no network, a reported address counts as answering. Errors: `esxi.timeout`,
/// `door.network`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WaitForPort {
    /// The machine.
    pub vm: Target<kind::Vm>,
    /// The port, 1 to 65535.
    pub port: u32,
    /// Which of the guest's addresses. Default: its first, IPv4 before IPv6.
    pub address: Option<String>,
    /// How long to wait. Default: 5 min.
    pub timeout: Option<Span>,
}

impl Operation for WaitForPort {
    const NAME: &'static str = "vm.wait_for_port";
    const EFFECT: Effect = Effect::Read;
    const PLACE: Place = method("wait_for_port");
    const POSITIONAL: &'static [&'static str] = &["port"];
    const TOUCHES: &'static [Touch] = REACH;
    const USAGE: &'static str = "vm:ensure_power(\"on\")\nvm:wait_for_port({ port = 22, timeout = \"2 min\" })";

    type Bound = BoundVm;
    type Output = ();

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundVm, Fault> {
        port(Self::NAME, self.port)?;
        address(Self::NAME, self.address.as_deref())?;
        binder.vm_anew(&self.vm, "reach").await
    }

    async fn act(self, bound: BoundVm, pass: &Pass<'_>) -> Result<(), Fault> {
        let (port, at) = (port(Self::NAME, self.port)?, address(Self::NAME, self.address.as_deref())?);
        pass.step(Step { what: "wait for the port", percent: None });
        let timeout = patience(pass, self.timeout);
        if bound.host.simulated {
            return simulated(&bound, at, timeout).await;
        }
        Ok(bound.host.client.wait_for_port(&bound.vm, at, port, timeout).await?)
    }
}

/// Waits until a web server of the guest answers with a status.
///
/// The request goes only to an address that the guest itself reports, within `security.allowed_networks`. No redirect is followed, nothing of the
/// answer but its status is read, a certificate is not checked. On the simulator a reported address counts as answering. Errors:
/// `esxi.timeout`, `door.network`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WaitForHttp {
    /// The machine.
    pub vm: Target<kind::Vm>,
    /// The path, beginning with `/`, perhaps with a query. Default: `/`.
    pub path: Option<String>,
    /// The port. Default: 80, with `tls` 443.
    pub port: Option<u32>,
    /// Whether TLS is spoken. Default: false.
    #[serde(default)]
    pub tls: bool,
    /// The status that it must answer, 100 to 599. Default: 200.
    pub status: Option<u16>,
    /// Which of the guest's addresses. Default: its first, IPv4 before IPv6.
    pub address: Option<String>,
    /// How long to wait. Default: 5 min.
    pub timeout: Option<Span>,
}

impl WaitForHttp {
    fn check(&self) -> Result<HttpCheck, Fault> {
        let wrong = |what: String| Err(Fault::new("usage.argument", format!("{}: {what}", Self::NAME)));
        let path = self.path.clone().unwrap_or_else(|| "/".to_owned());
        if !path.starts_with('/')
            || path.len() > 2000
            || path.contains('#')
            || !path.chars().all(|c| c.is_ascii_graphic())
        {
            return wrong("path: it begins with / and has visible ASCII characters".to_owned());
        }
        let status = self.status.unwrap_or(200);
        if !(100..600).contains(&status) {
            return wrong(format!("status: {status} is not between 100 and 599"));
        }
        let port = port(Self::NAME, self.port.unwrap_or(if self.tls { 443 } else { 80 }))?;
        Ok(HttpCheck { port, tls: self.tls, path, status })
    }
}

impl Operation for WaitForHttp {
    const NAME: &'static str = "vm.wait_for_http";
    const EFFECT: Effect = Effect::Read;
    const PLACE: Place = method("wait_for_http");
    const TOUCHES: &'static [Touch] = REACH;
    const USAGE: &'static str =
        "vm:ensure_power(\"on\")\nvm:wait_for_http({ path = \"/health\", port = 8080, timeout = \"2 min\" })";

    type Bound = BoundVm;
    type Output = ();

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundVm, Fault> {
        self.check()?;
        address(Self::NAME, self.address.as_deref())?;
        binder.vm_anew(&self.vm, "reach").await
    }

    async fn act(self, bound: BoundVm, pass: &Pass<'_>) -> Result<(), Fault> {
        let (check, at) = (self.check()?, address(Self::NAME, self.address.as_deref())?);
        pass.step(Step { what: "wait for the web server", percent: None });
        let timeout = patience(pass, self.timeout);
        if bound.host.simulated {
            return simulated(&bound, at, timeout).await;
        }
        Ok(bound.host.client.wait_for_http(&bound.vm, at, &check, timeout).await?)
    }
}

/// A simulated guest is on no network: behind its address would be somebody else's machine.
async fn simulated(bound: &BoundVm, at: Option<IpAddr>, timeout: Duration) -> Result<(), Fault> {
    let client = &bound.host.client;
    match at {
        Some(wanted) => Ok(client.wait_for_this_address(&bound.vm, wanted, timeout).await?),
        None => Ok(client.wait_for_address(&bound.vm, timeout).await.map(drop)?),
    }
}
