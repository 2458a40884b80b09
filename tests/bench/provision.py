"""A machine from its template to its answering address, on the simulator with its delays at zero: what of that is the runtime's own."""

import itertools
import os
from statistics import median

import servers
from measure import Command, in_turns, spread


def processor_seconds(pid):
    """What a process has computed so far, in steps of a clock tick (10 ms): for sums over many runs."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def provision(bench):
    """The clone of one template under a new name each time, with an address, turned on and waited for."""
    rounds = bench.rounds(21)
    bench.report.section("`ceso vm clone --address --wait` on the simulator with its delays at zero, kept session")
    with servers.ceso_sim(bench.ceso, 0, "--boot", "0s") as server:
        environment = server.environment(bench.folder / "provision-home")
        numbers = itertools.count(1)

        def clone():
            number = next(numbers)
            words = ["vm", "clone", "debian-12", f"web-{number}", "--address", f"10.0.{1 + number // 200}.{2 + number % 200}/16"]
            return Command("clone", [bench.ceso, *words, "--wait"], environment)

        clone().output()  # Keeps its session, and shows that it works.
        idle = Command("list", [bench.ceso, "vm", "list"], environment)
        before = processor_seconds(server.process.pid)
        runs = [clone().run() for _ in range(rounds)]
        of_server = (processor_seconds(server.process.pid) - before) / rounds
        lists = in_turns(rounds, [("list", idle.run)])["list"]
    walls = [wall for wall, _ in runs]
    rows = [
        ["the whole command", spread(walls, 1e3), spread([cpu for _, cpu in runs], 1e3)],
        ["`ceso vm list`, beside it", spread([wall for wall, _ in lists], 1e3), spread([cpu for _, cpu in lists], 1e3)],
        ["the simulator, for each clone (mean)", "", f"{of_server * 1e3:.1f}"],
    ]
    bench.report.table(["", "wall ms", "cpu ms"], rows)
    bench.report.target("from template to address, but for the simulator's processor time", (median(walls) - of_server) * 1e3, 50, " ms")
