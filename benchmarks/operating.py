"""What it costs to see what the server does (access log and metrics), and how soon --watch has loaded a changed app."""
import os
import statistics
import subprocess
import tempfile
import time
import urllib.request

from servers import PEERS, Server, free_port
from states import compared, paired

BACKENDS = ("io_uring", "libev")
CHANGES = 20
OBSERVED = {
    "access log": lambda directory: ["--access-log", f"{directory}/access.log"],
    "metrics": lambda directory: ["--admin", f"127.0.0.1:{free_port()}"],
    "both": lambda directory: ["--access-log", f"{directory}/access.log", "--admin", f"127.0.0.1:{free_port()}"],
}


def evlua_server(options, backend, name, more):
    def command(port, directory):
        return [os.path.join(options.build, "evluaserver"), f"{PEERS}/hello.lua", "--listen", f"127.0.0.1:{port}",
                "--workers", "1", *more(directory)]

    return Server(f"{backend} {name}", command, {"EVLUA_BACKEND": backend})


def bench_observing(options, results):
    for backend in BACKENDS:
        for name, more in OBSERVED.items():
            with tempfile.TemporaryDirectory() as directory:
                pair = [evlua_server(options, backend, "observed", more),
                        evlua_server(options, backend, "alone", lambda _: [])]
                try:
                    for server in pair:
                        server.start(directory)
                    rows = paired(options, pair)
                finally:
                    for server in pair:
                        server.stop()
            results[f"access log and metrics: {name}, {backend}"] = compared(rows, "observed", "alone")


def write_app(path, number):
    """In one step, as editors do."""
    with open(path + ".new", "w") as file:
        file.write(f'return function(_, res) res:text("{number}") end\n')
    os.rename(path + ".new", path)


def seconds_until(port, number):
    """From the change to the first answer of the new app."""
    began = time.monotonic()
    while True:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20) as answer:
            if answer.read().decode() == str(number):
                return time.monotonic() - began
        if time.monotonic() - began > 20:
            raise SystemExit("the change was not noticed")
        time.sleep(0.001)


def changes(options, backend, app):
    port = free_port()
    command = [os.path.join(options.build, "evluaserver"), app, "--listen", f"127.0.0.1:{port}", "--watch"]
    server = subprocess.Popen(command, env=dict(os.environ, EVLUA_BACKEND=backend), stderr=subprocess.PIPE, text=True)
    try:
        while "listening" not in server.stderr.readline():
            if server.poll() is not None:
                raise SystemExit("the server did not start")
        times = []
        for number in range(1, CHANGES + 1):
            write_app(app, number)
            times.append(seconds_until(port, number))
        return times
    finally:
        server.terminate()
        server.communicate(timeout=30)


def bench_watching(options, results):
    for backend in BACKENDS:
        with tempfile.TemporaryDirectory() as directory:
            app = os.path.join(directory, "app.lua")
            write_app(app, 0)
            times = changes(options, backend, app)
        results[f"a change until --watch has loaded it: {backend}"] = {
            "median_ms": round(statistics.median(times) * 1e3, 1), "most_ms": round(max(times) * 1e3, 1)}


def bench_operating(options, results):
    bench_observing(options, results)
    bench_watching(options, results)
