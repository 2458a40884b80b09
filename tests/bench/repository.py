"""ceso's repository of disks beside restic, borg and (where it is installed) rustic: the same disk, twice, from first backup to prune.

The disk is an ext4 file system of this machine's own files. Its second version has about 4 % of what is on it overwritten in place, with
other real files, by writes of 4 KiB to 1 MiB. Everything is encrypted. The peers' own settings are those that their manuals name for the
work: restic with repository version 2 and its usual compression, borg with zstd,3, rustic as it comes.

All tools take each step before any takes the next, and each round begins with another one. What was written is written out before a step
is measured, so that none pays for the one before; reads come from memory for all alike, as far as the machine has any. `to disk` is the
time until all that a command wrote is on the disk: ceso syncs what it restores before it says that it has, the peers do not. What is
restored is compared with the disk, byte by byte, before the figures count.

    python3 -B tests/bench/repository.py [--mib 4096] [--rounds 3] [--plain]    only this comparison; BENCH_CESO names the binary
"""

import argparse
import filecmp
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import measure
from measure import Command, Failed, Weight, ratio

MB = 1e6
PASSPHRASE = "correct horse battery staple"

# A step, and what ceso may take of restic's wall time.
TARGETS = {"first backup": 0.33, "second backup": 0.18, "verify all": 0.20, "restore": 0.60, "forget and prune": 0.10}
STEPS = list(TARGETS)

# Where real files are found; what is not there is passed over.
ROOTS = ["/usr", "~/.cargo/registry", "~/.rustup", "/var/lib", "/opt"]


class Tool:
    """A program that backs up disks, as the command line of each step."""

    def __init__(self, folder):
        self.folder = folder
        self.repository = folder / self.name
        self.secret = folder / "passphrase"
        self.ids = []

    def command(self, *words, cwd=None, **environment):
        return Command(f"{self.name} {words[1]}", words, {**self.environment(), **environment}, cwd=cwd)

    def environment(self):
        return {}

    def backed_up(self, output):
        """Notes what a backup printed."""


class Ceso(Tool):
    name = "ceso"
    secret_words = property(lambda self: ["--passphrase-file", self.secret])

    def __init__(self, folder, program):
        super().__init__(folder)
        self.program = program

    def environment(self):
        return {"CESO_HOME": str(self.folder / f"{self.name}-home")}

    def words(self, *words):
        return [self.program, *words, *self.secret_words]

    def init(self):
        return self.command(*self.words("repository", "init", self.repository, "--grace", "0s"))

    def backup(self, disk):
        return self.command(*self.words("disk", "backup", disk, "--repository", self.repository, "--output", "json"))

    def backed_up(self, output):
        self.ids.append(json.loads(output)["id"])

    def verify(self):
        return self.command(*self.words("repository", "check", self.repository, "--read-data"))

    def restore(self, to):
        return self.command(*self.words("disk", "restore", self.ids[-1], to / "disk.img", "--repository", self.repository))

    def forget(self):
        return self.command(*self.words("repository", "prune", self.repository, "--keep-last", "1", "--yes", "--mode", "unrestricted"))


class PlainCeso(Ceso):
    name = "ceso, plain"
    secret_words = []

    def init(self):
        return self.command(*self.words("repository", "init", self.repository, "--grace", "0s", "--plain"))


class Restic(Tool):
    name = program = "restic"

    def environment(self):
        return {"RESTIC_PASSWORD": PASSPHRASE, "RESTIC_CACHE_DIR": str(self.folder / f"{self.name}-cache")}

    def words(self, *words):
        return [self.program, "--quiet", "--repo", self.repository, *words]

    def init(self):
        return self.command(*self.words("init", "--repository-version", "2"))

    def backup(self, disk):
        return self.command(*self.words("backup", disk.name), cwd=disk.parent)

    def verify(self):
        return self.command(*self.words("check", "--read-data"))

    def restore(self, to):
        return self.command(*self.words("restore", "latest", "--target", to))

    def forget(self):
        return self.command(*self.words("forget", "--keep-last", "1", "--prune"))


class Rustic(Restic):
    name = program = "rustic"

    def environment(self):
        return {"RUSTIC_PASSWORD": PASSPHRASE, "RUSTIC_CACHE_DIR": str(self.folder / f"{self.name}-cache")}

    def words(self, *words):
        return [self.program, "--log-level", "error", "--no-progress", "--repository", self.repository, *words]

    def init(self):
        return self.command(*self.words("init"))

    def restore(self, to):
        return self.command(*self.words("restore", "latest", to))

    def forget(self):
        return self.command(*self.words("forget", "--keep-last", "1", "--prune", "--instant-delete", "--keep-delete", "0s"))


class Borg(Tool):
    name = "borg"

    def environment(self):
        home = str(self.folder / "borg-home")
        unasked = {"BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes", "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes"}
        return {"BORG_PASSPHRASE": PASSPHRASE, "BORG_BASE_DIR": home, **unasked}

    def init(self):
        return self.command("borg", "init", "--encryption", "repokey-blake2", self.repository)

    def backup(self, disk):
        self.ids.append(f"{self.repository}::{len(self.ids)}")
        return self.command("borg", "create", "--compression", "zstd,3", self.ids[-1], disk.name, cwd=disk.parent)

    def verify(self):
        return self.command("borg", "check", "--verify-data", self.repository)

    def restore(self, to):
        return self.command("borg", "extract", "--sparse", self.ids[-1], cwd=to)

    def forget(self):
        # Two commands, which are one piece of work.
        script = 'borg prune --keep-last 1 "$1" && borg compact --threshold 5 "$1"'
        return self.command("sh", "-c", script, "sh", self.repository)


def files():
    """The paths of real files and their lengths, in an order that is the same each time and has no meaning."""
    found = []
    for root in ROOTS:
        for folder, _, names in os.walk(os.path.expanduser(root)):
            for name in names:
                path = os.path.join(folder, name)
                try:
                    if os.path.isfile(path) and not os.path.islink(path) and os.access(path, os.R_OK):
                        found.append((path, os.path.getsize(path)))
                except OSError:
                    pass  # It has just gone.
    found.sort()
    random.Random(6).shuffle(found)
    return found


def make_image(folder, size):
    """Two versions of a disk: a file system of real files that fills about 72 % of it, and the same with places overwritten."""
    first, second, content = folder / "first.img", folder / "second.img", folder / "content"
    found = iter(files())
    content.mkdir()
    total = 0
    for number, (path, length) in enumerate(found):
        if total + length > size * 0.70:
            break
        place = content / f"{number % 64:02}"
        place.mkdir(exist_ok=True)
        try:
            shutil.copyfile(path, place / str(number))
        except OSError:
            continue
        total += (length + 4095) // 4096 * 4096
    environment = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    words = ["mke2fs", "-q", "-F", "-t", "ext4", "-U", "6d6f7265-6f76-6572-2074-686520646973", "-d", content, first, f"{size >> 10}k"]
    subprocess.run(words, check=True, env=environment, capture_output=True)
    shutil.rmtree(content)
    subprocess.run(["cp", "--sparse=auto", first, second], check=True)
    places, written = overwrite(second, found, size)
    allocated = first.stat().st_blocks * 512
    shape = f"{size >> 20:,} MiB, of which {allocated >> 20:,} are allocated; {places} places overwritten, {written / (1 << 20):.0f} MiB"
    return first, second, allocated, shape


def overwrite(image, found, size):
    """Writes other files' bytes over places of an image that have data: 537 on 4 GiB, each 4 KiB to 1 MiB. Returns how many, and the bytes."""
    chance = random.Random(537)
    fresh = bytearray()
    count = max(1, size * 537 // (4 << 30))
    written = 0
    with open(image, "r+b") as file:
        for _ in range(count):
            length = int(4096 * 256 ** (chance.random() ** 0.79)) // 4096 * 4096
            while len(fresh) < length:
                try:
                    fresh += Path(next(found)[0]).read_bytes()
                except OSError:
                    pass
            at = os.lseek(file.fileno(), chance.randrange(0, size * 5 // 8) // 4096 * 4096, os.SEEK_DATA) // 4096 * 4096
            file.seek(at)
            file.write(fresh[:length])
            del fresh[:length]
            written += length
    return count, written


def size_of(folder):
    """The bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def take(tools, folder, first, second):
    """One round: all steps of all tools. Returns {step: {tool: Weight}} and {tool: (bytes after the first backup, bytes added)}."""
    weights, sizes = {step: {} for step in STEPS}, {}
    folder.mkdir()
    disk, restored = folder / "disk" / "disk.img", folder / "restored"
    disk.parent.mkdir()
    for tool in tools:
        tool.ids.clear()
        tool.init().weigh()

    def step(name, tool, command) -> Weight:
        os.sync()
        weights[name][tool.name] = weight = command.weigh()
        begun = time.perf_counter()
        os.sync()
        weight.durable = weight.wall + time.perf_counter() - begun
        return weight

    os.link(first, disk)
    for tool in tools:
        tool.backed_up(step("first backup", tool, tool.backup(disk)).output)
        sizes[tool.name] = [size_of(tool.repository)]
    disk.unlink()
    os.link(second, disk)
    for tool in tools:
        tool.backed_up(step("second backup", tool, tool.backup(disk)).output)
        sizes[tool.name].append(size_of(tool.repository) - sizes[tool.name][0])
    for tool in tools:
        step("verify all", tool, tool.verify())
    for tool in tools:
        restored.mkdir()
        step("restore", tool, tool.restore(restored))
        if not filecmp.cmp(restored / "disk.img", second, shallow=False):
            raise Failed(f"{tool.name} restored other bytes")
        shutil.rmtree(restored)
    for tool in tools:
        step("forget and prune", tool, tool.forget())
        sizes[tool.name].append(size_of(tool.repository))
    shutil.rmtree(folder)
    return weights, sizes


def image_of(folder, size):
    """What `make_image` makes, by a process of its own: the kernel counts this process's peak of memory to what it starts."""
    words = [sys.executable, "-B", __file__, "--make-image", str(folder), "--mib", str(size >> 20)]
    first, second, allocated, shape = json.loads(subprocess.run(words, check=True, capture_output=True).stdout)
    return Path(first), Path(second), allocated, shape


def compare(program, folder, image, rounds, report, plain=False):
    """Takes the rounds, with what `image_of` made, and prints the figures."""
    first, second, allocated, shape = image
    place = folder / "round"
    (folder / "passphrase").write_text(f"{PASSPHRASE}\n")
    place_of = lambda kind: kind(place, *([program] if issubclass(kind, Ceso) else []))
    tools = [place_of(kind) for kind in [Ceso, Restic, Borg] + [PlainCeso] * plain]
    if shutil.which("rustic"):
        tools.append(Rustic(place))
    for tool in tools:
        tool.secret = folder / "passphrase"
    title = f"A disk of {shape}: {rounds} rounds, encrypted"
    if not shutil.which("rustic"):
        title += "; rustic is not installed"
    report.section(title)
    taken, sizes = [], []
    for turn in range(rounds):
        start = turn % len(tools)
        weights, size = take(tools[start:] + tools[:start], place, first, second)
        taken.append(weights)
        sizes.append(size)
        print(f"round {turn + 1} of {rounds}; load {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)

    names = [tool.name for tool in tools]
    values = lambda step, name, what: [getattr(weights[step][name], what) for weights in taken]
    median = statistics.median
    against = lambda step, what, other: ratio(values(step, "ceso", what), values(step, other, what))
    bytes_of = lambda number, name: [size[name][number] for size in sizes]
    rows = []
    for step in STEPS:
        for name in names:
            cells = [measure.spread(values(step, name, "wall"), 1, 2), f"{median(values(step, name, 'durable')):.2f}"]
            cells += [measure.spread(values(step, name, "cpu"), 1, 2)]
            cells += [f"{median(values(step, name, what)) / MB:.0f}" for what in ("memory", "read")]
            rows.append([step if name == names[0] else "", name, *cells, *(f"{against(step, what, name):.2f}" for what in ("wall", "cpu"))])
    report.table(["", "", "wall s", "to disk s", "cpu s", "rss MB", "read MB", "ceso ÷ it", "its cpu"], rows)
    rows = [[name, *(f"{median(bytes_of(number, name)) / MB:,.1f}" for number in range(3))] for name in names]
    print()
    report.table(["MB in the repository", "first", "added", "after the prune"], rows)

    print(f"  ceso read {median(values('first backup', 'ceso', 'read')) / allocated:.2f} × what is allocated for a first backup", flush=True)
    report.target("first backup, cpu ÷ restic", against("first backup", "cpu", "restic"), 0.40)
    report.target("repository ÷ restic", ratio(bytes_of(0, "ceso"), bytes_of(0, "restic")), 1.0)
    report.target("bytes added ÷ restic", ratio(bytes_of(1, "ceso"), bytes_of(1, "restic")), 0.20)
    for step, limit in TARGETS.items():
        report.target(f"{step}, wall ÷ restic", against(step, "wall", "restic"), limit)
    report.target("restore until it is on the disk ÷ restic", against("restore", "durable", "restic"), 0.60)
    peak = lambda name: [max(weights[step][name].memory for step in STEPS) for weights in taken]
    report.target("peak memory ÷ restic", ratio(peak("ceso"), peak("restic")), 0.40)
    if "rustic" in names:
        report.target("first backup, wall ÷ rustic", against("first backup", "wall", "rustic"), 0.5)
        report.target("second backup, wall ÷ rustic", against("second backup", "wall", "rustic"), 0.27)


def repository(bench):
    """As one of the comparisons."""
    folder = bench.folder / "repository"
    folder.mkdir()
    compare(bench.ceso, folder, bench.image, 1 if bench.smoke else 3, bench.report)
    shutil.rmtree(folder)


def main():
    parser = argparse.ArgumentParser(description="ceso's repository of disks beside its peers")
    parser.add_argument("--mib", type=int, default=4096, help="the size of the disk")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--plain", action="store_true", help="also ceso without encryption")
    parser.add_argument("--make-image", metavar="FOLDER", type=Path, help="only make the two versions of the disk there")
    options = parser.parse_args()
    if options.make_image:
        return print(json.dumps(make_image(options.make_image, options.mib << 20), default=str))
    report = measure.Report()
    with tempfile.TemporaryDirectory(prefix="ceso-bench-") as folder:
        try:
            image = image_of(Path(folder), options.mib << 20)
            compare(Path(os.environ["BENCH_CESO"]).resolve(), Path(folder), image, options.rounds, report, options.plain)
        except Failed as failed:
            sys.exit(f"bench: {failed}")
    report.summary()


if __name__ == "__main__":
    main()
