#!/usr/bin/env python3
"""evluaserver under faults for a long time: no good request may fail, and nothing may be left behind.

Good clients ask at a steady rate, over HTTP and HTTPS, and check every answer. Beside them clients reset, half-close,
send garbage or part of a request and wait; every 10 s the app is loaded again (SIGHUP), every minute the program is
exchanged (SIGUSR2). At the end the load ends, and the last process must have no connection and no task left.
"""
import argparse
import asyncio
import collections
import json
import os
import random
import signal
import ssl
import struct
import socket
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
        self.end = time.monotonic() + options.seconds
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

    def measure(self, about):
        pid = self.pid()
        with open(f"/proc/{pid}/status") as f:
            resident = next(int(line.split()[1]) for line in f if line.startswith("VmRSS:"))
        row = {"pid": pid, "resident_kib": resident, "descriptors": len(os.listdir(f"/proc/{pid}/fd"))}
        print(time.strftime("%T"), about, row, dict(self.counts), flush=True)
        return row

    async def exchange(self):
        began, last_pid = time.monotonic(), self.pid()
        for turn in range(1, 10**9):
            await asyncio.sleep(max(0, began + 10 * turn - time.monotonic()))
            if not self.running():
                return
            if turn % 6 != 0:
                os.kill(self.pid(), signal.SIGHUP)
                self.counts["reloads"] += 1
                continue
            self.measure("before the exchange")
            os.kill(last_pid, signal.SIGUSR2)
            deadline = time.monotonic() + 30
            while self.pid() == last_pid:
                if time.monotonic() > deadline:
                    raise SystemExit("no new process took over")
                await asyncio.sleep(0.05)
            last_pid = self.pid()
            self.counts["exchanges"] += 1

    async def run(self):
        tasks = [self.good(n) for n in range(self.options.clients)] + [self.bad(n) for n in range(1, 21)]
        await asyncio.gather(self.exchange(), *tasks)

    def rest(self, row):
        """What the last process holds when everybody has gone."""
        deadline = time.monotonic() + 60
        while True:
            status = json.load(urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/status.json", timeout=10))
            if status["connections"] == 0 or time.monotonic() > deadline:
                break
            time.sleep(0.5)
        tasks = sum(vm["tasks"] for vm in status["vms"])
        print("connections left:", status["connections"], "tasks left:", tasks, "begun with", row)
        self.measure("the end")
        return status["connections"] == 0 and tasks == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--backend", default="io_uring")
    parser.add_argument("--seconds", type=float, default=1800)
    parser.add_argument("--rate", type=float, default=500, help="good requests per second")
    parser.add_argument("--clients", type=int, default=32)
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
        row = soak.measure("the beginning")
        try:
            asyncio.run(soak.run())
            clean = soak.rest(row)
        finally:
            os.kill(soak.pid(), signal.SIGTERM)
        print(dict(soak.counts))
        sys.exit(0 if clean and not soak.counts["failed"] else 1)


if __name__ == "__main__":
    main()
