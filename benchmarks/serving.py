"""Serving HTTP: what a request costs, and how long requests take beside one that computes."""
import os
import statistics
import subprocess
import sys
import tempfile
import threading

from load import run_wrk
from rounds import in_turn, start_all
from servers import PEERS, Server, go_command, nginx_command, node_command


def evlua_servers(options, app, workers, suffix=""):
    def command(port, _directory):
        return [os.path.join(options.build, "evluaserver"), f"{PEERS}/{app}", "--listen", f"127.0.0.1:{port}",
                "--workers", str(workers)]

    return [Server(f"evlua {backend}{suffix}", command, {"EVLUA_BACKEND": backend})
            for backend in ("io_uring", "libev")]


def peers():
    return [Server("nginx + Lua", nginx_command), Server("Node.js", node_command), Server("Go", go_command)]


def bench_http(options, results):
    servers = evlua_servers(options, "hello.lua", 1) + peers()
    with tempfile.TemporaryDirectory() as directory:
        try:
            running = start_all(servers, directory)
            for kind, pipelined in (("keep-alive", False), ("pipelined 16", True)):
                in_turn(options, f"http {kind}", running,
                        lambda server: run_wrk(server.port, options.seconds, pipelined), results)
        finally:
            for server in servers:
                server.stop()


class Burner:
    """A client that calls a handler which computes for 200 ms, again and again."""

    def __init__(self, port):
        self.port, self.over, self.calls = port, False, 0
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.over:
            done = subprocess.run(["curl", "-s", f"http://127.0.0.1:{self.port}/burn"], capture_output=True, check=True)
            if done.stdout != b"burnt":
                raise SystemExit(f"wrong answer of /burn: {done.stdout!r}")
            self.calls += 1

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over = True
        self.thread.join()


def bench_fairness(options, results):
    both = "0,1"
    rows = [(server, "0") for server in evlua_servers(options, "burn.lua", 1, ", one worker") + peers()]
    rows += [(server, both) for server in evlua_servers(options, "burn.lua", 2, ", two workers")]
    with tempfile.TemporaryDirectory() as directory:
        for server, cores in rows:
            if not server.start(directory, cores):
                print(f"left out, not installed: {server.name}", file=sys.stderr)
                continue
            samples = []
            try:
                with Burner(server.port):
                    for _ in range(options.rounds):
                        _, rate, p99, bad = run_wrk(server.port, options.seconds, connections=32)
                        if bad:
                            print(f"{server.name}, fairness: {bad}", file=sys.stderr)
                        samples.append((p99, rate))
            finally:
                server.stop()
            p99, rate = (statistics.median(column) for column in zip(*samples))
            spread = (max(s[0] for s in samples) - min(s[0] for s in samples)) / p99
            results[f"beside a handler that computes: {server.name}"] = {
                "p99_us": round(p99), "requests_per_s": round(rate), "spread": round(spread, 3)}


def ask(port, path):
    """(who answered, nanoseconds)"""
    done = subprocess.run(["curl", "-s", f"http://127.0.0.1:{port}{path}"], capture_output=True, text=True, check=True)
    who, number = done.stdout.rsplit(" ", 1)
    return who, float(number)


def ask_two(port, operation, keys):
    """Nanoseconds of a call while two Vms (or processes) make it at once, or one if there is only one key."""
    if len(keys) == 1:
        return ask(port, f"/{operation}/{keys}")[1]
    for _ in range(50):
        answers = [None, None]
        threads = []
        for i, key in enumerate(keys):
            def run(i=i, key=key):
                answers[i] = ask(port, f"/{operation}/{key}")
            threads.append(threading.Thread(target=run))
            threads[-1].start()
        for thread in threads:
            thread.join()
        if answers[0][0] != answers[1][0]:
            return max(answers[0][1], answers[1][1])
    raise SystemExit("the two requests were always served by the same Vm")


def bench_sharing(options, results):
    servers = evlua_servers(options, "shared.lua", 2)[:1]
    servers.append(Server("nginx + Lua", lambda port, directory: nginx_command(port, directory, 2)))
    cases = {"get, one key": ("get", "aa"), "get, two keys": ("get", "ab"), "incr, nobody else": ("incr", "a"),
             "incr, one key": ("incr", "aa"), "incr, two keys": ("incr", "ab")}
    with tempfile.TemporaryDirectory() as directory:
        try:
            running = [server for server in servers if server.start(directory, "0,1")]
            for case, (operation, keys) in cases.items():
                samples = {server.name: [] for server in running}
                for _ in range(options.rounds):
                    for server in running:
                        samples[server.name].append(ask_two(server.port, operation, keys))
                for name, rows in samples.items():
                    median = statistics.median(rows)
                    results[f"shared dictionary: {case}, {name}"] = {
                        "ns_per_call": round(median, 1), "spread": round((max(rows) - min(rows)) / median, 3)}
        finally:
            for server in servers:
                server.stop()
