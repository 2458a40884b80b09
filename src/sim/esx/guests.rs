//! The guest operating systems that a machine may name, by the identifiers of `VirtualMachineGuestOsIdentifier`.

/// Identifier, family, full name: what is common, newest first. Older identifiers are known without a name of their own.
pub const COMMON: &[(&str, &str, &str)] = &[
    ("debian12_64Guest", LINUX, "Debian GNU/Linux 12 (64-bit)"),
    ("debian11_64Guest", LINUX, "Debian GNU/Linux 11 (64-bit)"),
    ("debian10_64Guest", LINUX, "Debian GNU/Linux 10 (64-bit)"),
    ("ubuntu64Guest", LINUX, "Ubuntu Linux (64-bit)"),
    ("rhel9_64Guest", LINUX, "Red Hat Enterprise Linux 9 (64-bit)"),
    ("rhel8_64Guest", LINUX, "Red Hat Enterprise Linux 8 (64-bit)"),
    ("centos9_64Guest", LINUX, "CentOS 9 (64-bit)"),
    ("centos8_64Guest", LINUX, "CentOS 8 (64-bit)"),
    ("rockylinux_64Guest", LINUX, "Rocky Linux (64-bit)"),
    ("almalinux_64Guest", LINUX, "AlmaLinux (64-bit)"),
    ("sles15_64Guest", LINUX, "SUSE Linux Enterprise 15 (64-bit)"),
    ("fedora64Guest", LINUX, "Red Hat Fedora (64-bit)"),
    ("vmwarePhoton64Guest", LINUX, "VMware Photon OS (64-bit)"),
    ("other6xLinux64Guest", LINUX, "Other 6.x or later Linux (64-bit)"),
    ("other5xLinux64Guest", LINUX, "Other 5.x or later Linux (64-bit)"),
    ("otherLinux64Guest", LINUX, "Other Linux (64-bit)"),
    ("otherLinuxGuest", LINUX, "Other Linux (32-bit)"),
    ("windows2022srvNext_64Guest", WINDOWS, "Microsoft Windows Server 2025 (64-bit)"),
    ("windows2019srvNext_64Guest", WINDOWS, "Microsoft Windows Server 2022 (64-bit)"),
    ("windows2019srv_64Guest", WINDOWS, "Microsoft Windows Server 2019 (64-bit)"),
    ("windows11_64Guest", WINDOWS, "Microsoft Windows 11 (64-bit)"),
    ("windows9_64Guest", WINDOWS, "Microsoft Windows 10 (64-bit)"),
    ("freebsd14_64Guest", OTHER, "FreeBSD 14 or later versions (64-bit)"),
    ("vmkernel8Guest", OTHER, "VMware ESXi 8.0 or later"),
    ("otherGuest64", OTHER, "Other (64-bit)"),
    ("otherGuest", OTHER, "Other (32-bit)"),
];

const LINUX: &str = "linuxGuest";
const WINDOWS: &str = "windowsGuest";
const OTHER: &str = "otherGuestFamily";

/// Whether a machine may name this guest. Identifiers end in `Guest` or `Guest64`; a made-up one is refused.
pub fn known(id: &str) -> bool {
    const STEMS: &[&str] = &[
        "almalinux",
        "amazonlinux",
        "asianux",
        "centos",
        "coreos",
        "crxPod",
        "crxSys",
        "darwin",
        "debian",
        "dos",
        "eComStation",
        "fedora",
        "flatcar",
        "freebsd",
        "genericLinux",
        "kylinlinux",
        "mandrake",
        "mandriva",
        "miraclelinux",
        "netware",
        "nld",
        "novell",
        "opensuse",
        "oracleLinux",
        "openServer",
        "os2",
        "other",
        "pardus",
        "redhat",
        "rhel",
        "rockylinux",
        "sjds",
        "sles",
        "solaris",
        "suse",
        "turboLinux",
        "ubuntu",
        "unixWare",
        "vmkernel",
        "vmwarePhoton",
        "win",
        "windows",
        "fusionos",
        "prolinux",
    ];
    let ends = id.ends_with("Guest") || id.ends_with("Guest64");
    let plain = id.len() <= 40 && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    ends && plain && STEMS.iter().any(|stem| id.starts_with(stem))
}

pub fn full_name(id: &str) -> String {
    COMMON.iter().find(|(own, _, _)| *own == id).map_or_else(|| id.to_owned(), |(_, _, name)| (*name).to_owned())
}

pub fn family(id: &str) -> &'static str {
    match COMMON.iter().find(|(own, _, _)| *own == id) {
        Some((_, family, _)) => family,
        None if id.starts_with("win") => WINDOWS,
        None if id.starts_with("other") || id.starts_with("vmkernel") || id.starts_with("freebsd") => OTHER,
        None => LINUX,
    }
}

/// The identifier for a `guestOS` in a configuration file: `debian12-64` there is `debian12_64Guest` here.
pub fn from_vmx(guest: &str) -> String {
    let named = format!("{}Guest", guest.replace('-', "_"));
    [guest.to_owned(), named].into_iter().find(|id| known(id)).unwrap_or_else(|| "otherGuest".to_owned())
}
