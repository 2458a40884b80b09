//! The addresses of a guest: which of them can be used, and waiting until there is one.
//!
//! `guest.net` says all, `guest.ipAddress` one; link-local addresses are nobody's way to a machine.
//! Specification: vSphere Web Services API, `GuestNicInfo`, `NetIpConfigInfo`; RFC 3927, RFC 4291.

use std::net::IpAddr;
use std::time::Duration;

use crate::units::Span;
use crate::xml::Element;

use super::checked::Checked;
use super::error::Error;
use super::host::Host;
use super::object::Vm;
use super::watch::{Awaited, Snapshot};

/// All addresses of a guest that can be used, in the host's order and without doubles.
pub(super) fn usable(net: Option<&Element>, single: Option<&str>) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    let mut add = |text: &str| {
        if let Ok(address) = text.trim().parse::<IpAddr>()
            && is_usable(&address)
            && !addresses.contains(&address)
        {
            addresses.push(address);
        }
    };
    for nic in net.map(|net| net.children.as_slice()).unwrap_or_default() {
        nic.all("ipAddress").for_each(|address| add(&address.text));
        let configured = nic.child("ipConfig").into_iter().flat_map(|config| config.all("ipAddress"));
        configured.filter_map(|address| address.text_at("ipAddress")).for_each(&mut add);
    }
    if let Some(single) = single {
        add(single);
    }
    addresses
}

/// The address to reach a guest at: the first IPv4 one, else the first IPv6 one.
pub(super) fn preferred(addresses: &[IpAddr]) -> Option<&IpAddr> {
    addresses.iter().find(|address| address.is_ipv4()).or(addresses.first())
}

pub(super) fn is_usable(address: &IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.to_ipv4_mapped().is_some_and(|v4| v4.is_link_local()),
    };
    !link_local && !address.is_loopback() && !address.is_unspecified() && !address.is_multicast()
}

const PATHS: &[&str] = &["guest.net", "guest.ipAddress"];

fn found(state: &Snapshot) -> Option<IpAddr> {
    let single = state.get("guest.ipAddress").map(|value| value.text.as_str());
    preferred(&usable(state.get("guest.net"), single)).copied()
}

impl Host {
    /// Waits until the guest has an address that can be used, and returns it: IPv4 before IPv6.
    ///
    /// Errors: `esxi.timeout` after `timeout`, `esxi.managed_object_not_found` where the machine goes.
    pub async fn wait_for_address(&self, vm: &Checked<Vm>, timeout: Duration) -> Result<IpAddr, Error> {
        let what = format!("{:?} getting an address", vm.name);
        let state = self.wait_for(vm, PATHS, timeout, what, |state| found(state).is_some()).await?;
        found(&state).ok_or_else(|| Error::BadAnswer {
            host: self.name().to_owned(),
            reason: "an address that came and went".to_owned(),
        })
    }

    /// Waits until the guest has exactly this address.
    ///
    /// Errors: as those of [`Host::wait_for_address`].
    pub async fn wait_for_this_address(
        &self,
        vm: &Checked<Vm>,
        wanted: IpAddr,
        timeout: Duration,
    ) -> Result<(), Error> {
        let what = format!("{:?} getting the address {wanted}", vm.name);
        let has = move |state: &Snapshot| {
            let single = state.get("guest.ipAddress").map(|value| value.text.as_str());
            usable(state.get("guest.net"), single).contains(&wanted)
        };
        self.wait_for(vm, PATHS, timeout, what, has).await.map(drop)
    }

    /// Waits until a condition on a machine's properties holds; returns them as they were then. Errors: `esxi.timeout`,
    /// `esxi.waits_for_answer`.
    pub(super) async fn wait_for(
        &self,
        vm: &Checked<Vm>,
        paths: &'static [&'static str],
        timeout: Duration,
        what: String,
        until: impl Fn(&Snapshot) -> bool + Send + Sync + Copy + 'static,
    ) -> Result<Snapshot, Error> {
        let awaited = Awaited { object: vm.moref.clone(), kind: "VirtualMachine", paths, until: Box::new(until) };
        let mut watch = self.monitor.watch(awaited);
        // A machine that asks something stands still: waiting on would be in vain.
        let asked = self.until_asked(Some(vm.moref.clone()));
        let wait = async {
            tokio::pin!(asked);
            loop {
                let state = tokio::select! {
                    biased;
                    state = watch.next() => state?,
                    question = &mut asked => return Err(question),
                };
                if until(&state) {
                    return Ok(state);
                }
            }
        };
        match tokio::time::timeout(timeout, wait).await {
            Ok(done) => done.map_err(|error: Error| error.doing(format!("wait for {what}"))),
            Err(_) => Err(Error::WaitedInVain { host: self.name().to_owned(), what, after: Span(timeout) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xml::{Limits, parse};

    fn addresses(net: &str, single: Option<&str>) -> Vec<String> {
        let net = parse(format!("<val>{net}</val>").as_bytes(), Limits::default()).unwrap();
        usable(Some(&net), single).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn link_local_addresses_are_left_out_and_ipv4_comes_first() {
        let net = "<GuestNicInfo><network>a</network><ipAddress>fe80::1</ipAddress><ipAddress>2001:db8::5</ipAddress>\
                   <ipAddress>169.254.1.1</ipAddress><ipAddress>10.0.0.5</ipAddress></GuestNicInfo>";
        let all = addresses(net, Some("fe80::2"));
        assert_eq!(all, ["2001:db8::5", "10.0.0.5"]);
        let parsed: Vec<IpAddr> = all.iter().map(|address| address.parse().unwrap()).collect();
        assert_eq!(preferred(&parsed).unwrap().to_string(), "10.0.0.5");
        assert_eq!(addresses("", Some("192.0.2.1")), ["192.0.2.1"]);
        assert_eq!(
            addresses("<GuestNicInfo><ipAddress>nonsense</ipAddress></GuestNicInfo>", Some("127.0.0.1")),
            [""; 0]
        );
    }
}
