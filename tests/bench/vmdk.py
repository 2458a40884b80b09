"""A disk of a backup as streamOptimized VMDK beside `qemu-img convert -c`, which makes the same form of a raw image.

ceso compresses at zlib's level 1, its usual one for this form; qemu-img has no setting for it and takes zlib's usual level. ceso reads from an
encrypted repository, verifies each chunk, and syncs the file before it says that it is there; qemu-img reads a sparse file and
syncs nothing, so `to disk` is the time until all is on the disk for both. qemu-img compares the two files before the figures count.

    python3 -B tests/bench/vmdk.py [--mib 4096] [--rounds 3]    only this comparison; BENCH_CESO names the binary
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import measure
from measure import Command, Failed, ratio
from repository import MB, PASSPHRASE, Ceso, image_of

# What ceso may take of qemu-img's wall time.
TARGET = 0.15


def weighed(command, to):
    """One run, with the time until what it wrote is on the disk."""
    to.unlink(missing_ok=True)
    os.sync()
    weight = command.weigh()
    begun = time.perf_counter()
    os.sync()
    weight.durable = weight.wall + time.perf_counter() - begun
    return weight


def export(program, folder, image, rounds, report):
    """Takes the rounds, with what `image_of` made, and prints the figures."""
    if not shutil.which("qemu-img"):
        raise Failed("qemu-img is missing: run tests/peers/prepare")
    folder.mkdir(exist_ok=True)
    first, _, _, shape = image
    ceso = Ceso(folder, program)
    ceso.secret.write_text(f"{PASSPHRASE}\n")
    ceso.init().weigh()
    ceso.backed_up(ceso.backup(first).weigh().output)
    ours, theirs = folder / "ceso.vmdk", folder / "qemu-img.vmdk"
    words = ceso.words("disk", "restore", ceso.ids[-1], ours, "--format", "vmdk", "--repository", ceso.repository)
    convert = ["qemu-img", "convert", "-c", "-O", "vmdk", "-o", "subformat=streamOptimized", first, theirs]
    commands = [(ceso.command(*words), ours), (Command("qemu-img convert", convert), theirs)]
    measures = [(name, lambda pair=pair: weighed(*pair)) for name, pair in zip(["ceso", "qemu-img"], commands)]
    report.section(f"streamOptimized VMDK of a disk of {shape}: {rounds} rounds")
    taken = measure.in_turns(rounds, measures)
    same = subprocess.run(["qemu-img", "compare", ours, theirs], capture_output=True, text=True)
    if same.returncode != 0:
        raise Failed(f"qemu-img finds other bytes: {same.stdout}{same.stderr}")
    values = lambda name, what: [getattr(weight, what) for weight in taken[name]]
    against = lambda what: ratio(values("ceso", what), values("qemu-img", what))
    rows = []
    for name, (_, path) in zip(taken, commands):
        cells = [measure.spread(values(name, "wall"), 1, 2), f"{statistics.median(values(name, 'durable')):.2f}"]
        cells += [measure.spread(values(name, "cpu"), 1, 2), f"{statistics.median(values(name, 'memory')) / MB:.0f}"]
        rows.append([name, *cells, f"{path.stat().st_size / MB:,.0f}"])
    report.table(["", "wall s", "to disk s", "cpu s", "rss MB", "file MB"], rows)
    print(f"  ceso ÷ qemu-img: cpu {against('cpu'):.2f}, to disk {against('durable'):.2f}")
    report.target("streamOptimized export, wall ÷ qemu-img", against("wall"), TARGET)


def exporting(bench):
    """As one of the comparisons."""
    folder = bench.folder / "vmdk"
    export(bench.ceso, folder, bench.image, 1 if bench.smoke else 3, bench.report)
    shutil.rmtree(folder)


def main():
    parser = argparse.ArgumentParser(description="ceso's streamOptimized VMDK beside qemu-img's")
    parser.add_argument("--mib", type=int, default=4096, help="the size of the disk")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    report = measure.Report()
    with tempfile.TemporaryDirectory(prefix="ceso-bench-") as folder:
        try:
            image = image_of(Path(folder), options.mib << 20)
            export(Path(os.environ["BENCH_CESO"]).resolve(), Path(folder), image, options.rounds, report)
        except Failed as failed:
            sys.exit(f"bench: {failed}")
    report.summary()


if __name__ == "__main__":
    main()
