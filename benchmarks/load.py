"""Load for a server: each function returns requests, requests per second, p99 in µs (0: not known), and what went wrong
or None. The load has a core of its own."""
import os
import re
import subprocess
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
PEERS = os.path.join(HERE, "peers")
LOAD_CORE = "1"
PIN = ["taskset", "-c", LOAD_CORE]


def output_of(command):
    return subprocess.run(PIN + command, capture_output=True, text=True, check=True).stdout


def wrk(url, seconds, connections=64, more=()):
    text = output_of(["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", *more, url])
    requests = int(re.search(r"(\d+) requests in", text).group(1))
    per_second = float(re.search(r"Requests/sec:\s+([\d.]+)", text).group(1))
    p99 = re.search(r"99%\s+([\d.]+)(us|ms|s)", text)
    scale = {"us": 1, "ms": 1e3, "s": 1e6}[p99.group(2)]
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)|Socket errors: .*", text)
    return requests, per_second, float(p99.group(1)) * scale, bad.group(0) if bad else None


def run_wrk(port, seconds, pipelined=False, connections=64):
    return wrk(f"http://127.0.0.1:{port}/", seconds, connections, ["-s", f"{PEERS}/pipeline.lua"] if pipelined else [])


def run_h2load(url, seconds, more=()):
    text = output_of(["h2load", "-c16", "-m32", f"-D{seconds}", *more, url])
    return map(int, re.search(r"(\d+) succeeded, (\d+) failed", text).groups())


def h2load(url, seconds):
    """Twice: it tells of latencies only by a log, which costs it half as much again, so that it could be the slower."""
    done, failed = run_h2load(url, seconds)
    with tempfile.NamedTemporaryFile(mode="r") as log:
        logged, failed_too = run_h2load(url, seconds, [f"--log-file={log.name}"])
        times = sorted(int(line.rsplit("\t", 1)[1]) for line in log)
    failed += failed_too
    return done + logged, done / seconds, times[len(times) * 99 // 100], f"{failed} failed" if failed else None


def full_handshakes(build, port, seconds, clients=8):
    """A new TLS 1.3 connection for each request, without resumption."""
    text = output_of([os.path.join(build, "tls_handshakes"), str(port), str(seconds), str(clients)])
    done, p99 = map(int, text.split())
    return done, done / seconds, p99, None
