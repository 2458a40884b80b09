"""What it costs to be watched: the same playbook with the audit log and the metrics on and off, in turns, on one simulator."""

import servers
from measure import Command, in_turns, spread
from statistics import median

READS = """
local host = esxi.connect()
for _ = 1, {count} do host:vm("debian-12") end
"""

CHANGES = """
local host = esxi.connect()
local vm = host:ensure_clone({{ template = "debian-12", name = "watched" }})
vm:ensure_power("off")
for n = 1, {count} do
    if n % 2 == 1 then vm:power_on() else vm:power_off() end
end
"""


def watched(bench):
    """What a run costs without its operations is in every variant alike, so the differences are the operations' own."""
    reads, changes = (200, 20) if bench.smoke else (10_000, 1_000)
    bench.report.section(f"A playbook of {reads:,} reads and {changes:,} changes on the simulator, with the audit log and the metrics on and off")
    scripts = {
        "reads": bench.script("reads.luau", READS.format(count=reads)),
        "changes": bench.script("changes.luau", CHANGES.format(count=changes)),
    }
    off, on = {"CESO_SECURITY_AUDIT": "false"}, {"CESO_METRICS_ENABLED": "true", "CESO_METRICS_PORT": "0"}
    variants = {"nothing": off, "metrics": {**off, **on}, "audit": {}, "audit and metrics": on}
    with servers.ceso_sim(bench.ceso, 0) as server:
        environment = server.environment(bench.folder / "watched-home")
        commands = {}
        for script, file in scripts.items():
            for variant, more in variants.items():
                argv = [bench.ceso, "run", "--timeout", "10m", file]
                commands[script, variant] = Command(f"{script}, {variant}", argv, {**environment, **more})
        for script in scripts:
            commands[script, "nothing"].output()  # The first one keeps its session; each shows that it runs.
        taken = in_turns(bench.rounds(7), [(key, command.run) for key, command in commands.items()])
    rows = []
    for (script, variant), figures in taken.items():
        walls, cpus = zip(*figures)
        rows.append([f"{script}, {variant}", spread(walls, 1e3), spread(cpus, 1e3)])
    bench.report.table(["", "wall ms", "cpu ms"], rows)

    def more(script, variant, place):
        """The median of the rounds' own differences to the same script unwatched, in seconds."""
        pairs = zip(taken[script, variant], taken[script, "nothing"], strict=True)
        return median(watched[place] - bare[place] for watched, bare in pairs)

    both = list(zip(*(taken[script, variant] for script in scripts for variant in ("nothing", "metrics")), strict=True))
    shares = [(reads_on[1] + changes_on[1]) / (reads_off[1] + changes_off[1]) - 1 for reads_off, reads_on, changes_off, changes_on in both]
    bench.report.target("metrics, of the processor time", median(shares) * 100, 1, " %")
    bench.report.target("audit of a change, with its syncs", more("changes", "audit", 0) / changes * 1e3, 2, " ms")
    bench.report.target("audit of a read", more("reads", "audit", 0) / reads * 1e6, 20, " µs")
    cpu = more("reads", "audit", 1) / reads * 1e6
    print(f"  audit of a read, processor time of all threads: {cpu:.1f} µs", flush=True)
