"""A file to a datastore and back, beside govc and curl, on one simulator: throughput, and memory at two sizes.

Each client sends the same file under a new name, and fetches one to a new file; what it made is removed before the next one's turn. ceso
sends it under another name first and moves it, and syncs what it fetched; govc and curl do none of that. Where it is asked for, ceso sums
what it carries (SHA-256): it goes a second time so, and curl with openssl sha256 beside it. A wall of ceso that is at most 1/0.95 of
curl's is the target's 0.95 of its throughput.
"""

import hashlib
import http.client
import itertools
import os
import ssl
import urllib.parse
from statistics import median

import servers
from measure import Command, Failed, in_turns, ratio, spread

MIB = 1 << 20
MB = 1e6


def noise(path, size):
    """A file that does not pack: its SHA-256."""
    digest = hashlib.sha256()
    with open(path, "wb") as file:
        for _ in range(size // MIB):
            piece = os.urandom(MIB)
            digest.update(piece)
            file.write(piece)
    return digest.hexdigest()


def sum_of(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Store:
    """The datastore of the simulator, past all clients that are measured."""

    def __init__(self, server):
        self.server = server
        connection, self.cookie = server.login()
        connection.close()

    def url(self, name):
        query = urllib.parse.urlencode({"dcPath": "ha-datacenter", "dsName": "datastore1"})
        return f"/folder/{name}?{query}"

    def ask(self, method, name):
        context = ssl._create_unverified_context()
        connection = http.client.HTTPSConnection(self.server.host, self.server.port, context=context, timeout=600)
        connection.request(method, self.url(name), headers={"Cookie": self.cookie})
        answer = connection.getresponse()
        digest = hashlib.sha256()
        while piece := answer.read(MIB):
            digest.update(piece)
        connection.close()
        if answer.status != 200:
            raise Failed(f"{method} {name}: HTTP {answer.status}")
        return digest.hexdigest()


def commands(bench, server, store, file, there, names):
    """What uploads `file` and what downloads `there`, each a name, a command and what is left of it: {what: [(client, make)]}."""
    folder = bench.folder / "transfers"
    ours = server.environment(bench.folder / "transfers-home")
    base = f"https://{server.host}:{server.port}"
    user = f"{servers.USER}:{servers.PASSWORD}"
    govc = {"GOVC_URL": f"https://{user}@{server.host}:{server.port}/sdk", "GOVC_INSECURE": "1", "GOVMOMI_HOME": str(folder / "govmomi")}
    tool = bench.peers / "bin/govc"
    curl = ["curl", "-sSfk", "-b", store.cookie]
    # What goes up is read twice, what comes down goes through both: neither waits for the other's end.
    beside = ["bash", "-c", 'file=$1; shift; "$@" & openssl sha256 "$file" && wait $!', "upload"]
    through = ["bash", "-c", 'file=$1; shift; set -o pipefail; "$@" | tee "$file" | openssl sha256', "download"]

    def to(make):
        def made():
            name = f"up-{next(names)}"
            return make(name), lambda: store.ask("DELETE", name), lambda: store.ask("GET", name)

        return made

    def back(make):
        def made():
            path = folder / f"down-{next(names)}"
            return make(path), path.unlink, lambda: sum_of(path)

        return made

    return {
        "upload": [
            ("ceso", to(lambda name: Command("ceso", [bench.ceso, "datastore", "upload", file, f"[datastore1] {name}"], ours))),
            (
                "ceso --checksum",
                to(lambda name: Command("ceso", [bench.ceso, "datastore", "upload", file, f"[datastore1] {name}", "--checksum"], ours)),
            ),
            ("govc", to(lambda name: Command("govc", [tool, "datastore.upload", "-ds", "datastore1", file, name], govc))),
            ("curl", to(lambda name: Command("curl", [*curl, "-o", "/dev/null", "-T", file, base + store.url(name)]))),
            (
                "curl and openssl sha256",
                to(lambda name: Command("curl", [*beside, file, *curl, "-o", "/dev/null", "-T", file, base + store.url(name)])),
            ),
        ],
        "download": [
            ("ceso", back(lambda path: Command("ceso", [bench.ceso, "datastore", "download", f"[datastore1] {there}", path], ours))),
            (
                "ceso --checksum",
                back(lambda path: Command("ceso", [bench.ceso, "datastore", "download", f"[datastore1] {there}", path, "--checksum"], ours)),
            ),
            ("govc", back(lambda path: Command("govc", [tool, "datastore.download", "-ds", "datastore1", there, path], govc))),
            ("curl", back(lambda path: Command("curl", [*curl, "-o", path, base + store.url(there)]))),
            ("curl and openssl sha256", back(lambda path: Command("curl", [*through, path, *curl, base + store.url(there)]))),
        ],
    }


def transfers(bench):
    """The times at the large size, the peaks of memory at both."""
    small, large = (8 * MIB, 32 * MIB) if bench.smoke else (128 * MIB, 1024 * MIB)
    bench.report.section(f"A file of {large // MIB:,} MiB to a datastore of the simulator and back; memory at {small // MIB} MiB too")
    folder = bench.folder / "transfers"
    folder.mkdir()
    names = itertools.count(1)
    with servers.ceso_sim(bench.ceso, 0) as server:
        store = Store(server)
        peaks, walls, cpus = {}, {}, {}
        for size in (small, large):
            file, there = folder / f"file-{size}", f"there-{size}"
            expected = noise(file, size)
            Command("curl", ["curl", "-sSfk", "-o", "/dev/null", "-b", store.cookie, "-T", file, f"https://{server.host}:{server.port}{store.url(there)}"]).output()
            for what, clients in commands(bench, server, store, file, there, names).items():
                for client, make in clients:
                    # The first of each keeps its session, and shows that the same bytes came.
                    command, remove, came = make()
                    command.output()
                    if came() != expected:
                        raise Failed(f"{client}: the {what} brought other bytes")
                    remove()

                    def peak():
                        command, remove, _ = make()
                        weight = command.peak_memory()
                        remove()
                        return weight

                    peaks[what, client, size] = max(peak() for _ in range(bench.rounds(3)))
                if size != large:
                    continue

                def timed(make):
                    def run():
                        command, remove, _ = make()
                        taken = command.run()
                        remove()
                        return taken

                    return run

                taken = in_turns(bench.rounds(9), [(client, timed(make)) for client, make in clients])
                for client, runs in taken.items():
                    walls[what, client], cpus[what, client] = zip(*runs)
            file.unlink()
    head = ["", "wall s", "MB/s", "ceso ÷ it", "cpu s", f"rss MB, {small // MIB} MiB", f"rss MB, {large // MIB} MiB"]
    rows = [
        [
            f"{what}, {client}",
            spread(values, 1, 3),
            f"{large / median(values) / MB:.0f}",
            f"{ratio(walls[what, 'ceso'], values):.2f}",
            spread(cpus[what, client], 1, 2),
            f"{peaks[what, client, small] / MB:.1f}",
            f"{peaks[what, client, large] / MB:.1f}",
        ]
        for (what, client), values in walls.items()
    ]
    bench.report.table(head, rows)
    for what in ("upload", "download"):
        bench.report.target(f"{what}, wall ÷ curl (0.95 of its throughput)", ratio(walls[what, "ceso"], walls[what, "curl"]), 1.053)
        grown = peaks[what, "ceso", large] - peaks[what, "ceso", small]
        bench.report.target(f"{what}, memory at {large // MIB:,} MiB less that at {small // MIB} MiB", grown / MB, 8, " MB")
