"""Load for a server: each function returns requests, requests per second, p99 in µs (0: not known), and what went wrong
or None. The load has a core of its own."""
import os
import re
import subprocess

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


def h2load(url, seconds):
    text = output_of(["h2load", "-c16", "-m32", f"-D{seconds}", url])
    done, failed = map(int, re.search(r"(\d+) succeeded, (\d+) failed", text).groups())
    return done, done / seconds, 0, f"{failed} failed" if failed else None


def full_handshakes(port, seconds, clients=8):
    """A new TLS 1.3 connection for each request, without resumption: `openssl s_time -new`."""
    command = PIN + ["openssl", "s_time", "-connect", f"127.0.0.1:{port}", "-new", "-tls1_3", "-www", "/", "-time",
                     str(seconds)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
               for _ in range(clients)]
    texts = [process.communicate()[0] for process in running]
    done = sum(int(re.search(r"(\d+) connections in \d+ real seconds", text).group(1)) for text in texts)
    return done, done / seconds, 0, None if all(process.returncode == 0 for process in running) else "a client failed"
