#!/usr/bin/env python3
"""What clients that never finish a request cost others: latency of good requests without and with 10,000 of them.

Each slow client sends a byte of a request's head every five seconds, from one of a hundred addresses, and comes again
when it is cut off. The server has one core; the good clients have another, and the slow ones get little of it, so that
what is measured is the server.
"""
import argparse
import heapq
import os
import resource
import selectors
import socket
import subprocess
import tempfile
import threading
import time

from servers import free_port

HEAD = b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: " + b"a" * 1000
EVERY = 5.0
CLIENTS = 16


class SlowClients:
    def __init__(self, port, count):
        self.port, self.count = port, count
        self.selector, self.due, self.open, self.cut, self.ended = selectors.EpollSelector(), [], 0, 0, False
        self.thread = threading.Thread(target=self.run)

    def connect(self, number):
        client = socket.socket()
        client.setblocking(False)
        client.bind((f"127.0.1.{number % 100 + 1}", 0))
        try:
            client.connect(("127.0.0.1", self.port))
        except BlockingIOError:
            pass
        self.selector.register(client, selectors.EVENT_READ, number)
        self.open += 1
        heapq.heappush(self.due, (time.monotonic() + EVERY * (number % 1000) / 1000, id(client), client, 0))

    def close(self, client, number):
        self.selector.unregister(client)
        client.close()
        self.cut += 1
        self.open -= 1
        if not self.ended:
            self.connect(number)

    def run(self):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 15)
        for number in range(self.count):
            self.connect(number)
            if number % 100 == 99:
                self.turn(0.01)
        while not self.ended:
            self.turn(0.05)
        for key in list(self.selector.get_map().values()):
            key.fileobj.close()

    def turn(self, wait):
        for key, _ in self.selector.select(wait):
            try:
                while key.fileobj.recv(4096):
                    pass
            except BlockingIOError:
                continue
            except OSError:
                pass
            self.close(key.fileobj, key.data)
        now = time.monotonic()
        while self.due and self.due[0][0] <= now:
            _, _, client, sent = heapq.heappop(self.due)
            if client.fileno() < 0:
                continue
            try:
                client.send(HEAD[sent:sent + 1])
            except OSError:
                continue  # not connected yet, or cut: the selector tells
            heapq.heappush(self.due, (now + EVERY, id(client), client, sent + 1))


def latency(port, seconds, rate):
    """Of good requests: 50 and 99 percent, in ms, and how many per second."""
    with tempfile.NamedTemporaryFile("r") as log:
        subprocess.run(["h2load", "--h1", f"-c{CLIENTS}", f"-D{seconds}", f"--rps={rate // CLIENTS}",
                        f"--log-file={log.name}", f"http://127.0.0.1:{port}/"], stdout=subprocess.DEVNULL, check=True)
        took = sorted(int(line.split()[2]) for line in log)
    return took[len(took) // 2] / 1000, took[len(took) * 99 // 100] / 1000, len(took) / seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--count", type=int, default=10000)
    parser.add_argument("--rate", type=int, default=20000, help="good requests per second")
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    os.sched_setaffinity(0, {1})
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as app:
        app.write("return function(req, res) res:text('Hello, World!') end")
        app.flush()
        for backend in ("io_uring", "libev"):
            port = free_port()
            server = subprocess.Popen(["taskset", "-c", "0", f"{options.build}/evluaserver", app.name, "--workers", "1",
                                       "--listen", f"127.0.0.1:{port}"],
                                      env=dict(os.environ, EVLUA_BACKEND=backend), stderr=subprocess.DEVNULL)
            try:
                time.sleep(1)
                alone = [latency(port, options.seconds, options.rate) for _ in range(options.rounds)]
                slow = SlowClients(port, options.count)
                slow.thread.start()
                while slow.open < options.count:
                    time.sleep(0.1)
                beside = [latency(port, options.seconds, options.rate) for _ in range(options.rounds)]
                print(f"{backend}: {slow.open} slow clients, {slow.cut} cut off so far")
                slow.ended = True
                slow.thread.join()
            finally:
                server.terminate()
                server.wait()
            for name, rows in (("alone", alone), ("beside them", beside)):
                print(f"  {name}: p50 / p99 / per second: " +
                      ", ".join(f"{a:.2f} / {b:.2f} ms / {c:.0f}" for a, b, c in rows))


if __name__ == "__main__":
    main()
