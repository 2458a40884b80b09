"""`ceso test` of many small tests: each has a simulator and a worker of its own, and those that run a playbook a second worker."""

from statistics import median

from measure import Command, in_turns, spread

PLAYBOOK = """
return {
  params = { name = { type = "string" } },
  needs = {
    vm = { read = "*", copy_from = "debian-12", create = "web-*", configure = "web-*", power = "web-*" },
    datastore = { write = "datastore1" }, network = { use = "VM Network" },
  },
  run = function(p)
    local vm = esxi.connect():ensure_clone({ template = "debian-12", name = p.name })
    vm:ensure_power("on")
  end,
}
"""

TESTS = """
local check = require("@ceso/check")
local tests = {{}}
for n = 1, {count} do
  tests["test " .. n] = {body}
end
return {{ tests = tests }}
"""

BODIES = {
    "tests that run a playbook": """function(t)
    local name = "web-" .. n
    check.like(t:run("web.luau", { params = { name = name } }), { ok = true, changed = 2 })
    check.like(t:vm(name), { power = "on" })
  end""",
    "tests that only look": "function(t) check.equal(#t:inventory().vms, 1) end",
}


def playbook_tests(bench):
    """Beside the tests that run a playbook stand as many that do not: what a test costs without what it does."""
    count = 10 if bench.smoke else 100
    bench.report.section(f"`ceso test` of {count} small tests; a playbook here clones a machine and turns it on")
    environment = {"CESO_HOME": str(bench.folder / "tests-home")}
    commands = []
    for number, (name, body) in enumerate(BODIES.items()):
        folder = bench.folder / f"tests-{number}"
        folder.mkdir()
        (folder / "web.luau").write_text(PLAYBOOK)
        (folder / "web_test.luau").write_text(TESTS.format(count=count, body=body))
        commands.append(Command(name, [bench.ceso, "test", folder], environment))
    for command in commands:
        command.output()  # Shows that all pass; what is measured is silent.
    taken = in_turns(bench.rounds(9), [(command.name, command.run) for command in commands])
    walls = {name: [wall for wall, _ in runs] for name, runs in taken.items()}
    rows = [
        [f"{count} {name}", spread(walls[name], 1, 3), spread([cpu for _, cpu in runs], 1, 3)]
        for name, runs in taken.items()
    ]
    bench.report.table(["", "wall seconds", "cpu seconds"], rows)
    run_playbooks = next(iter(BODIES))
    bench.report.target(f"ceso test of {count} {run_playbooks}", median(walls[run_playbooks]), 3, " s")
