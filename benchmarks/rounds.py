"""Several servers under the same load, in turn and in several rounds."""
import statistics
import sys

from servers import cpu_seconds


def start_all(servers, directory):
    """Those that are installed."""
    running = []
    for server in servers:
        if server.start(directory):
            running.append(server)
        else:
            print(f"left out, not installed: {server.name}", file=sys.stderr)
    return running


def in_turn(options, section, running, load, results):
    """`load(server)` is one of load.py's; a row for each server goes into `results`."""
    samples = {server.name: [] for server in running}
    for round_number in range(options.rounds + 1):
        for server in running:
            before = cpu_seconds(server.process.pid)
            requests, rate, p99, bad = load(server)
            spent = cpu_seconds(server.process.pid) - before
            if bad:
                print(f"{server.name}, {section}: {bad}", file=sys.stderr)
            if round_number > 0:  # the first warms up
                samples[server.name].append((spent / requests * 1e6, rate, p99))
    for name, rows in samples.items():
        cpu, rate, p99 = (statistics.median(column) for column in zip(*rows))
        spread = (max(r[0] for r in rows) - min(r[0] for r in rows)) / cpu if cpu else 0
        results[f"{section}: {name}"] = {
            "cpu_us_per_request": round(cpu, 3), "requests_per_s": round(rate), "p99_us": round(p99, 1),
            "spread": round(spread, 3)}
