"""Fork and join over evlua.thread, beside what two cores of the machine give at all."""
import os
import re
import statistics
import subprocess
import time

from servers import PEERS

CORES = "0,1"
TRIES = 5  # the best counts, as in the script
FORK_JOIN = os.path.join(PEERS, "forkjoin.lua")


def stock(count):
    """Seconds until `count` processes of lua5.3 have done the script's work, each all of it, at once."""
    began = time.monotonic()
    processes = [subprocess.Popen(["taskset", "-c", str(core), "lua5.3", FORK_JOIN, "alone"]) for core in range(count)]
    if any(process.wait() != 0 for process in processes):
        raise SystemExit("lua5.3 has failed")
    return time.monotonic() - began


def machine_limit():
    """How much more two processes do that share nothing than one alone."""
    one, two = zip(*((stock(1), stock(2)) for _ in range(TRIES)))
    return 2 * min(one) / min(two)


def bench_threads(options, results):
    rows = {"io_uring": [], "libev": []}
    for _ in range(options.rounds):
        for backend, found in rows.items():
            text = subprocess.run(
                ["taskset", "-c", CORES, os.path.join(options.build, "evlua"), "--workers", "2", FORK_JOIN],
                env=dict(os.environ, EVLUA_BACKEND=backend), check=True, capture_output=True, text=True).stdout
            alone, one, two = map(float, re.findall(r"[\d.]+", text))
            found.append((one / two, one / alone, machine_limit()))
    for backend, found in rows.items():
        ratio, pool, limit = (statistics.median(column) for column in zip(*found))
        results[f"fork and join over evlua.thread: {backend}"] = {
            "two_to_one": round(ratio, 2), "machine_two_to_one": round(limit, 2),
            "of_limit": round(statistics.median(row[0] / row[2] for row in found), 2), "pool_to_plain": round(pool, 3),
            "spread": round((max(row[0] for row in found) - min(row[0] for row in found)) / ratio, 3)}
