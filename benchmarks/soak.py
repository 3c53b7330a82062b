#!/usr/bin/env python3
"""evluaserver under faults for a long time: no good request may fail, and nothing may be left behind.

Good clients ask at a steady rate, over HTTP and HTTPS, and check every answer; evlua itself asks for a small page, so
often that the machine is half busy (steady_load.lua). Beside them clients reset, half-close, send garbage or part of a
request and wait; every 10 s the app is loaded again (SIGHUP), every minute the program is exchanged (SIGUSR2). Then the
same goes on for a third of that time without exchanges: the last process must not grow, neither its memory nor its
descriptors nor its tasks. At the end the load ends, and nothing may be left.
"""
import argparse
import asyncio
import collections
import json
import os
import random
import re
import signal
import ssl
import struct
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

from servers import free_port

APP = r'''
local evlua, shared = require "evlua", require "evlua.shared"
local hits = shared.dict("hits")
return function(req, res)
  hits:incr("all", 1)
  if req.path == "/echo" then
    local body = req:body()
    if body then res:text(body) end  -- else the client has gone
    return
  end
  if req.path == "/wait" then evlua.sleep(0.02) return res:text("waited") end
  if req.path == "/stream" then
    for i = 1, 20 do res:write(("%d,"):format(i)) end
    return
  end
  res:text("Hello, World!")
end
'''
STREAM = "".join(f"{i}," for i in range(1, 21)).encode()
GARBAGE = (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET / HTTP/1.1\nHost: x\r\n\r\n", b"\x00" * 300,
           b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
           b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x40\x00\xff" * 9, b"GET /" + b"x" * 10000)


RELOAD_SECONDS, RELOADS_PER_EXCHANGE = 10, 6
WARM_SECONDS = 20  # of a new process: pools and arenas fill
# What may be more at the end of the time without exchanges than at its beginning: a part of it, and so much besides.
GROWTH_MAX = {"resident_kib": (0.05, 4096), "other_descriptors": (0, 4), "tasks": (0.5, 10)}


def idle_seconds():
    """Of all processors, since the machine began."""
    with open("/proc/uptime") as f:
        return float(f.read().split()[1])


def growth(rows):
    """Why these measures of one process, in their order, are those of a leak; nothing: they are not."""
    quarter = max(len(rows) // 4, 1)
    found = []
    for name, (part, more) in GROWTH_MAX.items():
        first, last = (statistics.median(row[name] for row in some) for some in (rows[:quarter], rows[-quarter:]))
        if last > first * (1 + part) + more:
            found.append(f"{name} grew from {first:.0f} to {last:.0f}")
    return found


class Failed(Exception):
    pass


async def read_answer(reader):
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    fields = {k.lower(): v.strip() for k, v in (line.split(":", 1) for line in lines[1:] if line)}
    if not lines[0].startswith("HTTP/1.1 200"):
        raise Failed(lines[0])
    if "content-length" in fields:
        return fields, await reader.readexactly(int(fields["content-length"]))
    body = b""
    while True:
        size = int(await reader.readuntil(b"\r\n"), 16)
        body += await reader.readexactly(size)
        await reader.readexactly(2)
        if size == 0:
            return fields, body


def good_request(dice):
    kind = dice.random()
    if kind < 0.5:
        return b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"Hello, World!"
    if kind < 0.7:
        body = dice.randbytes(dice.choice((10, 1000, 60000)))
        return b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body, body
    if kind < 0.85:
        return b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n", STREAM
    return b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n", b"waited"


class Soak:
    def __init__(self, options, port, tls_port, admin):
        self.options, self.port, self.tls_port, self.admin = options, port, tls_port, admin
        self.steady_from = time.monotonic() + options.seconds
        self.end = self.steady_from + WARM_SECONDS + (options.steady or options.seconds / 3)
        self.steady = []  # measures
        self.counts, self.failures = collections.Counter(), []
        self.tls = ssl._create_unverified_context()

    def running(self):
        return time.monotonic() < self.end

    async def connect(self, secure):
        return await asyncio.open_connection("127.0.0.1", self.tls_port if secure else self.port,
                                             ssl=self.tls if secure else None)

    async def good(self, number):
        dice, secure, between = random.Random(number), number % 4 == 0, self.options.clients / self.options.rate
        reader = writer = None
        while self.running():
            request, expected = good_request(dice)
            try:
                if writer is None:
                    reader, writer = await self.connect(secure)
                writer.write(request)
                fields, body = await asyncio.wait_for(read_answer(reader), 30)
                if body != expected:
                    raise Failed("another body")
                self.counts["good"] += 1
                if fields.get("connection") == "close":
                    writer.close()
                    writer = None
            except (OSError, Failed, asyncio.IncompleteReadError, asyncio.TimeoutError, ssl.SSLError) as reason:
                self.counts["failed"] += 1
                self.failures.append(f"{time.strftime('%T')} {request[:20]!r} {reason!r}")
                print("failed:", self.failures[-1], flush=True)
                if writer is not None:
                    writer.close()
                writer = None
            await asyncio.sleep(between * dice.random() * 2)
        if writer is not None:
            writer.close()

    async def bad(self, number):
        dice = random.Random(-number)
        while self.running():
            try:
                reader, writer = await self.connect(number % 5 == 0)
                fault = dice.choice((self.reset, self.half_close, self.garbage, self.slow, self.leave))
                await fault(dice, reader, writer)
                self.counts["bad"] += 1
                writer.close()
            except (OSError, asyncio.IncompleteReadError, ssl.SSLError):
                pass
            await asyncio.sleep(dice.random() / 5)

    async def reset(self, dice, _, writer):
        writer.write(good_request(dice)[0][:dice.randrange(1, 200)])
        await asyncio.sleep(dice.random() / 50)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async def half_close(self, dice, reader, writer):
        writer.write(good_request(dice)[0][:dice.choice((20, 10**6))])
        if writer.can_write_eof():
            writer.write_eof()
        await asyncio.wait_for(reader.read(), 20)

    async def garbage(self, dice, reader, writer):
        writer.write(dice.choice(GARBAGE))
        await asyncio.wait_for(reader.read(), 20)

    async def slow(self, dice, _, writer):
        for byte in good_request(dice)[0][:dice.randrange(5, 60)]:
            writer.write(bytes([byte]))
            await asyncio.sleep(0.1)

    async def leave(self, dice, _, writer):
        writer.write(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n" * dice.randrange(1, 5))

    def pid(self):
        with open(self.options.pid_file) as f:
            return int(f.read())

    def status(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/status.json", timeout=10) as answer:
            return json.load(answer)

    def measure(self, about):
        pid, status = self.pid(), self.status()
        with open(f"/proc/{pid}/status") as f:
            resident = next(int(line.split()[1]) for line in f if line.startswith("VmRSS:"))
        descriptors = len(os.listdir(f"/proc/{pid}/fd"))
        row = {"pid": pid, "resident_kib": resident, "descriptors": descriptors,
               "other_descriptors": descriptors - status["connections"],
               "tasks": sum(vm["tasks"] for vm in status["vms"])}
        print(time.strftime("%T"), about, row, dict(self.counts), flush=True)
        return row

    async def exchange(self):
        began, last_pid = time.monotonic(), self.pid()
        for turn in range(1, 10**9):
            await asyncio.sleep(max(0, began + RELOAD_SECONDS * turn - time.monotonic()))
            if not self.running():
                return
            now = time.monotonic()
            if now > self.steady_from + WARM_SECONDS:
                self.steady.append(await asyncio.to_thread(self.measure, "without exchanges"))
            if turn % RELOADS_PER_EXCHANGE != 0 or now > self.steady_from:
                os.kill(self.pid(), signal.SIGHUP)
                self.counts["reloads"] += 1
                continue
            await asyncio.to_thread(self.measure, "before the exchange")
            last_pid = await self.exchanged(last_pid)

    async def exchanged(self, last_pid):
        """The process that has taken over."""
        os.kill(last_pid, signal.SIGUSR2)
        deadline = time.monotonic() + 30
        while self.pid() == last_pid:
            if time.monotonic() > deadline:
                raise SystemExit("no new process took over")
            await asyncio.sleep(0.05)
        self.counts["exchanges"] += 1
        return self.pid()

    async def run(self):
        tasks = [self.good(n) for n in range(self.options.clients)] + [self.bad(n) for n in range(1, 21)]
        await asyncio.gather(self.exchange(), *tasks)

    def start_steady_load(self):
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "steady_load.lua")
        return subprocess.Popen([f"{self.options.build}/evlua", "--workers=1", script, str(self.port),
                                 str(self.options.bulk_rate), str(self.options.bulk_clients)],
                                stdout=subprocess.PIPE, text=True)

    def end_steady_load(self, load):
        load.terminate()
        told, _ = load.communicate(timeout=30)
        good, failed = re.fullmatch(r"(\d+) good, (\d+) failed\n", told).groups()
        self.counts["good in bulk"] = int(good)
        self.counts["failed"] += int(failed)

    def leaks(self, beginning):
        """What the last process has gathered, and what it holds when everybody has gone."""
        deadline = time.monotonic() + 60
        while self.status()["connections"] != 0 and time.monotonic() < deadline:
            time.sleep(0.5)
        end = self.measure("the end")
        found = growth(self.steady) if len(self.steady) >= 4 else ["too short a time to tell whether anything grows"]
        if end["descriptors"] > beginning["descriptors"] + 4:
            found.append(f"{end['descriptors']} descriptors left, {beginning['descriptors']} at the beginning")
        if end["tasks"] != 0:
            found.append(f"{end['tasks']} tasks left")
        return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--backend", default="io_uring")
    parser.add_argument("--seconds", type=float, default=1800)
    parser.add_argument("--steady", type=float, help="seconds without exchanges, at least 40")
    parser.add_argument("--rate", type=float, default=500, help="good requests per second")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--bulk-rate", type=float, default=20000, help="requests per second of evlua's own clients")
    parser.add_argument("--bulk-clients", type=int, default=64)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        options.pid_file = f"{directory}/pid"
        app = f"{directory}/app.lua"
        with open(app, "w") as f:
            f.write(APP)
        port, tls_port, admin = free_port(), free_port(), free_port()
        server = subprocess.Popen(
            [f"{options.build}/evluaserver", app, "--listen", f"http://127.0.0.1:{port}", "--listen",
             f"https://127.0.0.1:{tls_port}", "--tls-auto-dev", "--admin", f"127.0.0.1:{admin}", "--workers", "2",
             "--access-log", f"{directory}/access.log", "--pid-file", options.pid_file, "--log-level", "warn"],
            env=dict(os.environ, EVLUA_BACKEND=options.backend))
        deadline = time.monotonic() + 20
        while not os.path.exists(options.pid_file) or not open(options.pid_file).read().strip():
            if server.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("the server did not start")
            time.sleep(0.05)
        soak = Soak(options, port, tls_port, admin)
        beginning = soak.measure("the beginning")
        idle, began = idle_seconds(), time.monotonic()
        load = soak.start_steady_load()
        try:
            asyncio.run(soak.run())
            print(f"processors: {1 - (idle_seconds() - idle) / (time.monotonic() - began) / os.cpu_count():.2f} busy")
            soak.end_steady_load(load)
            leaks = soak.leaks(beginning)
        finally:
            load.kill()
            os.kill(soak.pid(), signal.SIGTERM)
        print(dict(soak.counts), *leaks, sep="\n")
        sys.exit(1 if leaks or soak.counts["failed"] else 0)


if __name__ == "__main__":
    main()
