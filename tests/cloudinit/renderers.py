"""What the renderers of cloud-init make of a network, as fields. Run by /usr/bin/python3; JSON in, JSON out.

    renderers.py < [{"network": {...}}, ...]
"""

import configparser
import contextlib
import copy
import io
import ipaddress
import json
import os
import re
import sys
import tempfile
from pathlib import Path
from unittest import mock

from cloudinit import distros, util
from cloudinit.cmd.devel import net_convert

RENDERERS = {
    "eni": "debian",
    "networkd": "debian",
    "network-manager": "debian",
    "netplan": "debian",
    "sysconfig": "centos",
}


def convert(network):
    """Renders one network with every renderer, through the code of `cloud-init devel net-convert`."""
    found = {}
    for renderer, distro in RENDERERS.items():
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "network.yaml")
            source.write_text(json.dumps(network), encoding="utf-8")
            out = Path(folder, "out")
            arguments = ["-p", str(source), "-k", "yaml", "-d", str(out), "-D", distro, "-O", renderer]
            # net-convert alters the distribution's settings, which would be wrong for a second call.
            settings = copy.deepcopy(distros.fetch(distro).renderer_configs)
            fresh = mock.patch.object(distros.fetch(distro), "renderer_configs", settings)
            with fresh, contextlib.redirect_stderr(io.StringIO()):
                parsed = net_convert.get_parser().parse_args(arguments)
                net_convert.handle_args("net-convert", parsed)
                parsed.network_data.close()
            found[renderer] = READERS[renderer](out)
    return found


def interface(**fields):
    empty = {"mac": None, "dhcp4": False, "dhcp6": False, "addresses": [], "gateway4": None, "gateway6": None, "mtu": None}
    return {**empty, **fields}


def guest(interfaces, dns, search):
    for each in interfaces.values():
        each["addresses"].sort()
    return {"interfaces": interfaces, "dns": sorted(set(dns)), "search": sorted(set(search))}


def set_gateway(card, address):
    card["gateway6" if ":" in address else "gateway4"] = address


def macs_of_udev(out):
    rules = Path(out, "etc/udev/rules.d/70-persistent-net.rules").read_text(encoding="utf-8")
    return {name: mac for mac, name in re.findall(r'ATTR\{address\}=="([^"]+)", NAME="([^"]+)"', rules)}


def read_eni(out):
    interfaces, dns, search, macs = {}, [], [], macs_of_udev(out)
    card, family = None, None
    for line in Path(out, "etc/network/interfaces.d/50-cloud-init").read_text(encoding="utf-8").splitlines():
        words = line.split()
        if not words or words[0].startswith("#") or words[0] == "auto":
            continue
        key, rest = words[0], words[1:]
        if key == "iface":
            name, family, method = rest
            card = interface() if name == "lo" else interfaces.setdefault(name, interface(mac=macs.get(name)))
            if method == "dhcp":
                card["dhcp6" if family == "inet6" else "dhcp4"] = True
        elif key == "address":
            card["addresses"].append(rest[0])
        elif key == "gateway":
            set_gateway(card, rest[0])
        elif key == "mtu":
            card["mtu"] = int(rest[0])
        elif key == "dns-nameservers":
            dns += rest
        elif key == "dns-search":
            search += rest
        elif key == "post-up":
            route = re.fullmatch(r"(?:ip )?route add default (?:gw|via) (\S+) \|\| true", " ".join(rest))
            assert route, f"a route that is not the default one: {line}"
            assert family == "inet", f"an IPv4 route in an IPv6 stanza: {line}"
            set_gateway(card, route[1])
        else:
            # 22.4 writes a line `dns {...}` besides dns-nameservers; ifupdown passes it to scripts, which ignore it.
            assert key in ("pre-down", "dns"), f"unexpected line: {line}"
    return guest(interfaces, dns, search)


def sections(path):
    """networkd's files: the same section may come several times."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            found.append((line.strip("[]"), []))
        elif "=" in line:
            found[-1][1].append(tuple(line.split("=", 1)))
    return found


def read_networkd(out):
    interfaces, dns, search = {}, [], []
    for path in Path(out, "etc/systemd/network").glob("*.network"):
        card, name = interface(), None
        for section, pairs in sections(path):
            fields = dict(pairs)
            if section == "Match":
                name, card["mac"] = fields["Name"], fields["MACAddress"]
            elif section == "Network":
                card["dhcp4"] = fields.get("DHCP") in ("yes", "ipv4")
                card["dhcp6"] = fields.get("DHCP") in ("yes", "ipv6")
                dns += fields.get("DNS", "").split()
                search += fields.get("Domains", "").split()
            elif section == "Address":
                card["addresses"].append(fields["Address"])
            elif section == "Route":
                assert fields.get("Destination", "0.0.0.0/0") == "0.0.0.0/0", fields
                set_gateway(card, fields["Gateway"])
            elif section == "Link":
                card["mtu"] = int(fields["MTUBytes"])
        interfaces[name] = card
    return guest(interfaces, dns, search)


def read_network_manager(out):
    interfaces, dns, search = {}, [], []
    for path in Path(out, "etc/NetworkManager/system-connections").glob("*.nmconnection"):
        keyfile = configparser.ConfigParser(delimiters="=", interpolation=None)
        keyfile.read(path, encoding="utf-8")
        name = keyfile["connection"]["id"].split()[-1]
        card = interface(mac=keyfile["ethernet"]["mac-address"].lower())
        if "mtu" in keyfile["ethernet"]:
            card["mtu"] = int(keyfile["ethernet"]["mtu"])
        for section, dhcp in (("ipv4", "dhcp4"), ("ipv6", "dhcp6")):
            if section not in keyfile:
                continue
            fields = keyfile[section]
            card[dhcp] = fields["method"] in ("auto", "dhcp")
            for key, value in fields.items():
                if key.startswith("address"):
                    card["addresses"].append(value)
                elif key == "gateway":
                    set_gateway(card, value)
                elif key.startswith("route"):
                    destination, via = value.split(",")
                    assert (section, destination) == ("ipv4", "0.0.0.0/0"), value
                    set_gateway(card, via)
                elif key == "dns":
                    dns += [server for server in value.split(";") if server]
                elif key == "dns-search":
                    search += [domain for domain in value.split(";") if domain]
        interfaces[name] = card
    return guest(interfaces, dns, search)


def read_netplan(out):
    network = util.load_yaml(Path(out, "etc/netplan/50-cloud-init.yaml").read_text(encoding="utf-8"))["network"]
    interfaces, dns, search = {}, [], []
    for settings in network["ethernets"].values():
        card = interface(
            mac=settings["match"]["macaddress"],
            dhcp4=settings.get("dhcp4", False),
            dhcp6=settings.get("dhcp6", False),
            addresses=settings.get("addresses", []),
            gateway4=settings.get("gateway4"),
            gateway6=settings.get("gateway6"),
            mtu=settings.get("mtu"),
        )
        for route in settings.get("routes", []):
            assert route["to"] == "0.0.0.0/0", route
            set_gateway(card, route["via"])
        dns += settings.get("nameservers", {}).get("addresses", [])
        search += settings.get("nameservers", {}).get("search", [])
        interfaces[settings["set-name"]] = card
    return guest(interfaces, dns, search)


def read_sysconfig(out):
    interfaces, dns, search = {}, [], []
    folder = Path(out, "etc/sysconfig/network-scripts")
    for path in folder.glob("ifcfg-*"):
        fields = dict(re.findall(r'^(\w+)="?(.*?)"?$', path.read_text(encoding="utf-8"), re.M))
        card = interface(mac=fields["HWADDR"].lower())
        card["dhcp4"] = fields.get("BOOTPROTO") == "dhcp"
        card["dhcp6"] = fields.get("DHCPV6C") == "yes"
        for suffix in [""] + [str(number) for number in range(1, 70)]:
            if f"IPADDR{suffix}" in fields:
                mask = ipaddress.ip_network(f"0.0.0.0/{fields[f'NETMASK{suffix}']}").prefixlen
                card["addresses"].append(f"{fields[f'IPADDR{suffix}']}/{mask}")
        card["addresses"] += [fields["IPV6ADDR"]] if "IPV6ADDR" in fields else []
        card["addresses"] += fields.get("IPV6ADDR_SECONDARIES", "").split()
        card["gateway4"] = fields.get("GATEWAY")
        card["gateway6"] = fields.get("IPV6_DEFAULTGW")
        card["mtu"] = int(fields["MTU"]) if "MTU" in fields else None
        interfaces[fields["DEVICE"]] = card
    for path in folder.glob("route*"):
        for line in path.read_text(encoding="utf-8").splitlines():
            assert line.startswith("#"), f"a route that is not the default one: {line}"
    resolv = Path(out, "etc/resolv.conf")
    for line in resolv.read_text(encoding="utf-8").splitlines() if resolv.exists() else []:
        key, _, rest = line.partition(" ")
        if key == "nameserver":
            dns.append(rest)
        elif key == "search":
            search += rest.split()
    return guest(interfaces, dns, search)


READERS = {
    "eni": read_eni,
    "networkd": read_networkd,
    "network-manager": read_network_manager,
    "netplan": read_netplan,
    "sysconfig": read_sysconfig,
}


if __name__ == "__main__":
    os.umask(0o077)
    json.dump([convert(network) for network in json.load(sys.stdin)], sys.stdout)
