//! What a playbook writes about the network: cards, VLANs, bonds and bridges. Its comments are the public reference.
//!
//! Shapes only, as in [`super::super::spec`]. Where a guest cannot be told something, or some guests cannot, the field's comment says so; the tests hold the same list against the real renderers.

use schemars::JsonSchema;

use crate::cloudinit::forms::Strings;

/// One entry of `network`: a network card, or a VLAN, bond or bridge made of other entries.
///
/// Without `vlan`, `bond` and `bridge` it is a card of the machine. Without `address` it asks by DHCP (IPv4), except where it is a member of a bond or bridge. VLANs, bonds and bridges are
/// not made by guests that run systemd-networkd with cloud-init 22.4.
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CloudInitNic")]
pub struct Nic {
    /// The addresses, each with its prefix length (`"10.0.1.241/24"`, `"2001:db8::5/64"`), or `"dhcp"` or `"dhcp6"`, or `"none"` alone.
    /// One family is either given by hand or asked for by DHCP. Default: `"dhcp"`; for a member of a bond or bridge `"none"`, and nothing else. Guests that run NetworkManager ask for IPv4 by DHCP
    /// wherever an entry that is no member has none, but for bonds with `"none"` and a cloud-init newer than 22.4.
    #[serde(default)]
    pub address: Strings,
    /// The default route: at most one gateway of each family over all entries, in the subnet of one of this entry's addresses. An IPv6
    /// gateway may be link-local. It may not lie in a subnet of another entry as well.
    #[serde(default)]
    pub gateway: Strings,
    /// Routes other than the default one: at most 64 over all entries.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// DNS servers, by address: at most three over all entries, which is what a guest asks, each of a family that this entry has addresses of. Beside DHCP some guests drop them: those that run
    /// NetworkManager with cloud-init 22.4 where no address is given by hand, and those that run ifupdown with a newer one where the server's family is asked for by DHCP.
    #[serde(default)]
    pub dns: Strings,
    /// Domains that unqualified names are looked up in: at most six over all entries, 256 characters in all. They need `dns`.
    #[serde(default)]
    pub search: Strings,
    /// The MAC address of the card that is meant; only for a card. Default: the machine's next card that no other entry names.
    #[serde(default)]
    pub mac: Option<String>,
    /// The name that the interface gets in the guest: at most 15 letters, digits, `-` and `_`. Default: for cards `eth0`, `eth1`, … in the order of this list, for a VLAN its link, a dot and its id
    /// (`eth0.10`). Required for a bond or bridge.
    #[serde(default)]
    pub name: Option<String>,
    /// The largest packet in bytes: 576 to 9000, at least 1280 where IPv6 is used, and no more than what it runs on takes (1500 where nothing is said). Default: the guest's, usually 1500. Guests that run
    /// NetworkManager drop it for VLANs and bridges, and with cloud-init 22.4 for bonds.
    #[serde(default)]
    pub mtu: Option<u32>,
    /// Whether IPv6 router advertisements are taken: addresses that the card makes itself (SLAAC), and routes; only for a card. Default: the guest's, usually yes where no IPv6 address is given by hand.
    /// Guests that run NetworkManager do not take this; those that run ifupdown take it where the card has no `"dhcp"`, and IPv6 alone or `"dhcp6"`; those that run systemd-networkd with cloud-init 22.4 beside `"dhcp6"` only, and in those that
    /// run initscripts IPv6 addresses given by hand mean no.
    #[serde(default)]
    pub accept_ra: Option<bool>,
    /// Whether the guest's boot goes on without this entry. Default: false. Guests with netplan take this, and those that run systemd-networkd with a cloud-init newer than 22.4, there for cards alone; the others do not.
    #[serde(default)]
    pub optional: bool,
    /// Makes this entry a VLAN.
    #[serde(default)]
    pub vlan: Option<Vlan>,
    /// Makes this entry a bond of cards.
    #[serde(default)]
    pub bond: Option<Bond>,
    /// Makes this entry a bridge.
    #[serde(default)]
    pub bridge: Option<Bridge>,
}

/// A route to a network other than the default one.
///
/// Guests that run NetworkManager with cloud-init 22.4 lose a route of another family than the entry's first, which is the first of: `"dhcp"`, `"dhcp6"`, IPv4 by hand, IPv6 by hand.
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CloudInitRoute")]
pub struct Route {
    /// The network, such as `"10.20.0.0/16"`: its own address, without host bits. The default route is `gateway`.
    pub to: String,
    /// The next router: in the subnet of one of this entry's addresses, or anywhere where that family comes by DHCP. An IPv6 one may be link-local.
    pub via: String,
    /// How much the route costs, 1 to 4294967295: the cheapest is taken. Default: the guest's. With cloud-init 22.4 only guests with netplan take it.
    #[serde(default)]
    pub metric: Option<u32>,
}

/// A tagged network on another entry.
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CloudInitVlan")]
pub struct Vlan {
    /// The tag, 1 to 4094. Where the VLAN has a `name`, it is `vlan` and this id (`vlan10`): guests with initscripts read the id from the name.
    pub id: u32,
    /// The name of the entry that carries it: a card, a bond or a bridge.
    pub link: String,
}

/// Cards that work as one.
#[derive(Clone, Debug, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CloudInitBond")]
pub struct Bond {
    /// The names of the cards in it. Each is an entry of its own, and in one bond or bridge only.
    pub members: Strings,
    /// How they share the work.
    pub mode: BondMode,
    /// How often the links are looked at, in milliseconds: 1 to 10000. Default: 100, because the kernel's own default is never. Guests that run NetworkManager with cloud-init 22.4 do not take it.
    #[serde(default)]
    pub miimon: Option<u32>,
    /// How often the switch is asked to send LACP packets; only in mode `802.3ad`. Default: the kernel's, `slow`. Guests that run NetworkManager do not take it.
    #[serde(default)]
    pub lacp_rate: Option<LacpRate>,
    /// What decides which member a packet takes; only in the modes `802.3ad`, `balance-xor` and `balance-tlb`. Default: the kernel's, `layer2`. Guests that run NetworkManager with a cloud-init newer than 22.4 do not take it.
    #[serde(default)]
    pub xmit_hash_policy: Option<HashPolicy>,
    /// The member that is preferred while it works; only in the modes `active-backup`, `balance-tlb` and `balance-alb`. Guests that run systemd-networkd do not take it.
    #[serde(default)]
    pub primary: Option<String>,
}

/// A bond's mode, by the kernel's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "CloudInitBondMode")]
pub enum BondMode {
    BalanceRr,
    ActiveBackup,
    BalanceXor,
    Broadcast,
    #[serde(rename = "802.3ad")]
    Lacp,
    BalanceTlb,
    BalanceAlb,
}

/// How often LACP packets are asked for: every 30 seconds, or every second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "CloudInitLacpRate")]
pub enum LacpRate {
    Slow,
    Fast,
}

/// What a bond's member is chosen by, by the kernel's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize, JsonSchema)]
#[schemars(rename = "CloudInitHashPolicy")]
pub enum HashPolicy {
    #[serde(rename = "layer2")]
    Layer2,
    #[serde(rename = "layer2+3")]
    Layer23,
    #[serde(rename = "layer3+4")]
    Layer34,
    #[serde(rename = "encap2+3")]
    Encap23,
    #[serde(rename = "encap3+4")]
    Encap34,
}

/// A switch inside the guest.
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CloudInitBridge")]
pub struct Bridge {
    /// The names of the entries in it: cards, bonds and VLANs, each in one bond or bridge only.
    pub members: Strings,
    /// Whether it speaks the spanning tree protocol. Default: false.
    #[serde(default)]
    pub stp: bool,
    /// How many seconds a port waits before it forwards: 2 to 30. Default: the kernel's, 15. Only guests with netplan and ifupdown take it, and those that run systemd-networkd with a cloud-init newer than 22.4.
    #[serde(default)]
    pub forward_delay: Option<u32>,
}
