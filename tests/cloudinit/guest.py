"""The guest's side: Debian's real cloud-init over documents that ceso has made. Run by /usr/bin/python3; JSON in, JSON out.

    guest.py boots < [[{"guestinfo.metadata": ...}, ...], ...]   sequences of boots, each with the guestinfo that it finds
    guest.py schema < ["/path", ...]                   what `cloud-init schema` has against files
    guest.py parts < ["Content-Type: ...", ...]        what user-data of several parts comes apart into
    guest.py nocloud < ["/folder", ...]                what the NoCloud data source finds in the files of seed images
    guest.py read  < ["#cloud-config ...", ...]     what cloud-init's YAML reader makes of texts

`boots` runs cloud-init's own stages (data source, instance, network decision, user-data). Three things of a real machine are stood in
for: the DMI product name, the `vmware-rpctool` program, and the writing of network files, which is recorded in place of done.
"""

import argparse
import contextlib
import io
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from unittest import mock

from cloudinit import helpers, stages, util, version
from cloudinit.config import schema
from cloudinit.settings import PER_ALWAYS, PER_INSTANCE
from cloudinit.sources import DataSourceNoCloud, DataSourceVMware
from cloudinit.user_data import UserDataProcessor

# --- Boots --------------------------------------------------------------------------------------------------------------------

RPCTOOL = """#!/usr/bin/python3
import json, sys
action, _, key = sys.argv[1].partition(" ")
store = json.load(open({store!r}, encoding="utf-8"))
if action == "info-get":
    if key not in store:
        sys.stderr.write("No value found")
        sys.exit(1)
    sys.stdout.write(store[key])
elif action == "info-set":
    key, _, value = key.partition(" ")
    store[key] = value
    json.dump(store, open({store!r}, "w", encoding="utf-8"))
"""


class Paths(helpers.Paths):
    """cloud-init looks for the instance's configuration under /var/lib/cloud whatever its settings say; here it must not."""

    root = None

    def __init__(self, settings, source=None):
        super().__init__({**settings, "cloud_dir": f"{Paths.root}/lib", "run_dir": f"{Paths.root}/run"}, source)


class Machine:
    """One guest: its disk stays from boot to boot, its /run does not."""

    def __init__(self, root):
        self.root = Path(root)
        self.store = self.root / "guestinfo.json"
        self.rpctool = self.root / "vmware-rpctool"
        self.rpctool.write_text(RPCTOOL.format(store=str(self.store)), encoding="utf-8")
        self.rpctool.chmod(0o755)
        self.uuid = self.root / "product_uuid"
        self.uuid.write_text("4c4c4544-0000-1000-8000-000000000000\n", encoding="utf-8")
        self.config = self.root / "cloud.cfg"
        settings = {"datasource_list": ["VMware"], "system_info": {"distro": "debian"}}
        self.config.write_text(json.dumps(settings), encoding="utf-8")

    def boot(self, guestinfo):
        shutil.rmtree(self.root / "run", ignore_errors=True)
        (self.root / "run").mkdir()
        self.store.write_text(json.dumps(guestinfo), encoding="utf-8")
        applied = []
        Paths.root = self.root
        with contextlib.ExitStack() as patches:
            for target, name, value in [
                (stages, "CLOUD_CONFIG", str(self.config)),
                (stages, "RUN_CLOUD_CONFIG", str(self.root / "no-such-file")),
                (stages.helpers, "Paths", Paths),
                (stages.util, "read_conf_from_cmdline", lambda *_: {}),
                (stages.cmdline, "read_kernel_cmdline_config", lambda *_: None),
                (stages.cmdline, "read_initramfs_config", lambda *_: None),
                (DataSourceVMware, "VMWARE_RPCTOOL", str(self.rpctool)),
                (DataSourceVMware.dmi, "read_dmi_data", lambda key: "VMware Virtual Platform"),
                (DataSourceVMware, "PRODUCT_UUID_FILE_PATH", str(self.uuid)),
                (DataSourceVMware, "wait_on_network", lambda metadata: {}),
            ]:
                patches.enter_context(mock.patch.object(target, name, value))
            init = stages.Init()
            init.read_cfg()
            init.initialize()
            init.purge_cache()
            init.fetch(existing="check")
            init.instancify()
            distro = init.distro
            with mock.patch.object(type(distro), "apply_network_config", lambda _, config, bring_up=False: applied.append(config)), \
                 mock.patch.object(type(distro.networking), "wait_for_physdevs", lambda *_: None), \
                 mock.patch.object(type(distro.networking), "apply_network_config_names", lambda *_: None):
                init.apply_network_config(bring_up=False)
            is_new = init.is_new_instance()
            init.setup_datasource()
            init.update()
            ran, _ = init.cloudify().run("consume_data", init.consume_data, args=[PER_INSTANCE], freq=PER_INSTANCE)
            if not ran:
                init.consume_data(PER_ALWAYS)
            # The modules that run once for each instance ask this same question.
            hostname, fqdn, _ = util.get_hostname_fqdn(init.cfg, init.cloudify())
            again, _ = init.cloudify().run("config-ssh", lambda: None, args=[], freq=PER_INSTANCE)
            return {
                "version": version.version_string(),
                "source": init.datasource.dsname,
                "instance_id": init.datasource.get_instance_id(),
                "new_instance": is_new,
                "per_instance_modules_run": again,
                "hostname": hostname,
                "fqdn": fqdn,
                "network": init.datasource.network_config,
                "network_applied": applied,
                "vendor_data": text(init.datasource.get_vendordata_raw()),
                "cloud_config": util.load_yaml(util.load_file(init.paths.get_ipath_cur("cloud_config"))),
            }


def boots(sequence):
    with tempfile.TemporaryDirectory() as root:
        machine = Machine(root)
        return [machine.boot(guestinfo) for guestinfo in sequence]


def text(data):
    """User-data is text or bytes, by version; nothing is None."""
    return (data.decode("utf-8") if isinstance(data, bytes) else data) or None


# --- The schema ---------------------------------------------------------------------------------------------------------------


def schema_problem(path):
    """What `cloud-init schema` says against a file: nothing, or its complaint. What is deprecated is one too."""
    parser = schema.get_parser()
    arguments = parser.parse_args(["--config-file", path])
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            schema.handle_schema_args("schema", arguments)
        except SystemExit as end:
            if end.code:
                return f"{end.code}: {said.getvalue()}"
    answer = said.getvalue()
    return None if "Valid" in answer and "deprecat" not in answer.lower() else answer


# --- Parts --------------------------------------------------------------------------------------------------------------------


def parts(user_data):
    """What cloud-init takes user-data apart into: the type, the name and the content of each part that a handler gets."""
    with tempfile.TemporaryDirectory() as root:
        paths = helpers.Paths({"cloud_dir": f"{root}/lib", "run_dir": f"{root}/run"})
        message = UserDataProcessor(paths).process(user_data)
        found = []
        for part in message.walk():
            if part.get_content_maintype() != "multipart":
                found.append([part.get_content_type(), part.get_filename(), util.fully_decoded_payload(part)])
        return found


# --- Seed images --------------------------------------------------------------------------------------------------------------


def nocloud(folder):
    """What the NoCloud data source finds in a device labelled `cidata` that holds these files."""
    with tempfile.TemporaryDirectory() as root:
        paths = helpers.Paths({"cloud_dir": f"{root}/lib", "run_dir": f"{root}/run"})
        source = DataSourceNoCloud.DataSourceNoCloud({}, mock.Mock(), paths)
        found = ("TYPE=iso9660", "LABEL=cidata")
        labelled = lambda criteria=None, *_, **__: ["/dev/sr0"] if criteria in found else []
        with mock.patch.object(DataSourceNoCloud.util, "find_devs_with", labelled), \
             mock.patch.object(DataSourceNoCloud.util, "mount_cb", lambda device, callback, data=None, **_: callback(folder, data)), \
             mock.patch.object(DataSourceNoCloud.util, "get_cmdline", lambda: ""), \
             mock.patch.object(DataSourceNoCloud.dmi, "read_dmi_data", lambda key: None):
            assert source.get_data()
        hostname = source.get_hostname()
        return {
            "instance_id": source.get_instance_id(),
            "hostname": getattr(hostname, "hostname", hostname),
            "user_data": text(source.userdata_raw),
            "vendor_data": text(source.vendordata_raw),
            "network": source.network_config or None,
        }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["boots", "read", "nocloud", "schema", "parts"])
    what = parser.parse_args().what
    given = json.load(sys.stdin)
    if what == "boots":
        answer = [boots(sequence) for sequence in given]
    elif what == "parts":
        answer = [parts(text) for text in given]
    elif what == "schema":
        answer = [schema_problem(path) for path in given]
    elif what == "nocloud":
        answer = [nocloud(folder) for folder in given]
    else:
        answer = [util.load_yaml(text) for text in given]
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    os.umask(0o077)
    main()
