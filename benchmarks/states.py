"""What the slice monitor costs, and how many Lua states a worker should have (--vms)."""
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from load import wrk
from servers import HERE, PEERS, Server, cpu_seconds
from serving import Burner

STATES = (1, 2, 4, 8)
BOTH_CORES = "0,1"


def evlua_server(options, name, app, more=(), env=None):
    def command(port, _directory):
        return [os.path.join(options.build, "evluaserver"), os.path.join(PEERS, app), "--listen", f"127.0.0.1:{port}",
                *more]

    return Server(name, command, env)


def sample(server, path, seconds, connections):
    """CPU µs per request, requests per second, p99 in µs"""
    before = cpu_seconds(server.process.pid)
    requests, rate, p99, bad = wrk(f"http://127.0.0.1:{server.port}{path}", seconds, connections)
    if bad:
        print(f"{server.name}, {path}: {bad}", file=sys.stderr)
    return (cpu_seconds(server.process.pid) - before) / requests * 1e6, rate, p99


def medians(rows):
    return [statistics.median(column) for column in zip(*rows)]


# -- the monitor ------------------------------------------------------------------------------------------------------

def without_monitor(directory):
    """The library that ends it, or None without a compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    library = os.path.join(directory, "no_monitor.so")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, os.path.join(HERE, "no_monitor.c"), "-ldl"],
                   check=True)
    return library


def monitor_seconds(server):
    """Its processor time so far; None where there is none."""
    for thread in os.listdir(f"/proc/{server.process.pid}/task"):
        folder = f"/proc/{server.process.pid}/task/{thread}"
        with open(f"{folder}/comm") as name, open(f"{folder}/schedstat") as figures:
            if name.read().strip() == "evlua-slices":
                return int(figures.read().split()[0]) / 1e9
    return None


def bench_monitor(options, results):
    with tempfile.TemporaryDirectory() as directory:
        library = without_monitor(directory)
        if library is None:
            print("left out, no C compiler: slice monitor", file=sys.stderr)
            return
        for backend in ("io_uring", "libev"):
            workers = ["--workers", "1"]
            pair = [evlua_server(options, "with", "hello.lua", workers, {"EVLUA_BACKEND": backend}),
                    evlua_server(options, "without", "hello.lua", workers,
                                 {"EVLUA_BACKEND": backend, "LD_PRELOAD": library})]
            try:
                for server in pair:
                    server.start(directory)
                began, before = time.monotonic(), monitor_seconds(pair[0])
                if before is None or monitor_seconds(pair[1]) is not None:
                    raise SystemExit("the monitor is not what was asked for")
                rows = paired(options, pair)
                share = (monitor_seconds(pair[0]) - before) / (time.monotonic() - began) * 2  # half idle
            finally:
                for server in pair:
                    server.stop()
            results[f"slice monitor: {backend}"] = {
                **compared(rows, "with", "without"),
                "rate_ratio": round(statistics.median(on[1] / off[1] for on, off in rows), 3),
                "of_a_core": f"{share * 100:.2f} %"}


def paired(options, pair):
    """[(sample of the first, sample of the second)]: one right after the other, now in this order, now in that."""
    rows = []
    for round_number in range(options.rounds + 1):
        order = (0, 1) if round_number % 2 == 0 else (1, 0)
        found = {which: sample(pair[which], "/", options.seconds, 64) for which in order}
        if round_number > 0:  # the first warms up
            rows.append((found[0], found[1]))
    return rows


def compared(rows, first, second):
    """The CPU time of both, by their names, and its ratio in the rounds of `paired`."""
    one, other = medians([(on[0], off[0]) for on, off in rows])
    ratios = [on[0] / off[0] for on, off in rows]
    return {f"{first}_cpu_us": round(one, 3), f"{second}_cpu_us": round(other, 3),
            f"{first}_to_{second}": round(statistics.median(ratios), 3), "spread": round(max(ratios) - min(ratios), 3)}


# -- states of a worker -----------------------------------------------------------------------------------------------

def resident_mib(server):
    with open(f"/proc/{server.process.pid}/statm") as figures:
        return int(figures.read().split()[1]) * os.sysconf("SC_PAGESIZE") / (1 << 20)


def plain(server, seconds):
    return sample(server, "/", seconds, 64)


def beside_computing(server, seconds):
    with Burner(server.port):
        return sample(server, "/", seconds, 32)


def heavy(server, seconds):
    return sample(server, "/memory", seconds, 32)


KINDS = {"plain": plain, "beside one that computes for 200 ms": beside_computing, "40 MiB each, replaced": heavy}


def bench_states(options, results):
    for workers, cores in (("1", "0"), ("2", BOTH_CORES)):
        servers = [evlua_server(options, f"--vms {states}", "states.lua", ["--workers", workers, "--vms", str(states)],
                                {"EVLUA_BACKEND": "io_uring"}) for states in STATES]
        with tempfile.TemporaryDirectory() as directory:
            try:
                for server in servers:
                    server.start(directory, cores)
                for kind, load in KINDS.items():
                    compare(options, f"Lua states, {workers} worker{'s' * (workers != '1')}, {kind}", servers, load,
                            results)
            finally:
                for server in servers:
                    server.stop()


def compare(options, section, servers, load, results):
    samples = {server.name: [] for server in servers}
    for round_number in range(options.rounds + 1):
        for server in servers:
            row = load(server, options.seconds)
            if round_number > 0:
                samples[server.name].append(row)
    for server in servers:
        rows = samples[server.name]
        cpu, rate, p99 = medians(rows)
        results[f"{section}: {server.name}"] = {
            "cpu_us_per_request": round(cpu, 2), "requests_per_s": round(rate), "p99_us": round(p99),
            "resident_mib": round(resident_mib(server)),
            "spread": round((max(row[0] for row in rows) - min(row[0] for row in rows)) / cpu, 3)}
