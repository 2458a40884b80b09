//! What can be wrong with a document, and where: the one error enum of this room, and the path that points at a field.
//!
//! Messages never repeat a key, a file's content or a command: what is pasted into the wrong field may be a secret.

use std::fmt;

use crate::error::Fault;

/// An error of this room; at its border it becomes a [`Fault`].
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("{at}: {problem}")]
    Invalid { at: At, problem: Problem },
    #[error(
        "the document takes {size} bytes of guestinfo, and a machine takes about 1 MiB in all: at most {limit} are used"
    )]
    TooLarge { size: usize, limit: usize },
    #[error("the machine has no network card with the MAC address {mac} that {at} names (it has {present})")]
    NoSuchNic { at: At, mac: String, present: String },
    #[error("the document configures {wanted} network cards, and the machine has {present}")]
    TooFewNics { wanted: usize, present: usize },
    #[error("the files of the seed image take {size} bytes, and at most {limit} are put into one")]
    IsoTooLarge { size: usize, limit: usize },
    #[error(
        "cloudbase-init cannot be given a new network on a machine that already runs: for a new instance-id it does all of its work again"
    )]
    ReipOnWindows,
    #[error("{0:?} is not the UUID of a machine")]
    NotAUuid(String),
    #[error("{0}")]
    Undecodable(&'static str),
    #[error("the document could not be written: {0}")]
    Unwritable(String),
}

/// What is wrong with one field.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    #[error("{0} is not a host name: {1}")]
    Hostname(Shown, &'static str),
    #[error("{0} does not begin with the host name {1}")]
    FqdnOfAnother(Shown, Shown),
    #[error("{0} is not a user or group name: {1}")]
    AccountName(Shown, &'static str),
    #[error("`default` stands for the image's own user in cloud-init")]
    UserDefault,
    #[error("{0} appears twice")]
    Twice(Shown),
    #[error("is empty")]
    Empty,
    #[error("has {0} characters, at most {1} are taken")]
    TooLong(usize, usize),
    #[error("has {0} entries, at most {1} are taken")]
    TooMany(usize, usize),
    #[error("contains the control character U+{0:04X}")]
    Control(u32),
    #[error("contains {0:?}, which has a meaning of its own there")]
    Reserved(char),
    #[error("{0} is not an absolute path: {1}")]
    Path(Shown, &'static str),
    #[error("{0} is not a file mode")]
    Mode(Shown),
    #[error("{0} is not a package name")]
    Package(Shown),
    #[error("is not an SSH public key: {0}")]
    SshKey(&'static str),
    #[error("is a private key")]
    PrivateKey,
    #[error("{0} is not an address with a prefix length")]
    Address(Shown),
    #[error("{0} is not an IP address")]
    Ip(Shown),
    #[error("{0} cannot be a machine's address: {1}")]
    UnusableAddress(Shown, &'static str),
    #[error("an address given by hand and DHCP for the same family exclude each other")]
    StaticAndDhcp,
    #[error("the gateway {0} cannot be reached from any address of this card ({1})")]
    UnreachableGateway(Shown, String),
    #[error("the gateway {0} is the machine's own address")]
    GatewayIsSelf(Shown),
    #[error("a second gateway for {0}: a machine has one default route")]
    SecondGateway(&'static str),
    #[error("search domains without a DNS server are dropped by cloud-init")]
    SearchWithoutDns,
    #[error("{0} is not a MAC address of a network card")]
    Mac(Shown),
    #[error("{0} is not a name for a network interface")]
    InterfaceName(Shown),
    #[error("{0} is not between {1} and {2}")]
    OutOfRange(u32, u32, u32),
    #[error("{0} names a zone (`%`): a document speaks of one card at a time")]
    Zone(Shown),
    #[error("`none` stands alone")]
    NoneAndMore,
    #[error("a member of a bond or bridge has nothing of its own that needs an address")]
    OfMember,
    #[error("{0} is the default route, which is written as `gateway`")]
    DefaultRoute(Shown),
    #[error("{0} is not a network with a prefix length")]
    Subnet(Shown),
    #[error("{0} is an address in the network {1}, not the network")]
    HostBits(Shown, String),
    #[error("{0} cannot be routed to: {1}")]
    UnusableRoute(Shown, &'static str),
    #[error("{0} is of another address family than {1}")]
    OtherFamily(Shown, Shown),
    #[error("{0} also lies in {1} of the entry {2}, so the guest may look for it there")]
    RouterOnTwoSides(Shown, String, Shown),
    #[error("the entry has no {1} address to ask {0} from, and some guests drop such a server")]
    ServerOfOtherFamily(Shown, &'static str),
    #[error("is missing")]
    Missing,
    #[error("the entry is a {0} already")]
    SecondKind(&'static str),
    #[error("is only for a network card")]
    OnlyForCards,
    #[error("{0} is not the name of this VLAN: some guests read the id from the name")]
    VlanName(Shown, u32),
    #[error("the VLAN's name would be {0}, which is longer than 15 characters")]
    VlanNameTooLong(Shown, u32),
    #[error("no entry of `network` has the name {0}")]
    UnknownLink(Shown),
    #[error("{0} cannot be used here: {1}")]
    Link(Shown, &'static str),
    #[error("is only for a bond in the modes {0}")]
    OnlyInModes(&'static str),
    #[error("{0} is more than {1} takes, which is {2}")]
    MtuBeyond(u32, Shown, u32),
    #[error("{0} is not the MTU of the bond {1} that the card is in, which is {2}")]
    MtuOfBond(u32, Shown, u32),
    #[error("is a secret that has not been looked up")]
    Unfilled,
    #[error("is not text in UTF-8")]
    NotUtf8,
    #[error("is written out, and must be a secret")]
    NotASecret,
    #[error("is not a password's hash: {0}")]
    PasswordHash(&'static str),
    #[error("cannot be a password: {0}")]
    Password(&'static str),
    #[error("is not an SSH host key: {0}")]
    HostKey(&'static str),
    #[error("{0} is not a day, written as YYYY-MM-DD")]
    Day(Shown),
    #[error("is given together with {0}")]
    Both(&'static str),
    #[error("needs {0}")]
    Needs(&'static str),
    #[error("is not base64")]
    NotBase64,
    #[error("{0} is not a version of a package")]
    Version(Shown),
    #[error("{0} is not a device")]
    Device(Shown),
    #[error("{0} is not a partition's type")]
    PartitionType(Shown),
    #[error("the partitions take {0} percent of the disk")]
    MoreThanWhole(u32),
    #[error("{0} is not a kind of file system")]
    FilesystemKind(Shown),
    #[error("is not between 1 MiB and 16 TiB")]
    SwapSize,
    #[error("{0} is not a time zone")]
    TimeZone(Shown),
    #[error("{0} is not a locale")]
    Locale(Shown),
    #[error("{0} is not a setting of a keyboard")]
    Keyboard(Shown),
    #[error("is not a certificate: {0}")]
    Certificate(&'static str),
    #[error("is no cloud-config: {0}")]
    Yaml(String),
    #[error("{0} is not a rule of merging")]
    Merge(Shown),
    #[error("says how `raw` is merged, and there is no `raw`")]
    MergeWithoutRaw,
    #[error("only cloud-config is merged, and only by cloud-init")]
    MergeOfOther,
    #[error("{0} is not a type of part")]
    PartType(Shown),
    #[error("{0} is not a name for a part")]
    PartName(Shown),
    #[error("is not what its type says: {0}")]
    PartContent(&'static str),
    #[error("begins with nothing that cloud-init knows")]
    VendorData,
    #[error("cannot be done on Windows: {0}")]
    Windows(&'static str),
    #[error("{0} is not a path on Windows: {1}")]
    WindowsPath(Shown, &'static str),
}

impl Problem {
    /// What to do next, where the message alone does not say it.
    fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Hostname(..) => "Letters, digits and hyphens, at most 63; a domain belongs into `fqdn`.",
            Self::FqdnOfAnother(..) => "Write `fqdn` as the host name, a dot and the domain.",
            Self::AccountName(..) => {
                "Small letters, digits, `_` and `-`, beginning with a letter or `_`, at most 32 characters."
            }
            Self::UserDefault => {
                "Put the keys into `ssh_keys` of the document: without `users` they go to the image's own user."
            }
            Self::SshKey(_) => "Give one line of a `.pub` file, such as `ssh-ed25519 AAAA… name`.",
            Self::PrivateKey => {
                "Give the public half: the line in the `.pub` file. Consider the private key known, and make a new one."
            }
            Self::Address(_) => "Write the address and its prefix length, such as `10.0.1.241/24`, or `dhcp`.",
            Self::UnreachableGateway(..) => {
                "A gateway must lie in the subnet of an address of the same card: check the address, its prefix length and the gateway."
            }
            Self::SecondGateway(_) => "Keep the gateway of one card and take the others away.",
            Self::SearchWithoutDns => "Add `dns`.",
            Self::Mode(_) => "Write the mode as a string of three or four octal digits, such as `0644`.",
            Self::Mac(_) => "Write it as `00:50:56:12:34:56`.",
            Self::StaticAndDhcp => "Keep one of the two.",
            Self::InterfaceName(_) => {
                "At most 15 letters, digits, `-` and `_`, beginning with a letter, and none of `lo`, `all`, `default`, `none`, `bonding_masters`."
            }
            Self::OfMember => "Give it to the bond or bridge.",
            Self::DefaultRoute(_) => "Take the route away and give the router's address as `gateway` of the entry.",
            Self::Subnet(_) => "Write the network's own address and its prefix length, such as `10.20.0.0/16`.",
            Self::RouterOnTwoSides(..) => "Check the prefix lengths: the subnets of two entries overlap.",
            Self::ServerOfOtherFamily(..) => "Put the server into the entry that has such an address.",
            Self::VlanName(..) | Self::VlanNameTooLong(..) => "Name it `vlan` and its id, such as `vlan10`.",
            Self::UnknownLink(_) => "Give the link or member an entry of its own, with that `name`.",
            Self::MtuOfBond(..) => "A bond's MTU is that of its members: give it to the bond alone.",
            Self::NotASecret => "Keep it as a secret of ceso, and give the secret here.",
            Self::PasswordHash(_) => {
                "Make a hash with `openssl passwd -6` or `mkpasswd -m yescrypt`, keep it as a secret of ceso, and give the secret here."
            }
            Self::Device(_) => {
                "Write a device (`/dev/sdb1`), `LABEL=…`, `UUID=…`, `SERVER:/PATH`, `//SERVER/SHARE` or `tmpfs`, as the field takes it."
            }
            Self::TimeZone(_) => "Write an IANA name, such as `Europe/Berlin` or `Etc/UTC`.",
            Self::Locale(_) => "Write it as `locale -a` does, such as `de_DE.UTF-8`.",
            Self::Certificate(_) => "Give the certificate in PEM: `-----BEGIN CERTIFICATE-----` and what follows.",
            Self::Merge(_) => {
                "Write it as cloud-init's documentation does, such as `list(append)+dict(recurse_list)+str()`."
            }
            Self::VendorData => "Begin it with `#cloud-config`, or `#!` and an interpreter.",
            Self::Windows(_) => "Take the field away, or leave `dialect` away if the guest runs cloud-init.",
            _ => return None,
        })
    }
}

/// Where a field stands in the input: `users[1].ssh_keys[2]`. Lists count from 1, as in Lua.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct At(String);

impl At {
    pub(super) fn root() -> Self {
        Self(String::new())
    }

    pub(super) fn field(&self, name: &str) -> Self {
        if self.0.is_empty() { Self(name.to_owned()) } else { Self(format!("{}.{name}", self.0)) }
    }

    /// The item at `index`, counted from 0.
    pub(super) fn item(&self, index: usize) -> Self {
        Self(format!("{}[{}]", self.0, index.saturating_add(1)))
    }

    pub(super) fn is(&self, problem: Problem) -> Error {
        Error::Invalid { at: self.clone(), problem }
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A value as it may stand in a message: quoted, its control characters escaped, cut after 64 characters.
#[derive(Debug)]
pub(super) struct Shown(String);

impl Shown {
    pub(super) fn new(value: &str) -> Self {
        let mut short: String = value.chars().take(64).collect();
        if short.len() < value.len() {
            short.push('…');
        }
        Self(format!("{short:?}"))
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        let (kind, hint) = match &error {
            Error::Invalid { problem, .. } => ("cloudinit.invalid", problem.hint()),
            Error::TooLarge { .. } => (
                "cloudinit.too_large",
                Some("Let the machine fetch large files itself, or put them into the template."),
            ),
            Error::IsoTooLarge { .. } => (
                "cloudinit.too_large",
                Some("Let the machine fetch large files itself, or put them into the template."),
            ),
            Error::ReipOnWindows => (
                "cloudinit.invalid",
                Some("Set the address inside the guest, or make the machine anew from its template."),
            ),
            Error::NoSuchNic { .. } => {
                ("cloudinit.invalid", Some("Leave `mac` away: cards are then taken in the machine's own order."))
            }
            Error::TooFewNics { .. } => (
                "cloudinit.invalid",
                Some("Add network cards to the machine first, or take entries of `network` away."),
            ),
            Error::NotAUuid(_) => ("cloudinit.invalid", None),
            Error::Unwritable(_) => ("cloudinit.unwritable", None),
            Error::Undecodable(_) => ("cloudinit.undecodable", None),
        };
        let fault = Fault::new(kind, message).cause(error);
        match hint {
            Some(hint) => fault.hint(hint),
            None => fault,
        }
    }
}
