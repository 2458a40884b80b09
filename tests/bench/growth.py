"""How ceso's repository grows with the disk: 1 to 64 GiB with data in proportion, and 2 TiB with a few GiB scattered over it.

The data is made, not found: chunks of 256 KiB, each unlike all others, that compress to about a third. What is measured is what a GiB of it costs
and how much memory the whole takes; both should stay as they are. No peer does this: it would read 2 TiB of zeros.

    python3 -B tests/bench/growth.py [--smoke]    BENCH_CESO names the binary
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
from pathlib import Path

import measure
from measure import Failed
from repository import MB, PASSPHRASE, Ceso, size_of

CHUNK = 256 << 10
GIB = 1 << 30


def make_disk(path, size, chunks):
    """A sparse file with so many chunks of data, evenly apart. Returns how many bytes that is."""
    chance = random.Random(size)
    with open(path, "wb") as file:
        file.truncate(size)
        for number in range(chunks):
            # A third cannot be compressed; the rest is words that differ from chunk to chunk.
            words = b"".join(chance.randbytes(6).hex().encode() * 5 + b"\n" for _ in range(64))
            noise = chance.randbytes(CHUNK // 4)
            file.seek(size // chunks * number // CHUNK * CHUNK)
            file.write((noise + words * (CHUNK // len(words) + 1))[:CHUNK])
    return chunks * CHUNK


def take(program, folder, size, chunks):
    """Backs up, verifies and restores a disk. Returns its bytes of data, {step: Weight} and the size of the repository."""
    place = folder / "round"
    (place / "restored").mkdir(parents=True)
    disk = place / "disk.img"
    data = make_disk(disk, size, chunks)
    ceso = Ceso(place, program)
    ceso.secret = folder / "passphrase"
    weights = {}
    ceso.init().weigh()
    for step, command in {
        "first backup": lambda: ceso.backup(disk),
        "the same again": lambda: ceso.backup(disk),
        "verify all": ceso.verify,
        "restore": lambda: ceso.restore(place / "restored"),
    }.items():
        os.sync()
        weights[step] = command().weigh()
        if "back" in step or "again" in step:
            ceso.backed_up(weights[step].output)
    if (place / "restored/disk.img").stat().st_size != size:
        raise Failed("the disk came back with another length")
    stored = size_of(ceso.repository)
    shutil.rmtree(place)
    return data, weights, stored


def growth(program, folder, report, smoke=False):
    """Prints what each size costs."""
    folder.mkdir(exist_ok=True)
    (folder / "passphrase").write_text(f"{PASSPHRASE}\n")
    # A sixteenth of each disk is data.
    disks = [(GIB, 64)] if smoke else [(size * GIB, size * 256) for size in [1, 4, 16, 64]]
    disks.append((2048 * GIB, 128 if smoke else 12 << 10))
    report.section("How a repository grows: a disk of made data, most of it holes")
    rows, memory = [], 0
    for size, chunks in disks:
        data, weights, stored = take(program, folder, size, chunks)
        for step, weight in weights.items():
            memory = max(memory, weight.memory)
            first = [f"{size // GIB:,} GiB", f"{data / GIB:.2f}", f"{stored / MB:.0f}"] if step == "first backup" else [""] * 3
            per = lambda seconds: f"{seconds / (data / GIB):.2f}"
            cells = [f"{weight.wall:.2f}", f"{weight.cpu:.2f}", per(weight.wall), per(weight.cpu), f"{weight.memory / MB:.0f}"]
            rows.append([*first, step, *cells])
    report.table(["disk", "GiB of data", "stored MB", "", "wall s", "cpu s", "wall s/GiB", "cpu s/GiB", "rss MB"], rows)
    report.target("peak memory up to a disk of 2 TiB", memory / MB, 100, " MB")


def growing(bench):
    """As one of the comparisons."""
    growth(bench.ceso, bench.folder / "growth", bench.report, bench.smoke)


def main():
    parser = argparse.ArgumentParser(description="how ceso's repository grows with the disk")
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ceso-bench-") as folder:
        try:
            growth(Path(os.environ["BENCH_CESO"]).resolve(), Path(folder), measure.Report(), options.smoke)
        except Failed as failed:
            sys.exit(f"bench: {failed}")


if __name__ == "__main__":
    main()
