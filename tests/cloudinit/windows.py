"""The guest's side on Windows: the real cloudbase-init over documents that ceso has made. JSON in, JSON out.

    windows.py < [{"guestinfo.metadata": ...}, ...]

Its own data source, network plugin and user-data plugins run; what they would call Windows for is recorded: accounts, groups, passwords, addresses,
host name, time, files, scripts.
"""

import base64
import contextlib
import json
import logging
import ntpath
import sys
from unittest import mock

from cloudbaseinit import conf
from cloudbaseinit.metadata.services import vmwareguestinfoservice
from cloudbaseinit.osutils import factory
from cloudbaseinit.plugins.common import networkconfig, userdata
from cloudbaseinit.plugins.common.userdataplugins.cloudconfigplugins import runcmd, users, write_files
from cloudbaseinit.plugins.common.userdataplugins import shellscript

CONF = conf.CONF


RECORDED = (
    "create_user", "set_user_password", "set_user_info", "add_user_to_local_group", "create_group", "set_host_name", "set_timezone",
    "set_ntp_client_config", "set_static_network_config", "rename_network_adapter", "set_network_adapter_mtu", "create_network_team",
)


def recorder(calls, name):
    def record(*arguments, **named):
        calls.append([name, *arguments, *([named] if named else [])])
        return False

    return record


def windows(guestinfo, macs):
    osutils, calls = mock.MagicMock(), []
    cards = {mac.lower(): f"Ethernet{index}" for index, mac in enumerate(macs)}
    for name in RECORDED:
        setattr(osutils, name, recorder(calls, name))

    def rpctool(command):
        key = command[1].split(" ", 1)[1]
        value = guestinfo.get(key)
        return (value.encode(), b"", 0) if value else (b"", b"No value found", 1)

    osutils.execute_process = rpctool
    osutils.get_network_adapter_name_by_mac_address = lambda mac: cards[mac.lower()]
    osutils.get_maximum_password_length = lambda: 20
    osutils.generate_random_password = lambda length: "random"
    osutils.user_exists = lambda name: False
    osutils.group_exists = lambda name: False
    osutils.get_user_home = lambda name: f"C:\\Users\\{name}"
    osutils.get_default_script_exec_header = lambda: "rem cmd"
    return osutils, calls


def text(data):
    return data.decode("utf-8") if isinstance(data, bytes) else data


def guest(given):
    osutils, calls = windows(given["guestinfo"], given["macs"])
    files, scripts, keys = [], [], []
    with contextlib.ExitStack() as patches:
        patches.enter_context(mock.patch.object(factory, "get_os_utils", lambda: osutils))
        patches.enter_context(mock.patch.object(write_files.os.path, "abspath", ntpath.normpath))
        patches.enter_context(mock.patch.object(write_files, "_write_file", lambda path, content, mode, how="wb": files.append(
            [path, base64.b64encode(content).decode(), how])))
        run = lambda script: scripts.append(text(script)) or 0
        patches.enter_context(mock.patch.object(runcmd.userdatautils, "execute_user_data_script", run))
        patches.enter_context(mock.patch.object(users.UsersPlugin, "_set_ssh_public_keys", staticmethod(
            lambda name, public, _: keys.append([name, list(public)]))))
        patches.enter_context(mock.patch.object(shellscript.ShellScriptPlugin, "process", lambda self, part: scripts.append(
            text(part.get_payload(decode=True)))))
        service = vmwareguestinfoservice.VMwareGuestInfoService()
        with mock.patch.object(vmwareguestinfoservice.os.path, "exists", lambda path: True):
            assert service.load()
        networkconfig.NetworkConfigPlugin().execute(service, {})
        userdata.UserDataPlugin().execute(service, {})
        return {
            "instance_id": service.get_instance_id(),
            "hostname": service.get_host_name(),
            "administrator_keys": sorted(service.get_public_keys()),
            "calls": calls,
            "files": files,
            "scripts": scripts,
            "keys": keys,
            "complaints": COMPLAINTS.said,
        }


class Complaints(logging.Handler):
    """What cloudbase-init logs as a warning or worse: a key that it passes over is there."""

    said = []

    def emit(self, record):
        if record.levelno >= logging.WARNING:
            self.said.append(record.getMessage())


COMPLAINTS = Complaints()


def main():
    logging.getLogger().addHandler(COMPLAINTS)
    CONF([], project="cloudbase-init", default_config_files=[])
    CONF.set_override("vmware_rpctool_path", "/rpctool", "vmwareguestinfo")
    answers = []
    for given in json.load(sys.stdin):
        COMPLAINTS.said = []
        answers.append(guest(given))
    json.dump(answers, sys.stdout, default=str)


if __name__ == "__main__":
    main()
