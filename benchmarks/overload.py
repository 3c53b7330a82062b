#!/usr/bin/env python3
"""Three times as many requests as can be answered: how many good answers there still are, and how late.

A handler computes for some 10 ms. First a few clients that ask one after another show what can be done; then requests
come at three times that rate whatever happens, from clients that give up after five seconds. The server has one core,
the clients have the other, which is kept as busy for the first figure as it is for the second: the two may share a
processor.
"""
import argparse
import asyncio
import os
import subprocess
import tempfile
import time

from servers import free_port

APP = """
return function(req, res)
  local sum = 0
  for i = 1, 600000 do sum = sum + i % 7 end
  res:text("done")
end
"""
PATIENCE = 5.0


class Clients:
    def __init__(self, port):
        self.port, self.idle, self.times, self.refused, self.gave_up = port, [], [], 0, 0

    async def ask(self, due):
        try:
            await asyncio.wait_for(self.exchange(due), PATIENCE)
        except (asyncio.TimeoutError, OSError, asyncio.IncompleteReadError):
            self.gave_up += 1

    async def exchange(self, due):
        reader, writer = self.idle.pop() if self.idle else await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]))
        except BaseException:
            writer.close()
            raise
        if head.startswith(b"HTTP/1.1 200 "):
            self.times.append(time.monotonic() - due)
        else:
            self.refused += 1
        self.idle.append((reader, writer))


async def peak(port, seconds):
    clients, end = Clients(port), time.monotonic() + seconds

    async def go_on():
        while time.monotonic() < end:
            await clients.ask(time.monotonic())
    await asyncio.gather(*(go_on() for _ in range(4)))
    return len(clients.times) / seconds


async def overload(port, rate, seconds):
    clients, tasks, began = Clients(port), set(), time.monotonic()
    for number in range(int(rate * seconds)):
        due = began + number / rate
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        task = asyncio.create_task(clients.ask(due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    good = len(clients.times) / (time.monotonic() - began)
    await asyncio.gather(*tasks)
    return clients, good


def measure(options, app, backend, target):
    port = free_port()
    command = ["taskset", "-c", "0", f"{options.build}/evluaserver", app, "--listen", f"127.0.0.1:{port}",
               "--workers", "1", "--max-connections-per-address", "0", "--queue-target", str(target)]
    server = subprocess.Popen(command, env=dict(os.environ, EVLUA_BACKEND=backend), stderr=subprocess.DEVNULL)
    try:
        time.sleep(1)
        busy = subprocess.Popen(["nice", "-n", "19", "sh", "-c", "while :; do :; done"])
        try:
            most = asyncio.run(peak(port, 5))
        finally:
            busy.kill()
            busy.wait()
        clients, good = asyncio.run(overload(port, 3 * most, options.seconds))
    finally:
        server.terminate()
        server.wait()
    times = sorted(clients.times)
    print(f"{backend}, --queue-target {target}: peak {most:.0f}/s; at three times that {good:.0f}/s good "
          f"({good / most:.2f}), p50 {times[len(times) // 2]:.2f} s, p99 {times[len(times) * 99 // 100]:.2f} s; "
          f"{clients.refused} refused, {clients.gave_up} gave up", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--seconds", type=int, default=15)
    options = parser.parse_args()
    os.sched_setaffinity(0, {1})
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as app:
        app.write(APP)
        app.flush()
        for backend in ("io_uring", "libev"):
            for target in (0.5, 0):
                measure(options, app.name, backend, target)


if __name__ == "__main__":
    main()
