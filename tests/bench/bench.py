"""The comparisons; `run` beside this file says what they are and how to read them."""

import argparse
import functools
import json
import os
import shutil
import signal
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import measure
import servers
from growth import growing
from measure import Command, Failed, in_turns, ratio, spread
from playbook_tests import playbook_tests
from provision import provision
from repository import image_of, repository
from tasks import many_tasks
from transfers import transfers
from vmdk import exporting
from watched import watched

HERE = Path(__file__).parent
MB = 1e6


@dataclass
class Bench:
    """What all comparisons share: the programs, how much of everything, and a folder that is removed at the end."""

    ceso: Path
    ping_pong: Path
    peers: Path
    folder: Path
    smoke: bool
    report: measure.Report

    @property
    def vcsim(self):
        return self.peers / "bin/vcsim"

    @functools.cached_property
    def image(self):
        """The two versions of a disk that backups are measured with: a small one in a smoke run, the whole one else."""
        folder = self.folder / "image"
        folder.mkdir()
        return image_of(folder, (64 if self.smoke else 4096) << 20)

    def rounds(self, full):
        return 3 if self.smoke else full

    def script(self, name, text):
        path = self.folder / name
        path.write_text(text)
        return path


def empty_script(bench):
    bench.report.section("`ceso run` of an empty script")
    environment = {"CESO_HOME": str(bench.folder / "home")}
    commands = [
        Command("ceso run", [bench.ceso, "run", bench.script("empty.luau", "")], environment),
        Command("/bin/true", ["/bin/true"]),
    ]
    taken = in_turns(bench.rounds(41), [(command.name, command.run) for command in commands])
    rows = []
    for command in commands:
        walls, cpus = zip(*taken[command.name])
        rows.append([command.name, spread(walls, 1e3, 2), spread(cpus, 1e3, 2), f"{command.peak_memory() / MB:.1f}"])
    bench.report.table(["", "wall ms", "cpu ms", "rss MB"], rows)
    walls = [wall for wall, _ in taken["ceso run"]]
    bench.report.target("an empty script", statistics.median(walls) * 1e3, 10, " ms")


def host_call(bench, server):
    """A call that asks a host nothing: connecting to the host that is connected. Beside it the one pure operation, which has work to do."""
    bench.report.section("A host call through worker, door and back, beside a bare ping-pong of two processes over a socket pair")
    environment = server.environment(bench.folder / "calls-home")
    count = 2_000 if bench.smoke else 20_000
    connect, build = "esxi.connect()", 'cloudinit.build({ hostname = "a" })'

    def seconds(name, *lines):
        text = "\n".join(["esxi.connect()", *lines, ""])
        return Command(name, [bench.ceso, "run", bench.script(f"{name}.luau", text)], environment)

    def repeat(times, call):
        return f"for _ = 1, {times} do {call} end"

    sixteen = f"""
        require("@ceso/task").parallel(table.create(16, 0), function()
            {repeat(count // 16, connect)}
        end, {{ at_once = 16 }})"""
    base = seconds("nothing")
    scripts = {
        "esxi.connect() again": seconds("connect", repeat(count, connect)),
        "cloudinit.build": seconds("build", repeat(count, build)),
        "esxi.connect() again, 16 at once": seconds("sixteen", sixteen),
    }

    for command in [base, *scripts.values()]:
        command.output()  # The first one keeps its session; all of them show that they run.

    def per_call(command):
        # What the run costs without its calls is taken off: start, connection, end.
        return lambda: (command.run()[0] - base.run()[0]) / count * 1e6

    def ping_pong(depth, session):
        command = Command("ping-pong", [bench.ping_pong, count, depth, session])
        return lambda: float(command.output())

    measures = [(name, per_call(command)) for name, command in scripts.items()]
    measures += [
        ("ping-pong", ping_pong(1, "apart")),
        ("ping-pong, 16 at once", ping_pong(16, "apart")),
        ("ping-pong in one session", ping_pong(1, "together")),
    ]
    taken = in_turns(bench.rounds(11), measures)
    rows = [
        [name, spread(values), *(f"{ratio(values, taken[floor]):.2f}" for floor in ["ping-pong", "ping-pong in one session"])]
        for name, values in taken.items()
    ]
    bench.report.table(["", "µs a call", "÷ ping-pong", "÷ in one session"], rows)
    for name in ["esxi.connect() again", "esxi.connect() again, 16 at once"]:
        bench.report.target(f"{name} ÷ ping-pong", ratio(taken[name], taken["ping-pong"]), 1.3)


def list_machines(bench, server, machines, request):
    """The same list by every client; ceso, govc and curl with a session that was kept, pyVmomi with a login, as its scripts do."""
    bench.report.section(f"Machines of vcsim -esx with {machines:,}: name, power, address")
    home = bench.folder / f"home-{machines}"
    body = bench.folder / "request.xml"
    body.write_bytes(request)
    connection, cookie = server.login()
    connection.close()
    user = f"{servers.USER}:{servers.PASSWORD}"
    govc = {
        "GOVC_URL": server.url.replace("https://", f"https://{user}@"),
        "GOVC_INSECURE": "1",
        "GOVMOMI_HOME": str(home / "govmomi"),
    }
    headers = ["-H", "Content-Type: text/xml; charset=utf-8", "-H", 'SOAPAction: "urn:vim25/6.5"', "-b", cookie]
    curl = ["curl", "-sSfk", *headers, "--data-binary", f"@{body}", server.url]
    python = [bench.peers / "venv/bin/python", HERE / "pyvmomi_list.py"]
    ceso = [bench.ceso, "vm", "list"]
    ours = server.environment(home)
    commands = [
        Command("ceso vm list", ceso, ours),
        Command("govc vm.info '*'", [bench.peers / "bin/govc", "vm.info", "*"], govc),
        Command("govc find / -type m", [bench.peers / "bin/govc", "find", "/", "-type", "m"], govc),
        Command("pyVmomi", [*python, server.host, server.port, servers.USER, servers.PASSWORD]),
        Command("curl", curl),
    ]
    # The first run of each keeps its session, and shows that all see the same machines.
    seen = [
        len(json.loads(Command("ceso vm list", [*ceso, "--output", "json"], ours).output())),
        commands[1].output().count(b"Name:  "),
        len(commands[2].output().splitlines()),
        len(commands[3].output().splitlines()),
        commands[4].output().count(b'<obj type="VirtualMachine">'),
    ]
    if seen != [machines] * len(commands):
        raise Failed(f"the clients saw {dict(zip((c.name for c in commands), seen))}, not {machines} machines each")
    taken = in_turns(bench.rounds(15 if machines <= 500 else 9), [(command.name, command.run) for command in commands])
    walls = {name: [wall for wall, _ in runs] for name, runs in taken.items()}
    memory = {command.name: max(command.peak_memory() for _ in range(bench.rounds(3))) for command in commands}
    rows = [
        [
            command.name,
            spread(walls[command.name], 1e3),
            f"{ratio(walls['ceso vm list'], walls[command.name]):.2f}",
            spread([cpu for _, cpu in taken[command.name]], 1e3),
            f"{memory[command.name] / MB:.1f}",
        ]
        for command in commands
    ]
    bench.report.table(["", "wall ms", "ceso ÷ it", "cpu ms", "rss MB"], rows)
    target = lambda name, limit: bench.report.target(
        f"ceso vm list ÷ {name}, {machines:,} machines", ratio(walls["ceso vm list"], walls[name]), limit
    )
    target("govc vm.info '*'", 0.35 if machines >= 1000 else 0.5)
    if machines >= 1000:
        target("curl", 1.5)
        bench.report.target(f"memory of ceso vm list, {machines:,} machines", memory["ceso vm list"] / MB, 60, " MB")


def simulator(bench, machines, request, vcsim_seconds):
    bench.report.section(f"A simulator of {machines:,} machines, from its start to the answer to a first login and list")
    seconds = []
    for _ in range(bench.rounds(7)):
        with servers.ceso_sim(bench.ceso, machines) as server:
            found = server.count(request)
            seconds.append(time.perf_counter() - server.started)
        if found < machines:
            raise Failed(f"ceso sim --vms {machines} showed {found} machines")
    rows = [[f"ceso sim --vms {machines}", spread(seconds, 1, 3)], ["vcsim -esx", f"{vcsim_seconds:.1f} (once)"]]
    bench.report.table(["", "seconds"], rows)
    bench.report.target(f"ceso sim --vms {machines}", statistics.median(seconds), 1, " s")


def started_vcsim(bench, machines, request):
    """A vcsim, and the seconds from its start to the answer to a first login and list."""
    print(f"starting vcsim with {machines:,} machines …", file=sys.stderr, flush=True)
    server = servers.vcsim(bench.vcsim, machines)
    found = server.count(request)
    took = time.perf_counter() - server.started
    if found != machines:
        with server:
            raise Failed(f"vcsim showed {found} machines, not {machines}")
    return server, took


# What needs nothing of the others, by the name that `--only` takes.
APART = {
    "tasks": many_tasks,
    "transfers": transfers,
    "watched": watched,
    "tests": playbook_tests,
    "provision": provision,
    "repository": repository,
    "vmdk": exporting,
    "growth": growing,
}


def compare(bench):
    request = servers.recorded_request(bench.vcsim, bench.ceso, bench.folder)
    empty_script(bench)
    few, many = (10, 10) if bench.smoke else (100, 2_000)
    server, took = started_vcsim(bench, few, request)
    with server:
        host_call(bench, server)
        list_machines(bench, server, few, request)
    if many != few:
        server, took = started_vcsim(bench, many, request)
        with server:
            list_machines(bench, server, many, request)
    simulator(bench, many, request, took)
    for comparison in APART.values():
        comparison(bench)


def main():
    parser = argparse.ArgumentParser(prog="tests/bench/run", description="ceso beside its peers, on the same work, in one run")
    parser.add_argument("--smoke", action="store_true", help="small numbers: shows that the benches run")
    parser.add_argument("--only", action="append", choices=APART, metavar="NAME", help=f"only this; may be repeated: {', '.join(APART)}")
    options = parser.parse_args()
    # A request to end takes the same way out as any other end: the servers are ended, the folder is removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    measure.adopt_orphans()
    peers = Path(os.environ["CESO_PEERS"])
    for program in ["restic", "borg", "mke2fs", "qemu-img"]:
        if not shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin"):
            sys.exit(f"{program} is missing: run tests/peers/prepare")
    for peer in ["bin/vcsim", "bin/govc", "venv/bin/python"]:
        if not (peers / peer).exists():
            sys.exit(f"{peers / peer} is missing: run tests/peers/prepare")
    with tempfile.TemporaryDirectory(prefix="ceso-bench-") as folder:
        paths = (Path(os.environ["BENCH_CESO"]), Path(os.environ["PING_PONG"]), peers, Path(folder))
        bench = Bench(*paths, options.smoke, measure.Report())
        try:
            for name in options.only or []:
                APART[name](bench)
            if not options.only:
                compare(bench)
            bench.report.summary()
        except Failed as failed:
            sys.exit(f"bench: {failed}")


main()
