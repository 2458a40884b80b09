"""A machine of its own for the real cloud-init: a scratch root over this one's, in namespaces of its own. Run as root; JSON in, JSON out.

    machine.py < [[{"guestinfo.metadata": ...}, ...], ...]     sequences of boots, each with the guestinfo that it finds

Each sequence is one machine: its disk (an overlay over `/`, in memory) stays from boot to boot, its /run does not. A boot runs the program
`cloud-init` in its four stages, with all modules of Debian's configuration, and the real useradd, chpasswd and ssh-keygen. It sees no disks, no
network and no processes but its own (mount, PID, UTS, IPC and network namespaces), so nothing of this machine is touched. Stood in for: the network
card (a folder as /sys has them), ifupdown, and guestinfo, which comes by cloud-init's own environment transport.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

# What the drop-in says besides the source: what cloud images say (Debian's own, and others'), so that there is something to protect.
DROP_IN = {
    "datasource_list": ["VMware"],
    "manage_etc_hosts": True,
    "preserve_hostname": False,
    "apt": {"preserve_sources_list": False},
    "ssh_deletekeys": True,
    "system_info": {"network": {"renderers": ["eni"]}},
    "output": {"all": "| tee -a /var/log/cloud-init-output.log"},
}

STAGES = (
    ("init", "--local"),
    ("init",),
    ("modules", "--mode", "config"),
    ("modules", "--mode", "final"),
)

# What must be the same after a re-IP, besides all accounts.
WATCHED = (
    "etc/hostname",
    "etc/hosts",
    "etc/fstab",
    "etc/passwd",
    "etc/shadow",
    "etc/group",
    "etc/sudoers.d/90-cloud-init-users",
    "etc/apt/sources.list",
    "etc/default/locale",
    "etc/locale.gen",
    "etc/ssh/sshd_config",
    "etc/ssh/ssh_host_ed25519_key",
    "etc/ssh/ssh_host_rsa_key",
    "etc/ssh/ssh_host_ecdsa_key",
    "etc/timezone",
    "home/ops/.ssh/authorized_keys",
    "root/.ssh/authorized_keys",
    "etc/written",
    "var/log/commands",
    "var/log/boot-commands",
    "etc/network/interfaces.d/50-cloud-init",
    "etc/cloud/templates/hosts.debian.tmpl",
)


def run(*command, **more):
    return subprocess.run(command, check=True, **more)


def make(disk, mac):
    """The root of one machine. Answers where it is mounted."""
    for name in ("upper", "work", "root"):
        (disk / name).mkdir()
    options = f"lowerdir=/,upperdir={disk}/upper,workdir={disk}/work"
    root = disk / "root"
    run("mount", "-t", "overlay", "overlay", "-o", options, str(root))
    for path in ("etc/cloud/cloud-init.disabled", "etc/cloud/cloud.cfg.d", "var/lib/cloud", "etc/ssh"):
        path = root / path
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for path in ("etc/cloud/cloud.cfg.d", "etc/ssh", "etc/apt", "etc/network/interfaces.d", "newest"):
        (root / path).mkdir(parents=True, exist_ok=True)
    packages = os.environ.get("PYTHONPATH")
    if packages:
        # The newest release lies in a folder; its configuration and templates belong to it.
        shutil.copytree(Path(packages).parents[3] / "etc/cloud", root / "etc/cloud", dirs_exist_ok=True)
        run("mount", "--bind", packages, str(root / "newest"))
    (root / "etc/cloud/cloud.cfg.d/99-test.cfg").write_text(json.dumps(DROP_IN), encoding="utf-8")
    (root / "etc/ssh/sshd_config").write_text("UsePAM yes\n", encoding="utf-8")
    (root / "etc/ssh/ssh_host_rsa_key").write_text("of the image\n", encoding="utf-8")
    (root / "etc/apt/sources.list").write_text("deb http://mirror.example.org/debian bookworm main\n", encoding="utf-8")
    (root / "etc/fstab").write_text("UUID=0f3a / ext4 defaults 0 1\n", encoding="utf-8")
    (root / "etc/network/interfaces").write_text("source /etc/network/interfaces.d/*\n", encoding="utf-8")
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n127.0.1.1 template template\n", encoding="utf-8")
    (root / "etc/hostname").write_text("template\n", encoding="utf-8")
    for name in ("ifup", "ifdown", "ifquery", "systemctl", "service", "apt-get", "udevadm", "locale-gen", "update-locale"):
        does = 'echo "$2" >/etc/default/locale' if name == "update-locale" else "exit 0"
        # Before the real ones: /usr/local/sbin is first in PATH, and cloud-init looks for ifupdown in /usr/sbin alone.
        tool = root / ("usr/sbin" if name.startswith("if") else "usr/local/sbin") / name
        tool.write_text(f"#!/bin/sh\n{does}\n", encoding="utf-8")
        tool.chmod(0o755)
    # What the machine's kernel shows.
    run("mount", "-t", "tmpfs", "tmpfs", str(root / "sys"))
    card = root / "sys/class/net/eth0"
    card.mkdir(parents=True)
    for name, text in {
        "address": mac, "addr_assign_type": "0", "type": "1", "operstate": "up", "carrier": "1", "dev_id": "0x0",
        "ifindex": "2", "iflink": "2", "name_assign_type": "4", "uevent": "INTERFACE=eth0\nIFINDEX=2",
    }.items():
        (card / name).write_text(text + "\n", encoding="utf-8")
    loop = root / "sys/class/net/lo"
    loop.mkdir()
    for name, text in {"address": "00:00:00:00:00:00", "type": "772", "operstate": "unknown", "dev_id": "0x0", "ifindex": "1", "iflink": "1"}.items():
        (loop / name).write_text(text + "\n", encoding="utf-8")
    run("mount", "-t", "tmpfs", "tmpfs", str(root / "dev"))
    for name, major, minor in (("null", 1, 3), ("zero", 1, 5), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0), ("console", 5, 1)):
        os.mknod(root / "dev" / name, 0o20666, os.makedev(major, minor))
    return root


def boot(root, guestinfo):
    environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "VMX_GUESTINFO": "1"}
    if os.environ.get("PYTHONPATH"):
        environment["PYTHONPATH"] = "/newest"
    for key, value in guestinfo.items():
        if value:
            environment[key.upper().replace(".", "_").replace("GUESTINFO_", "VMX_GUESTINFO_", 1)] = value
    lines = ["set -u", "mount -t proc proc /proc", "mount -t tmpfs tmpfs /run", "mount -t tmpfs tmpfs /tmp", "mkdir -p /run/lock /run/systemd/system",
             "hostname \"$(cat /etc/hostname)\""]
    for stage in STAGES:
        # A stage that ends with 1 has warned: what counts is what it did.
        lines.append(f"/usr/bin/python3 -m cloudinit.cmd.main {' '.join(stage)} >>/var/log/boot.log 2>&1 </dev/null; echo \"{stage[-1]} $?\" >>/run/stages")
    lines += ["hostname >/run/hostname", "cp -r /run /var/lib/last-run"]
    script = root / "var/lib/boot.sh"
    script.write_text("\n".join(lines) + "\n", encoding="utf-8")
    for name in ("var/lib/last-run",):
        shutil.rmtree(root / name, ignore_errors=True)
    for name in ("var/log/cloud-init.log", "var/log/boot.log"):
        (root / name).unlink(missing_ok=True)
    run("unshare", "--mount", "--pid", "--uts", "--ipc", "--net", "--fork", "--kill-child", "chroot", str(root), "/bin/sh", "/var/lib/boot.sh",
        env=environment, stdout=sys.stderr, timeout=300)
    ran = root / "var/lib/last-run"
    log = (root / "var/log/boot.log").read_text(encoding="utf-8")
    finished = root / "var/lib/cloud/data/result.json"
    if not finished.is_file():
        sys.exit(log[-8000:])
    result = json.loads(finished.read_text(encoding="utf-8"))
    finished.unlink()
    if (root / "var/log/cloud-init.log").is_file():
        log += (root / "var/log/cloud-init.log").read_text(encoding="utf-8")
    return {
        "files": {path: read(root / path) for path in WATCHED},
        "hostname": (ran / "hostname").read_text(encoding="utf-8").strip(),
        "instance_id": (root / "var/lib/cloud/data/instance-id").read_text(encoding="utf-8").strip(),
        "source": result["v1"]["datasource"],
        "errors": result["v1"]["errors"],
        "warnings": [line[:500] for line in log.splitlines() if "[WARNING]" in line or "[ERROR]" in line or "Traceback" in line],
        "per_instance_modules": sorted(set(re.findall(r"Running config-(\S+) using lock \(<FileLock using file '/var/lib/cloud/instances/", log))),
    }


def read(path):
    """A file as it may be compared: small ones whole."""
    if not path.is_file():
        return None
    data = path.read_bytes()
    if path.name.startswith("ssh_host_"):
        return hashlib.sha256(data).hexdigest()
    return data.decode("utf-8", "replace")


def machine(sequence):
    disk = Path(tempfile.mkdtemp(prefix="ceso-machine-"))
    try:
        run("mount", "-t", "tmpfs", "tmpfs", str(disk))
        root = make(disk, "00:50:56:00:00:01")
        return [boot(root, guestinfo) for guestinfo in sequence]
    finally:
        subprocess.run(["umount", "--recursive", str(disk)], check=False)
        os.rmdir(disk)


def main():
    if os.geteuid() != 0:
        sys.exit("machine.py makes namespaces and mounts: run it as root")
    if "CESO_MACHINE" not in os.environ:
        # Nothing that is mounted here is seen by anyone else, and all of it goes with this process.
        os.environ["CESO_MACHINE"] = "1"
        os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", sys.executable, *sys.argv])
    json.dump([machine(sequence) for sequence in json.load(sys.stdin)], sys.stdout)


if __name__ == "__main__":
    main()
