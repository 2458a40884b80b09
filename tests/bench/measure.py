"""Runs commands and takes their time, processor time and memory; lays figures out as text. Knows nothing of ceso."""

import ctypes
import os
import re
import statistics
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass

PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans():
    """Makes this process the parent of what its commands leave behind, so that their time is counted and none stays."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children(pid):
    """The processes that any thread of a process has started."""
    found = set()
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children") as file:
                found.update(int(word) for word in file.read().split())
    except OSError:
        pass  # It has just ended.
    return found


class Failed(Exception):
    """A command that is to be measured did not do its work."""


@dataclass
class Weight:
    """What one run of a command took."""

    wall: float  # seconds
    cpu: float  # seconds, user and system
    memory: int  # the peak of resident memory in bytes; never below this process's own, which the kernel counts to it
    read: int  # bytes that it asked of files, whether they came from a disk or from memory
    output: bytes
    durable: float = 0.0  # seconds until what it wrote was on the disk, where someone looked


class Command:
    """A command line, with what its environment has more than ours, and the folder that it runs in."""

    def __init__(self, name, argv, environment=None, stdin=None, cwd=None):
        self.name = name
        self.argv = [str(word) for word in argv]
        self.environment = {**os.environ, **(environment or {})}
        self.stdin = stdin
        if cwd is not None:
            self.argv = ["env", "-C", str(cwd), *self.argv]

    def output(self):
        """What it prints; not measured."""
        done = subprocess.run(self.argv, env=self.environment, capture_output=True)
        if done.returncode != 0:
            raise Failed(f"{self.name}: exit code {done.returncode}: {done.stderr.decode(errors='replace')[-2000:]}")
        return done.stdout

    def run(self):
        """One run: seconds of wall time, seconds of processor time of all its processes."""
        before = children(os.getpid())
        begun = time.perf_counter()
        pid = self._start()
        _, status, usage = os.wait4(pid, 0)
        wall = time.perf_counter() - begun
        self._check(status)
        cpu = usage.ru_utime + usage.ru_stime
        for orphan in children(os.getpid()) - before:
            _, _, usage = os.wait4(orphan, 0)
            cpu += usage.ru_utime + usage.ru_stime
        return wall, cpu

    def weigh(self):
        """One run of a command that is a single process, with all that is known of it."""
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            begun = time.perf_counter()
            pid = self._start(output.fileno(), errors.fileno())
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            wall = time.perf_counter() - begun
            # It has ended and is not gone: its counts stand still.
            with open(f"/proc/{pid}/io") as file:
                read = int(re.search(r"rchar: (\d+)", file.read())[1])
            _, status, usage = os.wait4(pid, 0)
            code = os.waitstatus_to_exitcode(status)
            if code != 0:
                errors.seek(0)
                raise Failed(f"{self.name}: exit code {code}: {errors.read().decode(errors='replace')[-2000:]}")
            output.seek(0)
            return Weight(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, read, output.read())

    def peak_memory(self):
        """The sum of its processes' peaks of resident memory, in bytes, as far as a look each millisecond sees it."""
        before = children(os.getpid())
        pid = self._start()
        peaks = {}
        ended = threading.Event()

        def look():
            while not ended.is_set():
                known = [pid, *children(pid)]
                for process in known:
                    peaks[process] = max(peaks.get(process, 0), high_water(process))
                time.sleep(0.001)

        looking = threading.Thread(target=look)
        looking.start()
        _, status = os.waitpid(pid, 0)
        ended.set()
        looking.join()
        self._check(status)
        for orphan in children(os.getpid()) - before:
            os.waitpid(orphan, 0)
        return sum(peaks.values())

    def _start(self, output=None, errors=None):
        silent = os.open(os.devnull, os.O_RDWR)
        try:
            streams = [silent, silent if output is None else output, silent if errors is None else errors]
            actions = [(os.POSIX_SPAWN_DUP2, stream, descriptor) for descriptor, stream in enumerate(streams)]
            return os.posix_spawnp(self.argv[0], self.argv, self.environment, file_actions=actions)
        finally:
            os.close(silent)

    def _check(self, status):
        code = os.waitstatus_to_exitcode(status)
        if code != 0:
            raise Failed(f"{self.name}: exit code {code}")


def high_water(pid):
    """The peak of a process's resident memory in bytes; of the program that it runs now, not of the one that started it."""
    try:
        with open(f"/proc/{pid}/status") as file:
            for line in file:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def in_turns(rounds, measures):
    """Takes each measure (a name and a function) once a round, beginning with another one each time: {name: [value, …]}."""
    taken = {name: [] for name, _ in measures}
    for turn in range(rounds):
        start = turn % len(measures)
        for name, measure in measures[start:] + measures[:start]:
            taken[name].append(measure())
    return taken


def ratio(values, others):
    """The median of the rounds' own ratios."""
    return statistics.median(value / other for value, other in zip(values, others, strict=True))


def spread(values, scale=1.0, digits=1):
    """Median, least and greatest as text."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle * scale:.{digits}f} ({low * scale:.{digits}f}–{high * scale:.{digits}f})"


class Report:
    """Prints sections of figures and keeps the verdicts for the end."""

    def __init__(self):
        self.verdicts = []

    def section(self, title):
        print(f"\n{title}", flush=True)

    def table(self, head, rows):
        widths = [max(len(str(row[column])) for row in [head, *rows]) for column in range(len(head))]
        for row in [head, *rows]:
            first, *rest = (str(cell) for cell in row)
            cells = [first.ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(rest, widths[1:])]
            print(("  " + "  ".join(cells)).rstrip(), flush=True)

    def target(self, what, value, limit, unit=""):
        met = value <= limit
        line = f"{what}: {value:.3g}{unit}, target {limit:g}{unit}: {'met' if met else 'MISSED'}"
        self.verdicts.append(line)
        print(f"  → {line}", flush=True)

    def summary(self):
        print("\nTargets")
        for line in self.verdicts:
            print(f"  {line}")
