"""Many tasks at once: how many connections and requests the simulator counts for them, and that nobody polls."""

import base64
import json
import ssl
import urllib.request

import servers
from measure import Command, Failed

SCRIPT = """
local task = require("@ceso/task")
local host = esxi.connect()
local off = host:find({{ name = "vm-*" }})
assert(#off == {count}, #off)
for _, result in task.parallel(off, function(vm) vm:power_off() end, {{ at_once = {count} }}) do
    assert(result.ok, if result.ok then nil else result.fault.message)
end
"""

DELAY = 3


def asked(server):
    """What the simulator was asked so far: its connections, and the requests of each method."""
    account = base64.b64encode(f"{servers.USER}:{servers.PASSWORD}".encode()).decode()
    request = urllib.request.Request(
        f"https://{server.host}:{server.port}/simulator/requests", headers={"Authorization": f"Basic {account}"}
    )
    with urllib.request.urlopen(request, context=ssl._create_unverified_context()) as answer:
        told = json.load(answer)
    return told["connections"], told["requests"]


def many_tasks(bench):
    """One run that turns all machines off at once, each task of some seconds; with one connection for requests, and with the pool as it is."""
    count = 20 if bench.smoke else 200
    bench.report.section(f"{count} tasks of {DELAY} s at once, counted on the simulator")
    script = bench.script("tasks.luau", SCRIPT.format(count=count))
    rows, seen = [], {}
    # A script has 64 calls at once unless its operator gives it more.
    limits = {"CESO_SANDBOX_CALLS_AT_ONCE": str(count)}
    for name, more in {"one connection": {"CESO_CONNECTION_POOL_MAX_CONNECTIONS": "1", "CESO_CONNECTION_POOL_MIN_CONNECTIONS": "0"}, "the pool": {}}.items():
        with servers.ceso_sim(bench.ceso, count, "--task-delay", f"{DELAY}s") as server:
            environment = {**server.environment(bench.folder / f"tasks-{name.replace(' ', '-')}"), **limits, **more}
            before, _ = asked(server)
            wall, cpu = Command(name, [bench.ceso, "run", "--timeout", "10m", script], environment).run()
            after, requests = asked(server)
        if requests.get("PowerOffVM_Task") != count:
            raise Failed(f"{requests.get('PowerOffVM_Task')} tasks were begun, not {count}")
        # The look afterwards is a connection too.
        connections = after - before - 1
        waits = sum(times for method, times in requests.items() if method.startswith("WaitForUpdates"))
        reads = sum(times for method, times in requests.items() if method.startswith("RetrieveProperties"))
        filters = requests.get("CreateFilter", 0)
        seen[name] = (connections, waits, filters, requests.get("Login", 0))
        rows.append([name, f"{wall:.1f}", f"{cpu:.2f}", connections, requests.get("Login", 0), filters, waits, reads, sum(requests.values())])
    bench.report.table(["", "wall s", "cpu s", "connections", "logins", "filters", "waits", "reads", "requests"], rows)
    for name, (connections, waits, filters, logins) in seen.items():
        # Beside those for requests stands the one on which updates are waited for.
        bench.report.target(f"logins, {name}", logins, 1)
        bench.report.target(f"waits for updates of {count} tasks, {name}", waits, count)
    bench.report.target("connections, with one for requests and one that waits", seen["one connection"][0], 2)
