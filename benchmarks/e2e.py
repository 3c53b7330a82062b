#!/usr/bin/env python3
"""End-to-end benchmarks against peers, in one run on one machine.

Servers are pinned to one core and the load to another; every peer is checked for the same answer, then all are measured
in turn, several rounds, and the medians are reported: CPU time per request (user + system of all server processes),
requests per second, p99 latency. Peers that are not installed are left out, by name.

usage: e2e.py [--build DIR] [--seconds S] [--rounds N] [--out FILE.json] [--markdown FILE.md]
              [--only http|files|lua|process]
"""
import argparse
import json
import os
import platform
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

from process import bench_process
from report import markdown

HERE = os.path.dirname(os.path.abspath(__file__))
PEERS = os.path.join(HERE, "peers")
TICK = os.sysconf("SC_CLK_TCK")
SERVER_CORE, LOAD_CORE = "0", "1"

NGINX_CONF = """
daemon off; worker_processes 1; pid {dir}/nginx.pid; error_log {dir}/error.log;
{modules}
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 600s;
  client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u;
  scgi_temp_path {dir}/s;
  server {{
    listen 127.0.0.1:{port};
    location / {{
      default_type 'text/plain; charset=utf-8';
      content_by_lua_block {{ ngx.header['Content-Length'] = 13 ngx.print('Hello, World!') }}
    }}
  }}
}}
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def pids_below(pid):
    found, queue = [], [pid]
    while queue:
        current = queue.pop()
        found.append(current)
        try:
            with open(f"/proc/{current}/task/{current}/children") as f:
                queue += [int(p) for p in f.read().split()]
        except OSError:
            pass
    return found


def cpu_seconds(pid):
    total = 0
    for p in pids_below(pid):
        try:
            with open(f"/proc/{p}/stat") as f:
                fields = f.read().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
        except OSError:
            pass
    return total / TICK


class Server:
    """A peer: how to start it. `command(port, directory)` returns the argument list, or None when it is missing."""

    def __init__(self, name, command, env=None):
        self.name, self.command, self.env = name, command, env or {}
        self.process = None

    def start(self, directory):
        self.port = free_port()
        command = self.command(self.port, directory)
        if command is None:
            return False
        env = dict(os.environ, GOMAXPROCS="1", **self.env)
        self.process = subprocess.Popen(["taskset", "-c", SERVER_CORE] + command, env=env,
                                        stdout=subprocess.DEVNULL, stderr=open(f"{directory}/{self.name}.err", "w"))
        deadline = time.time() + 20
        while time.time() < deadline:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1) as s:
                    s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                    answer = b""
                    while True:
                        got = s.recv(65536)
                        if not got:
                            break
                        answer += got
                if not answer.startswith(b"HTTP/1.1 200") or b"Hello, World!" not in answer:
                    raise SystemExit(f"{self.name}: wrong answer: {answer!r}")
                return True
            except OSError:
                if self.process.poll() is not None:
                    raise SystemExit(f"{self.name} ended: see {directory}/{self.name}.err")
                time.sleep(0.05)
        raise SystemExit(f"{self.name} did not start")

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def nginx_command(port, directory):
    nginx = shutil.which("nginx") or "/usr/sbin/nginx"
    if not os.path.exists(nginx):
        return None
    modules = "".join(f"load_module {m};\n" for m in ("/usr/lib/nginx/modules/ndk_http_module.so",
                                                       "/usr/lib/nginx/modules/ngx_http_lua_module.so")
                      if os.path.exists(m))
    if "lua" not in modules:
        return None
    conf = os.path.join(directory, "nginx.conf")
    with open(conf, "w") as f:
        f.write(NGINX_CONF.format(dir=directory, port=port, modules=modules))
    return [nginx, "-c", conf, "-p", directory]


def node_command(port, _directory):
    return ["node", f"{PEERS}/node_hello.js", str(port)] if shutil.which("node") else None


def go_command(port, directory):
    if not shutil.which("go"):
        return None
    binary = f"{directory}/hello_go"
    if not os.path.exists(binary):
        subprocess.run(["go", "build", "-o", binary, f"{PEERS}/hello.go"], check=True,
                       env=dict(os.environ, GOFLAGS="-mod=mod", GO111MODULE="off"))
    return [binary, str(port)]


def run_wrk(port, seconds, pipelined):
    command = ["taskset", "-c", LOAD_CORE, "wrk", "-t1", "-c64", f"-d{seconds}s", "--latency"]
    if pipelined:
        command += ["-s", f"{PEERS}/pipeline.lua"]
    text = subprocess.run(command + [f"http://127.0.0.1:{port}/"], capture_output=True, text=True, check=True).stdout
    requests = int(re.search(r"(\d+) requests in", text).group(1))
    per_second = float(re.search(r"Requests/sec:\s+([\d.]+)", text).group(1))
    p99 = re.search(r"99%\s+([\d.]+)(us|ms|s)", text)
    scale = {"us": 1, "ms": 1e3, "s": 1e6}[p99.group(2)]
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)|Socket errors: .*", text)
    return requests, per_second, float(p99.group(1)) * scale, bad.group(0) if bad else None


def bench_http(options, results):
    ours = os.path.join(options.build, "evluaserver")

    def evlua_command(port, _directory):
        return [ours, f"{PEERS}/hello.lua", "--listen", f"127.0.0.1:{port}", "--workers", "1"]

    servers = [Server("evlua io_uring", evlua_command, {"EVLUA_BACKEND": "io_uring"}),
               Server("evlua libev", evlua_command, {"EVLUA_BACKEND": "libev"}),
               Server("nginx + Lua", nginx_command), Server("Node.js", node_command), Server("Go", go_command)]
    with tempfile.TemporaryDirectory() as directory:
        running = []
        try:
            for server in servers:
                if server.start(directory):
                    running.append(server)
                else:
                    print(f"left out, not installed: {server.name}", file=sys.stderr)
            for kind, pipelined in (("keep-alive", False), ("pipelined 16", True)):
                samples = {server.name: [] for server in running}
                for round_number in range(options.rounds + 1):
                    for server in running:
                        before = cpu_seconds(server.process.pid)
                        requests, rate, p99, bad = run_wrk(server.port, options.seconds, pipelined)
                        spent = cpu_seconds(server.process.pid) - before
                        if bad:
                            print(f"{server.name}, {kind}: {bad}", file=sys.stderr)
                        if round_number > 0:  # the first warms up
                            samples[server.name].append((spent / requests * 1e6, rate, p99))
                for name, rows in samples.items():
                    cpu, rate, p99 = (statistics.median(column) for column in zip(*rows))
                    spread = (max(r[0] for r in rows) - min(r[0] for r in rows)) / cpu if cpu else 0
                    results[f"http {kind}: {name}"] = {
                        "cpu_us_per_request": round(cpu, 3), "requests_per_s": round(rate), "p99_us": round(p99, 1),
                        "spread": round(spread, 3)}
        finally:
            for server in servers:
                server.stop()


def output_of(command, env=None):
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ, **(env or {})))
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: {done.stderr}")
    return done.stdout


def bench_files(options, results):
    evlua = os.path.join(options.build, "evlua")
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "data")
        with open(path, "wb") as f:
            for _ in range(64):
                f.write(os.urandom(1 << 20))
        pin = ["taskset", "-c", SERVER_CORE]
        seconds = str(options.seconds)
        commands = {
            "evlua io_uring": (pin + [evlua, "--workers", "1", f"{PEERS}/read.lua", path, seconds],
                               {"EVLUA_BACKEND": "io_uring"}),
            "evlua libev": (pin + [evlua, "--workers", "1", f"{PEERS}/read.lua", path, seconds],
                            {"EVLUA_BACKEND": "libev"}),
        }
        if shutil.which("node"):
            commands["Node.js fs/promises"] = (pin + ["node", f"{PEERS}/node_read.js", path, seconds], {})
        samples = {name: [] for name in commands}
        if shutil.which("fio"):
            samples["fio io_uring"] = []
        for _ in range(options.rounds):
            for name, (command, env) in commands.items():
                samples[name].append(int(output_of(command, env)))
            if "fio io_uring" in samples:
                text = output_of(pin + ["fio", "--name=r", f"--filename={path}", "--rw=randread", "--bs=4k",
                                        "--size=64m", "--ioengine=io_uring", "--iodepth=64", "--time_based",
                                        f"--runtime={seconds}",
                                        "--output-format=json", "--invalidate=0"])
                samples["fio io_uring"].append(int(json.loads(text)["jobs"][0]["read"]["iops"]))
        for name, rows in samples.items():
            median = statistics.median(rows)
            results[f"file 4 KiB random read: {name}"] = {
                "operations_per_s": round(median), "spread": round((max(rows) - min(rows)) / median, 3)}


LUA_CASES = {
    "recursion": "local function fib(n) if n < 2 then return n end return fib(n-1) + fib(n-2) end fib(32)",
    "tables": "local t = {} for r = 1, 20 do for i = 1, 200000 do t[i] = i end local s = 0 "
              "for i = 1, #t do s = s + t[i] end end",
    "strings": "local n = 0 for i = 1, 400000 do local s = ('%d:%s'):format(i, 'x') n = n + #s:upper() end",
    "generator": "local g = coroutine.wrap(function() for i = 1, 4000000 do coroutine.yield(i) end end) "
                 "local s = 0 for i = 1, 4000000 do s = s + g() end",
}


def bench_lua(options, results):
    evlua = os.path.join(options.build, "evlua")
    pin = ["taskset", "-c", SERVER_CORE]
    for name, code in LUA_CASES.items():
        timed = "local began = os.clock() " + code + " print(os.clock() - began)"
        ratios, times = [], []
        for _ in range(options.rounds):
            mine = float(output_of(pin + [evlua, "--workers", "1", "-e", timed]))
            stock = float(output_of(pin + ["lua5.3", "-e", timed]))
            ratios.append(mine / stock)
            times.append(mine)
        results[f"Lua CPU time, evlua / lua5.3: {name}"] = {"ratio": round(statistics.median(ratios), 3),
                                                  "spread": round(max(ratios) - min(ratios), 3)}


def machine():
    with open("/proc/cpuinfo") as f:
        model = re.search(r"model name\s*:\s*(.*)", f.read())
    return {"cpu": model.group(1) if model else platform.machine(), "cores": os.cpu_count(),
            "kernel": platform.release().split("-")[0], "date": time.strftime("%Y-%m-%d")}


def main():
    parser = argparse.ArgumentParser(description="End-to-end benchmarks against peers")
    parser.add_argument("--build", default=os.path.join(HERE, "..", "build", "release"))
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out")
    parser.add_argument("--markdown")
    parser.add_argument("--only", choices=["http", "files", "lua", "process"])
    options = parser.parse_args()
    results = {}
    for name, bench in (("http", bench_http), ("files", bench_files), ("lua", bench_lua),
                        ("process", bench_process)):
        if options.only in (None, name):
            bench(options, results)
    report = {"machine": machine(), "seconds": options.seconds, "rounds": options.rounds, "results": results}
    text = markdown(report)
    print(text)
    if options.out:
        with open(options.out, "w") as f:
            json.dump(report, f, indent=1)
    if options.markdown:
        with open(options.markdown, "w") as f:
            f.write(text)


if __name__ == "__main__":
    main()
