"""evluaserver under clients that want all of it: slow ones, many from one address, ones that never stop asking."""
import json
import os
import select
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time

from support import EVLUASERVER, LIMIT, Program, check, exchange, main, temporary

APP = temporary("""
local evlua = require "evlua"
local big = ("0123456789abcdef"):rep(1 << 19)
return function(req, res)
  if req.path == "/later" then evlua.sleep(1) end
  if req.path == "/compute" then for i = 1, 3000000 do local _ = i % 7 end end
  if req.path == "/block" then  -- nobody else runs meanwhile
    evlua.atomic(function() for i = 1, 1500000 do local _ = i % 7 end end)
  end
  if req.path == "/events" then
    for i = 1, 4 do assert(res:write("event\\n")) evlua.sleep(0.4) end
    return
  end
  if req.path == "/stream" then
    for i = 1, 128 do if not res:write(big:sub(1, 65536)) then return end end
    return
  end
  if req.method == "POST" then return res:text(tostring(#assert(req:body()))) end
  if req.path == "/big" then return res:text(big) end
  res:text("hello")
end
""")
FOLDER = tempfile.mkdtemp()
with open(os.path.join(FOLDER, "big"), "wb") as file:
    file.write(bytes(1 << 23))
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
SANITIZED = os.environ.get("EVLUA_SANITIZE", "") != ""


class Server:
    def __init__(self, *options, app=APP, tls=False):
        if tls:
            options += ("--tls-auto-dev",)
        self.tls = tls
        self.program = Program(EVLUASERVER, app, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", *options)
        self.admin = int(self.program.word_after("admin on http://127.0.0.1:"))
        self.port = int(self.program.word_after("s://127.0.0.1:" if tls else "listening on http://127.0.0.1:"))

    def connect(self, first=b"", receive_buffer=None):
        s = socket.socket()
        if receive_buffer:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        s.settimeout(LIMIT)
        s.connect(("127.0.0.1", self.port))
        if first:
            s.sendall(first)
        if self.tls:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            s = context.wrap_socket(s)
        return s

    def status(self):
        answer = exchange(self.admin, b"GET /status.json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return json.loads(answer.split(b"\r\n\r\n", 1)[1])

    def metric(self, name):
        answer = exchange(self.admin, b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").decode()
        return float(answer.split(f"\n{name} ", 1)[1].split("\n", 1)[0])

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        try:
            if kind is None:
                check(self.program.stop() == 0, self.program.text)
        finally:
            self.program.__exit__()


def rest_of(s):
    """What comes up to the end, however it ends."""
    got = b""
    try:
        while piece := s.recv(65536):
            got += piece
    except (ConnectionResetError, BrokenPipeError, ssl.SSLError):
        pass
    return got


def answer_on(s, request=GET):
    """Of a kept connection: the head and a body of five bytes; empty when the connection has ended."""
    got = b""
    try:
        s.sendall(request)
        while not got.endswith(b"hello"):
            piece = s.recv(65536)
            if not piece:
                break
            got += piece
    except (ConnectionResetError, BrokenPipeError):
        pass
    return got


def eventually(condition, *about):
    deadline = time.monotonic() + LIMIT
    while not condition():
        check(time.monotonic() < deadline, "never came true", *about)
        time.sleep(0.01)


def test_times_are_options():
    fast = ("--header-timeout", "0.2", "--body-timeout", "0.2", "--keep-alive", "0.2", "--handshake-timeout", "0.2",
            "--send-timeout", "0.2")
    began = time.monotonic()
    with Server(*fast) as server:
        with server.connect() as s:
            s.sendall(b"GET / HTTP/1.1\r\nHos")
            check(rest_of(s).startswith(b"HTTP/1.1 408 "))
        with server.connect() as s:
            s.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345")
            check(rest_of(s).startswith(b"HTTP/1.1 408 "))
        with server.connect() as s:
            check(answer_on(s).endswith(b"hello") and rest_of(s) == b"")
        with server.connect(receive_buffer=4096) as s:
            s.sendall(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
            eventually(lambda: server.status()["aborted"] == 1)
    with Server(*fast, tls=True) as server:
        for start in (b"", b"\x16\x03\x01\x00\xff\x01"):
            with socket.create_connection(("127.0.0.1", server.port), LIMIT) as s:
                s.sendall(start)
                check(rest_of(s) == b"")
        check(server.status()["handshake_failures"] == 2)
    check(SANITIZED or time.monotonic() - began < 8, "the defaults were waited for")


def test_connections_of_an_address():
    with Server("--max-connections-per-address", "3", "--workers", "2") as server:
        held = [server.connect() for _ in range(3)]
        for s in held:
            check(answer_on(s).endswith(b"hello"))
        for _ in range(5):
            with server.connect() as s:
                check(answer_on(s) == b"", "the fourth is closed")
        check(server.status()["connections_refused"] == 5, server.status())
        check(server.metric("evlua_connections_refused_total") == 5)
        for s in held:
            check(answer_on(s).endswith(b"hello"), "those that there are go on")
        held.pop().close()
        eventually(lambda: answer_on(server.connect()).endswith(b"hello"), "its place is free again")
    told = server.program.text
    check(told.count("and gets no more") == 1, told)


def test_whom_a_proxy_announces_is_counted():
    def named(address, family="TCP6"):
        target = "::1" if family == "TCP6" else "127.0.0.1"
        return f"PROXY {family} {address} {target} 1000 80\r\n".encode()

    with Server("--max-connections-per-address", "2", "--proxy-protocol", "127.0.0.1") as server:
        held = [server.connect(named("2001:db8:0:1::1")), server.connect(named("2001:db8:0:1:2::3"))]
        held += [server.connect(named("192.0.2.1", "TCP4")), server.connect(named("::ffff:192.0.2.1"))]
        held += [server.connect(b"PROXY UNKNOWN\r\n") for _ in range(4)]
        for s in held:
            check(answer_on(s).endswith(b"hello"), "the proxy itself is not counted")
        for address in (named("2001:db8:0:1:ffff::1"), named("192.0.2.1", "TCP4")):
            with server.connect(address) as s:
                check(answer_on(s) == b"", "a third of that network", address)
        for address in (named("2001:db8:0:2::1"), named("192.0.2.2", "TCP4")):
            with server.connect(address) as s:
                check(answer_on(s).endswith(b"hello"), "another one", address)
    with Server("--max-connections-per-address", "2", "--trusted-proxy", "127.0.0.0/8") as server:
        for s in [server.connect() for _ in range(8)]:
            check(answer_on(s).endswith(b"hello"), "a trusted proxy speaks for many")


def test_requests_of_a_connection():
    with Server("--max-requests", "3") as server:
        with server.connect() as s:
            for _ in range(2):
                check(b"Connection: close" not in answer_on(s))
            check(b"\r\nConnection: close\r\n" in answer_on(s) and rest_of(s) == b"")
        with server.connect() as s:
            s.sendall(GET * 5)
            got = rest_of(s)
            check(got.count(b"hello") == 3 and got.count(b"Connection: close") == 1, got)


FLOOD = """
import socket, sys, threading
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
def read():
    while s.recv(1 << 20): pass
threading.Thread(target=read, daemon=True).start()
while True: s.sendall(b"GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n" * 2000)
"""


def test_a_client_that_pipelines_for_ever_starves_nobody():
    with Server("--workers", "1", "--grace", "1") as server:
        floods = [subprocess.Popen([sys.executable, "-c", FLOOD, str(server.port)], stderr=subprocess.DEVNULL)
                  for _ in range(2)]
        try:
            eventually(lambda: server.status()["requests"] > 10_000)
            with server.connect() as s:
                for _ in range(50):
                    began = time.monotonic()
                    check(answer_on(s).endswith(b"hello"))
                    check(SANITIZED or time.monotonic() - began < 2, "it had to wait for the others")
        finally:
            for flood in floods:
                flood.kill()
                flood.wait()


def test_heads_as_large_as_told():
    def asked(server, line_bytes, fields=0, field_bytes=0):
        head = b"GET /" + b"a" * (line_bytes - len("GET / HTTP/1.1")) + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        head += b"a: b\r\n" * fields
        if field_bytes:
            head += b"c: " + b"d" * (field_bytes - 5 - len(b"Host: x\r\nConnection: close\r\n")) + b"\r\n"
        return int(exchange(server.port, head + b"\r\n").split(b" ")[1])

    with Server("--max-uri", "300", "--max-header-size", "1000", "--max-header-fields", "5") as server:
        check((asked(server, 300), asked(server, 301)) == (200, 414))
        check((asked(server, 20, 3), asked(server, 20, 4)) == (200, 431))
        check((asked(server, 20, 0, 1000), asked(server, 20, 0, 1001)) == (200, 431))
    with Server("--max-uri", "20000", "--max-header-size", "40000", "--max-header-fields", "128") as server:
        check(asked(server, 20000, 120, 39000) == 200)
    with Program(EVLUASERVER, APP, "--max-uri", "30000", "--max-header-size", "40000") as both:
        both.wait_for("together")
        check(both.process.wait(LIMIT) == 2, both.text)


def trickle(s, piece, pause=0.05):
    """Sends until the server has had enough, or has answered; what it says."""
    answer = b""
    deadline = time.monotonic() + LIMIT
    try:
        s.settimeout(pause)
        while time.monotonic() < deadline:
            s.sendall(piece)
            try:
                got = s.recv(65536)
                if not got:
                    return answer
                answer += got
            except (TimeoutError, ssl.SSLWantReadError):
                pass
    except (ConnectionResetError, BrokenPipeError, ssl.SSLError):
        return answer
    raise AssertionError("it may go on for ever")


POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


def test_a_body_that_trickles():
    for tls in (False, True):
        with Server("--body-timeout", "1", "--min-rate", "1000", tls=tls) as server:
            for head, piece in ((POST, b"x"), (CHUNKED, b"1\r\nx\r\n")):
                with server.connect() as s:
                    s.sendall(head)
                    check(trickle(s, piece).startswith(b"HTTP/1.1 408 "), head)
            with server.connect() as s:  # answered without being read: what follows is skipped, not for ever either
                s.sendall(POST.replace(b"POST / ", b"PUT / ").replace(b"1000000", b"100000"))
                check(trickle(s, b"x").startswith(b"HTTP/1.1 200 "))
            with server.connect() as s:  # four times as fast as it has to be, and longer than a pause may be
                began = time.monotonic()
                s.sendall(POST.replace(b"1000000", b"10000"))
                for _ in range(50):
                    s.sendall(b"x" * 200)
                    time.sleep(0.05)
                check(b"\r\n\r\n10000" in s.recv(65536) and time.monotonic() - began > 2)
    with Server("--body-timeout", "1", "--min-rate", "0") as server, server.connect() as s:
        s.sendall(POST.replace(b"1000000", b"40"))
        for _ in range(40):
            s.sendall(b"x")
            time.sleep(0.05)
        check(b"\r\n\r\n40" in s.recv(65536), "any rate will do")


def test_a_reader_that_trickles():
    def read_slowly(server, request, enough):
        with server.connect(receive_buffer=4096) as s:
            s.sendall(request)
            deadline = time.monotonic() + LIMIT
            try:
                while not enough():
                    check(time.monotonic() < deadline, "it may go on for ever")
                    if not s.recv(200):
                        break
                    time.sleep(0.02)
            except (ConnectionResetError, ssl.SSLError):
                pass
            eventually(enough)

    for tls in (False, True):
        options = ("--send-timeout", "1", "--min-rate", "200000", "--static", FOLDER + "=/files/")
        with Server(*options, tls=tls) as server:
            for number, path in enumerate((b"/big", b"/files/big", b"/stream")):
                read_slowly(server, b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n",
                            lambda: server.status()["aborted"] > number)
            with server.connect() as s:  # slow enough to make the server wait, but good
                s.sendall(b"GET /big HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                size = 0
                while got := s.recv(65536):
                    size += len(got)
                    time.sleep(0.02)
                check(size > 1 << 23, size)
            check(server.status()["aborted"] == 3)


def test_who_makes_himself_wait_is_not_slow():
    short = ("--body-timeout", "0.3", "--send-timeout", "0.3", "--min-rate", "100000", "--keep-alive", "5")
    with Server(*short) as server:
        with server.connect() as s:
            s.sendall(b"POST /later HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n0123456789")
            check(b"200 OK" in s.recv(65536), "a handler that reads late")
            s.sendall(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
            got = b""
            while not got.endswith(b"0\r\n\r\n"):
                piece = s.recv(65536)
                check(piece, "a handler that writes now and then", got)
                got += piece
            time.sleep(1)  # idle
            check(answer_on(s).endswith(b"hello"))


# -- HTTP/2 ------------------------------------------------------------------------------------------------------------


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def head(stream, method, path, ends=True):
    fields = ((":method", method), (":scheme", "http"), (":path", path), (":authority", "x"))
    block = b"".join(b"\0" + bytes([len(part[0])]) + part[0].encode() + bytes([len(part[1])]) + part[1].encode()
                     for part in fields)
    return frame(1, 4 | (1 if ends else 0), stream, block)


DATA, HEADERS, RST_STREAM, SETTINGS, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 7, 8
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SHUT_WINDOW = struct.pack(">HI", 4, 0)


class Frames:
    """What the server sends on a connection, frame by frame."""

    def __init__(self, s):
        self.socket, self.rest, self.seen, self.body = s, b"", [], b""

    def more(self, seconds):
        """False at the end of the connection."""
        self.socket.settimeout(seconds)
        try:
            got = self.socket.recv(65536)
        except TimeoutError:
            return True
        except (ConnectionResetError, BrokenPipeError):
            return False
        self.rest += got
        while len(self.rest) >= 9 and len(self.rest) >= 9 + int.from_bytes(self.rest[:3], "big"):
            size = int.from_bytes(self.rest[:3], "big")
            payload = self.rest[9:9 + size]
            self.seen.append((self.rest[3], int.from_bytes(self.rest[5:9], "big"), payload))
            self.body += payload if self.rest[3] == DATA else b""
            self.rest = self.rest[9 + size:]
        return bool(got)

    def until(self, condition, act=None):
        deadline = time.monotonic() + LIMIT
        while not condition():
            check(time.monotonic() < deadline, "not in time", self.seen[-5:])
            if act:
                act()
                time.sleep(0.05)
            check(self.more(0.05 if act else 1) or condition(), "the connection has ended", self.seen[-5:])

    def has(self, kind, stream=None):
        return any(entry[0] == kind and stream in (None, entry[1]) for entry in self.seen)


def test_trickles_over_http2():
    with Server("--body-timeout", "1", "--send-timeout", "1", "--min-rate", "1000") as server:
        with server.connect(PREFACE + frame(SETTINGS)) as s:
            frames = Frames(s)
            s.sendall(head(1, "POST", "/", ends=False))
            frames.until(lambda: frames.has(HEADERS, 1), lambda: s.sendall(frame(DATA, 0, 1, b"x")))
            check(b"408" in next(entry[2] for entry in frames.seen if entry[0] == HEADERS), frames.seen)
            s.sendall(head(3, "POST", "/", ends=False))
            for _ in range(40):
                s.sendall(frame(DATA, 0, 3, b"x" * 400))
                time.sleep(0.05)
            s.sendall(frame(DATA, 1, 3))
            frames.until(lambda: frames.body.endswith(b"16000"))
        with server.connect(PREFACE + frame(SETTINGS, 0, 0, SHUT_WINDOW)) as s:
            frames = Frames(s)
            s.sendall(head(1, "GET", "/big"))
            frames.until(lambda: frames.has(RST_STREAM, 1),
                         lambda: s.sendall(frame(WINDOW_UPDATE, 0, 1, struct.pack(">I", 5))))
            check(0 < len(frames.body) < 2000, frames.body)
            s.sendall(head(3, "POST", "/later") + frame(WINDOW_UPDATE, 0, 3, struct.pack(">I", 100)))
            frames.until(lambda: frames.body.endswith(b"0"))


def test_one_slow_stream_ends_alone():
    with Server("--body-timeout", "1", "--send-timeout", "1", "--min-rate", "1000") as server:
        with server.connect(PREFACE + frame(SETTINGS)) as s:
            frames = Frames(s)
            s.sendall(head(1, "POST", "/", ends=False) + head(3, "POST", "/", ends=False))
            sent = 0

            def feed():
                nonlocal sent
                s.sendall(frame(DATA, 0, 1, b"x") + frame(DATA, 0, 3, b"y" * 400))
                sent += 400

            frames.until(lambda: frames.has(HEADERS), feed)
            check(frames.has(HEADERS, 1) and b"408" in next(p for kind, _, p in frames.seen if kind == HEADERS))
            for _ in range(30):  # longer than the slow one got
                s.sendall(frame(DATA, 0, 3, b"y" * 400))
                sent += 400
                time.sleep(0.05)
            s.sendall(frame(DATA, 1, 3))
            frames.until(lambda: frames.has(HEADERS, 3))
            frames.until(lambda: frames.body.endswith(str(sent).encode()))
        with server.connect(PREFACE + frame(SETTINGS, 0, 0, SHUT_WINDOW)) as s:  # likewise of what is taken
            frames = Frames(s)
            s.sendall(head(1, "GET", "/big") + head(3, "GET", "/big"))

            def take():
                s.sendall(frame(WINDOW_UPDATE, 0, 1, struct.pack(">I", 5)) +
                          frame(WINDOW_UPDATE, 0, 3, struct.pack(">I", 400)))

            frames.until(lambda: frames.has(RST_STREAM, 1), take)
            for _ in range(30):
                take()
                frames.more(0.05)
            check(not frames.has(RST_STREAM, 3) and not frames.has(GOAWAY), frames.seen[-3:])
            before = len(frames.body)
            frames.until(lambda: len(frames.body) >= before + 4000, take)


def test_a_slow_client_may_have_many_streams():
    """Each of these is slower than it would have to be alone."""
    with Server("--body-timeout", "1", "--min-rate", "2000") as server:
        with server.connect(PREFACE + frame(SETTINGS)) as s:
            frames = Frames(s)
            streams = range(1, 41, 2)
            s.sendall(b"".join(head(stream, "POST", "/", ends=False) for stream in streams))
            for _ in range(60):
                s.sendall(b"".join(frame(DATA, 0, stream, b"x" * 15) for stream in streams))
                time.sleep(0.05)
            s.sendall(b"".join(frame(DATA, 1, stream) for stream in streams))
            frames.until(lambda: frames.body == b"900" * 20)


def test_requests_of_an_http2_connection():
    with Server("--max-requests", "3") as server, server.connect(PREFACE + frame(SETTINGS)) as s:
        frames = Frames(s)
        s.sendall(head(1, "GET", "/") + head(3, "GET", "/") + head(5, "GET", "/"))
        frames.until(lambda: frames.has(GOAWAY) and frames.body == b"hello" * 3)
        while frames.more(LIMIT):
            pass


# -- overload ----------------------------------------------------------------------------------------------------------


class Callers:
    """Clients of one address, each asking again as soon as it has an answer, or `pause` seconds after a refusal."""

    def __init__(self, server, count, path, pause=0.02, address=None):
        self.server, self.path, self.pause, self.address = server, path, pause, address
        self.stopping = threading.Event()
        self.times, self.refused, self.wrong = [], 0, []
        self.threads = [threading.Thread(target=self.call) for _ in range(count)]
        for thread in self.threads:
            thread.start()

    def call(self):
        first = f"PROXY TCP4 {self.address} 127.0.0.1 1000 80\r\n".encode() if self.address else b""
        with self.server.connect(first) as s:
            while not self.stopping.is_set():
                began = time.monotonic()
                s.sendall(b"GET " + self.path + b" HTTP/1.1\r\nHost: x\r\n\r\n")
                answer = b""
                while not answer.endswith((b"hello", b"Unavailable\n")):
                    got = s.recv(65536)
                    if not got:
                        break
                    answer += got
                if answer.endswith(b"hello"):
                    self.times.append(time.monotonic() - began)
                elif answer.startswith(b"HTTP/1.1 503 ") and b"\r\nRetry-After: 1\r\n" in answer:
                    self.refused += 1
                    time.sleep(self.pause)
                else:
                    self.wrong.append(answer)
                    return

    def end(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join()
        check(not self.wrong, self.wrong[:2])
        return self


def overload(path):
    with Server("--workers", "1", "--queue-target", "0.2") as server:
        few = Callers(server, 2, path)
        eventually(lambda: len(few.times) >= 10)
        check(few.end().refused < len(few.times) / 4, "there is time for two")
        many = Callers(server, 100, path)
        eventually(lambda: many.refused >= 100)
        settled = len(many.times)
        eventually(lambda: len(many.times) >= settled + 30, "some are served all the time")
        many.end()
        shed = server.status()["shed"]
        check(shed == many.refused == server.metric("evlua_requests_shed_total"), shed, many.refused)
        again = Callers(server, 1, path)
        eventually(lambda: len(again.times) >= 5)
        check(again.end().refused < len(again.times), "it is over")


def test_overload_is_refused_early():
    overload(b"/block")


def test_handlers_that_compute_are_too_many():
    """They begin at once and take turns: what is too long is the time until all of their turns were."""
    overload(b"/compute")


def test_no_refusals_where_none_are_wanted():
    with Server("--workers", "1", "--queue-target", "0") as server:
        many = Callers(server, 60, b"/block")
        eventually(lambda: len(many.times) >= 100)
        check(many.end().refused == 0 and server.status()["shed"] == 0)


def test_the_refused_have_to_wait():
    """Asking again at once, and again, would take the time of those that are served."""
    with Server("--workers", "1", "--queue-target", "0.2") as server:
        hasty = Callers(server, 60, b"/compute", pause=0)
        eventually(lambda: hasty.refused >= 60)
        began, before = time.monotonic(), hasty.refused
        eventually(lambda: hasty.refused >= before + 120)
        each = (time.monotonic() - began) / ((hasty.refused - before) / 60)
        hasty.end()
        check(each >= 0.15, "seconds between two refusals of one connection:", each)


class Busy:
    """A server that has too much to do."""

    def __enter__(self):
        self.server = Server("--workers", "1", "--queue-target", "0.2")
        self.others = Callers(self.server, 60, b"/compute", pause=0)
        eventually(lambda: self.others.refused >= 60)
        return self.server

    def __exit__(self, *about):
        self.others.end()
        self.server.__exit__(*about)


def test_the_refused_have_to_wait_when_they_pipeline():
    with Busy() as server, server.connect() as s:
        s.sendall(b"GET /compute HTTP/1.1\r\nHost: x\r\n\r\n" * 200)
        answers, times = b"", []
        while answers.count(b"503 Service Unavailable") < 10:
            piece = s.recv(65536)
            check(piece, answers[-100:])
            answers += piece
            times += [time.monotonic()] * piece.count(b"503 Service Unavailable")
        check(times[9] - times[0] >= 9 * 0.15, "ten refusals took", times[9] - times[0])


def test_the_refused_have_to_wait_over_http2():
    """All streams that there may be, and a new one for each answer."""
    with Busy() as server, server.connect(PREFACE + frame(SETTINGS)) as s:
        frames = Frames(s)
        s.sendall(b"".join(head(stream, "GET", "/compute") for stream in range(1, 201, 2)))
        asked, seen, ended, times = 201, 0, set(), []
        deadline = time.monotonic() + 6
        while time.monotonic() < deadline:
            check(frames.more(0.05), frames.seen[-3:])
            for kind, stream, payload in frames.seen[seen:]:
                if payload == b"Service Unavailable\n":
                    times.append(time.monotonic())
                if kind in (DATA, RST_STREAM) and stream not in ended:
                    ended.add(stream)
                    s.sendall(head(asked, "GET", "/compute"))
                    asked += 2
            seen = len(frames.seen)
        check(len(times) >= 50, "too few were refused to tell", len(times))
        lasted = times[-1] - times[0]
        check(len(times) <= 128 + 60 * lasted, len(times), "refusals in", lasted)


def test_the_greedy_are_refused_first():
    with Server("--workers", "1", "--queue-target", "0.2", "--proxy-protocol", "127.0.0.1") as server:
        greedy = Callers(server, 60, b"/block", address="192.0.2.1")
        eventually(lambda: greedy.refused >= 300)
        modest = Callers(server, 1, b"/block", pause=0.1, address="192.0.2.2")
        served, refused = len(greedy.times), greedy.refused
        eventually(lambda: len(modest.times) + modest.refused >= 30)
        served, refused = len(greedy.times) - served, greedy.refused - refused
        greedy.end()
        modest.end()
        check(modest.refused / len(modest.times) < refused / served / 2, modest.refused, len(modest.times), refused,
              served)


def test_others_do_not_answer_for_who_computes():
    with Server("--workers", "1", "--queue-target", "0.2", "--proxy-protocol", "127.0.0.1") as server:
        greedy = Callers(server, 40, b"/compute", address="192.0.2.1")
        eventually(lambda: greedy.refused >= 200)
        modest = Callers(server, 1, b"/", pause=0.1, address="192.0.2.2")
        eventually(lambda: len(modest.times) + modest.refused >= 40)
        greedy.end()
        check(modest.end().refused < len(modest.times) / 4, modest.refused, len(modest.times))


def test_a_queue_has_an_end():
    with Server("--workers", "1", "--queue-target", "0", "--max-queue", "5") as server:
        many = Callers(server, 60, b"/compute")
        eventually(lambda: many.refused >= 20 and len(many.times) >= 5)
        many.end()


def test_bodies_share_their_memory():
    with Server("--max-body-memory", "1000000", "--max-body-memory-per-address", "0", "--workers", "2") as server:
        held = []
        for _ in range(9):
            s = server.connect()
            s.sendall(POST + b"x" * 100_000)
            held.append(s)
        eventually(lambda: server.status()["body_memory"] == 900_000)
        check(server.metric("evlua_body_memory_bytes") == 900_000)
        with server.connect() as s:
            s.sendall(POST.replace(b"1000000", b"150000") + b"x" * 150_000)
            answer = rest_of(s)
            check(answer.startswith(b"HTTP/1.1 503 ") and b"\r\nRetry-After: " in answer, answer)
        with server.connect() as s:
            s.sendall(POST.replace(b"1000000", b"90000") + b"x" * 90_000)
            check(b"\r\n\r\n90000" in s.recv(65536))
            check(answer_on(s).endswith(b"hello"))
        for s in held:
            s.close()
        eventually(lambda: server.status()["body_memory"] == 0)


def upload(server, size, address=None):
    first = f"PROXY TCP4 {address} 127.0.0.1 1000 80\r\n".encode() if address else b""
    s = server.connect(first)
    s.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size)
    return s


def test_an_address_has_a_share_of_body_memory():
    """Whoever takes all that he can get leaves enough for the others."""
    with Server("--max-body-memory", "1000000", "--workers", "2", "--proxy-protocol", "127.0.0.1") as server:
        held, refused = [], 0
        for _ in range(30):
            s = upload(server, 1_000_000, "192.0.2.1")
            s.sendall(b"x" * 30_000)
            held.append(s)
        eventually(lambda: server.status()["statuses"][4] == 22)
        eventually(lambda: 200_000 < server.status()["body_memory"] <= 250_000)
        for s in held:
            if select.select([s], [], [], 0)[0]:
                answer = rest_of(s)
                check(answer.startswith(b"HTTP/1.1 503 ") and b"\r\nRetry-After: " in answer, answer)
                refused += 1
        check(refused == 22, refused)
        for address in ("192.0.2.2", "192.0.2.1"):  # in pieces, so that it has to wait for some
            with upload(server, 200_000, address) as s:
                s.sendall(b"y" * 100_000)
                if address == "192.0.2.2":
                    eventually(lambda: server.status()["body_memory"] >= 300_000)
                    s.sendall(b"y" * 100_000)
                    check(b"\r\n\r\n200000" in s.recv(65536), "there is room for another one")
                else:
                    check(rest_of(s).startswith(b"HTTP/1.1 503 "), "and for no more of the same")
        for s in held:
            s.close()
        eventually(lambda: server.status()["body_memory"] == 0)
        with upload(server, 900_000, "192.0.2.1") as s:  # a single one need not keep to it
            s.sendall(b"z" * 800_000)
            eventually(lambda: server.status()["body_memory"] == 800_000)
            s.sendall(b"z" * 100_000)
            check(b"\r\n\r\n900000" in s.recv(65536))
    check(server.program.text.count("bodies from 192.0.2.1:1000 take more memory") == 1, server.program.text)


def test_streams_share_their_addresss_body_memory():
    with Server("--max-body-memory", "1000000", "--workers", "2") as server:
        bad = server.connect(PREFACE + frame(SETTINGS))
        for stream in range(1, 61, 2):
            bad.sendall(head(stream, "POST", "/", ends=False) + frame(0, 0, stream, b"x" * 15_000) * 2)
        def held():
            status = server.status()
            return status["body_memory"] == 30_000 * (30 - status["statuses"][4])

        eventually(lambda: server.status()["statuses"][4] >= 22 and held(), "the others are refused")
        before = server.status()["body_memory"]
        check(0 < before <= 250_000, before)
        with socket.socket() as s:
            s.settimeout(LIMIT)
            s.bind(("127.0.0.2", 0))
            s.connect(("127.0.0.1", server.port))
            s.sendall(POST.replace(b"1000000", b"240000") + b"x" * 120_000)
            eventually(lambda: server.status()["body_memory"] == before + 120_000)
            s.sendall(b"x" * 120_000)
            check(b"\r\n\r\n240000" in s.recv(65536), "another address has its own")
        bad.close()
        eventually(lambda: server.status()["body_memory"] == 0)


def test_a_trusted_proxy_has_no_share():
    with Server("--max-body-memory", "1000000", "--workers", "2", "--trusted-proxy", "127.0.0.1") as server:
        def forwarded(address):
            s = server.connect()
            name = f"X-Forwarded-For: {address}\r\n".encode() if address else b""
            s.sendall(POST.replace(b"Host: x\r\n", b"Host: x\r\n" + name) + b"x" * 100_000)
            return s

        held = [forwarded(None) for _ in range(5)]
        eventually(lambda: server.status()["body_memory"] == 500_000)
        held += [forwarded("192.0.2.1") for _ in range(2)]
        eventually(lambda: server.status()["body_memory"] == 700_000)
        check(rest_of(forwarded("192.0.2.1")).startswith(b"HTTP/1.1 503 "), "whom it names has one")
        for s in held:
            s.close()


def test_a_lack_of_descriptors_is_told_once():
    if "address" in os.environ.get("EVLUA_SANITIZE", ""):
        return  # UBSan looks at memory through a pipe
    code = ("import os, resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)); "
            "os.execv(sys.argv[1], sys.argv[1:])")
    program = Program(sys.executable, "-c", code, EVLUASERVER, APP, "--listen", "127.0.0.1:0", "--workers", "1")
    with program:
        port = int(program.word_after("listening on http://127.0.0.1:"))
        held = [socket.create_connection(("127.0.0.1", port), LIMIT) for _ in range(100)]
        program.wait_for("cannot accept connections")
        check(answer_on(held[0]).endswith(b"hello"), "those that there are go on")
        for s in held[:90]:
            s.close()
        check(answer_on(held[-1]).endswith(b"hello"), "the last of those that waited")
        check(program.stop() == 0, program.text)
    check(program.text.count("cannot accept") == 1, program.text)


try:
    main(globals())
finally:
    os.unlink(APP)
    shutil.rmtree(FOLDER)
