"""evluaserver under clients that want all of it: slow ones, many from one address, ones that never stop asking."""
import os
import select
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time

from attackers import (APP, CHUNKED, DATA, GET, GOAWAY, HEADERS, POST, PREFACE, RST_STREAM, SETTINGS, SHUT_WINDOW,
                       WINDOW_UPDATE, Frames, Server, answer_on, frame, head, rest_of)
from support import EVLUASERVER, LIMIT, SANITIZED, Program, check, eventually, exchange, main, temporary

FOLDER = tempfile.mkdtemp()
with open(os.path.join(FOLDER, "big"), "wb") as file:
    file.write(bytes(1 << 23))


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


def test_connections_in_total():
    """Who comes when all places are taken waits to be accepted, and is served when one is free."""
    with Server("--max-connections", "3", "--workers", "1") as server:
        held = [server.connect() for _ in range(3)]
        for s in held:
            check(answer_on(s).endswith(b"hello"))
        waiting = [server.connect(GET) for _ in range(5)]
        eventually(lambda: server.metric("evlua_connections_full_total") == 1)
        for s in held:
            check(answer_on(s).endswith(b"hello"), "those that there are go on")
            check(server.status()["connections"] == 3, "whoever asks how we are has a place of his own")
        check(not select.select(waiting, [], [], 0)[0], "the others wait")
        while waiting:
            held.pop().close()
            came, _, _ = select.select(waiting, [], [], LIMIT)
            check(len(came) == 1, "one for one", len(came))
            check(came[0].recv(65536).endswith(b"hello"))
            waiting.remove(came[0])
            held.insert(0, came[0])
            check(server.status()["connections"] == 3)
        status = server.status()
        check(status["connections_refused"] == 0 and status["requests"] == 3 + 3 + 5, status)


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
                          frame(WINDOW_UPDATE, 0, 3, struct.pack(">I", 400)) +
                          frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 405)))

            frames.until(lambda: frames.has(RST_STREAM, 1), take)
            for _ in range(30):
                take()
                frames.more(0.05)
            check(not frames.has(RST_STREAM, 3) and not frames.has(GOAWAY), frames.seen[-3:])
            before = len(frames.body)
            frames.until(lambda: len(frames.body) >= before + 4000, take)


def test_who_sends_one_stream_after_the_other_is_not_slow():
    """Unless it is slow with all of them."""
    for rate in ("1000", "0"):
        with Server("--body-timeout", "3", "--min-rate", rate) as server:
            with server.connect(PREFACE + frame(SETTINGS)) as s:
                frames = Frames(s)
                s.sendall(b"".join(head(stream, "POST", "/", ends=False) for stream in (1, 3, 5)))
                s.sendall(frame(DATA, 0, 3, b"y"))  # its turn comes again
                sent = 0
                began = time.monotonic()
                while time.monotonic() < began + 6:
                    s.sendall(frame(DATA, 0, 1, b"x" * 400))
                    sent += 400
                    check(frames.more(0.05) and not frames.has(HEADERS), frames.seen)
                s.sendall(frame(DATA, 1, 1) + frame(DATA, 1, 3, b"y" * 100))
                frames.until(lambda: all(frames.has(HEADERS, stream) for stream in (1, 3, 5)))
                check((DATA, 1, str(sent).encode()) in frames.seen and (DATA, 3, b"101") in frames.seen, frames.seen)
                check(b"408" in next(entry[2] for entry in frames.seen if entry[:2] == (HEADERS, 5)), "nothing came")
    with Server("--body-timeout", "2", "--min-rate", "1000") as server:
        with server.connect(PREFACE + frame(SETTINGS)) as s:
            frames = Frames(s)
            s.sendall(b"".join(head(stream, "POST", "/", ends=False) for stream in (1, 3, 5)))
            frames.until(lambda: all(frames.has(HEADERS, stream) for stream in (3, 5)),
                         lambda: s.sendall(frame(DATA, 0, 1, b"x")))
            frames.until(lambda: frames.body.count(b"Request Timeout") >= 2)


def test_a_connections_window_that_trickles():
    """Those of its streams are open: each may wait for the others, but not all of them for the client."""
    wide = struct.pack(">HI", 4, 1 << 24)
    first, second = (head(stream, "GET", "/big", more=(("priority", "u=3"),)) for stream in (1, 3))
    for rate in ("1000", "0"):
        with Server("--send-timeout", "1", "--min-rate", rate) as server:
            for grows in (0, 5, 400):
                with server.connect(PREFACE + frame(SETTINGS, 0, 0, wide)) as s:
                    frames = Frames(s)
                    s.sendall(first)
                    frames.until(lambda: len(frames.body) >= 65535)
                    s.sendall(second)
                    frames.until(lambda: frames.has(HEADERS, 3))

                    def take():
                        if grows:
                            s.sendall(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", grows)))

                    if grows == 400 or (grows and rate == "0"):
                        for _ in range(50):
                            take()
                            frames.more(0.05)
                        check(not frames.has(RST_STREAM) and not frames.has(GOAWAY), rate, grows, frames.seen[-3:])
                        check(all(at == 1 for kind, at, payload in frames.seen if kind == DATA and payload))
                    else:
                        frames.until(lambda: frames.has(RST_STREAM, 1) and frames.has(RST_STREAM, 3), take)


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


MUCH = temporary("""
    local piece, long = ("x"):rep(65536), ("y"):rep(200000)
    local started, written = 0, 0
    return function(req, res)
      if req.path == "/held" then return res:text(started .. " " .. written) end
      started = started + 1
      if req.path == "/whole" then
        res:text(long)
        written = written + #long
        return
      end
      for _ = 1, req.path == "/busy" and 16 or 128 do
        if not res:write(piece) then return end
        written = written + #piece
      end
    end
    """)
BUFFER = 65536  # --response-buffer


def ask_for_many(s, path):
    s.sendall(b"".join(head(stream, "GET", path) for stream in range(1, 241, 2)))


def opening(stream, size=1 << 30):
    return frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", size))


class Held:
    """Asks on a connection how many handlers have begun, and what they have written."""

    def __init__(self, s):
        self.socket, self.frames, self.next = s, Frames(s), 241

    def look(self):
        asked, self.next = self.next, self.next + 2
        self.socket.sendall(head(asked, "GET", "/held") + opening(asked, 1000))
        self.frames.until(lambda: any(entry[:2] == (DATA, asked) for entry in self.frames.seen))
        answer = next(entry[2] for entry in self.frames.seen if entry[:2] == (DATA, asked))
        return [int(number) for number in answer.split()]

    def written(self):
        """When all have done what they could."""
        eventually(lambda: self.look()[0] == 120)
        before, now = -1, 0
        while before != now:
            before, now = now, self.look()[1]
        return now


def take(s, frames, stream, size):
    """All of that response."""
    s.sendall(opening(stream))
    got = 0

    def whole():
        nonlocal got
        got += sum(len(payload) for kind, at, payload in frames.seen if (kind, at) == (DATA, stream))
        frames.seen = [entry for entry in frames.seen if entry[0] not in (DATA, WINDOW_UPDATE)]
        return got >= size

    frames.until(whole)
    check(got == size, got)


def test_many_shut_windows_hold_little():
    """What handlers write for them waits in the handlers, and one whose window is open goes on."""
    for path, size in (("/", 128 * 65536), ("/whole", 200_000)):
        with Server("--workers", "1", app=MUCH) as server:
            with server.connect(PREFACE + frame(SETTINGS, 0, 0, SHUT_WINDOW) + opening(0)) as s:
                held = Held(s)
                ask_for_many(s, path)
                before = held.written()
                check(before <= 12 * BUFFER, path, "they go on without their client", before)
                take(s, held.frames, 5, size)
                check(size <= held.written() <= size + before + 12 * BUFFER, path, "the others still wait")


def test_windows_that_shut_hold_little():
    """Those of the streams, or that of the connection: they were open when the answers began."""
    wide = frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 1 << 30))
    for windows, enough in ((frame(SETTINGS) + opening(0), 120 * 65535), (wide, 65535)):
        with Server("--workers", "1", app=MUCH) as server, server.connect(PREFACE + windows) as s:
            ask_for_many(s, "/whole")
            frames = Frames(s)
            frames.until(lambda: len(frames.body) == enough)
            with server.connect(PREFACE + frame(SETTINGS)) as other:
                written = Held(other).written()
                check(written <= 12 * BUFFER, written)


def test_busy_streams_go_on_in_large_pieces():
    """However much they write: what is on its way is not held."""
    with Server("--workers", "1", app=MUCH) as server:
        with server.connect(PREFACE + frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 1 << 30))) as s:
            s.sendall(opening(0) + b"".join(head(stream, "GET", "/busy") for stream in range(1, 17, 2)))
            frames = Frames(s)
            frames.until(lambda: len(frames.body) == 8 * 16 * 65536)
            sizes = [len(payload) for kind, _, payload in frames.seen if kind == DATA and payload]
            check(sum(sizes) / len(sizes) > 12_000, "bytes of a frame, in the mean:", sum(sizes) / len(sizes))


ENDLESS = temporary("""
    local begun, written = 0, 0
    return function(req, res)
      if req.path == "/held" then return res:text(begun .. " " .. written) end
      begun = begun + 1
      local piece = ("x"):rep(512)
      while res:write(piece) do written = written + #piece end
    end
    """)


def look_at_written(server, begun):
    """What so many handlers have written, when they do not go on any more."""
    def look():
        with server.connect() as s:
            s.sendall(b"GET /held HTTP/1.0\r\n\r\n")
            return [int(number) for number in rest_of(s).rsplit(b"\n", 1)[1].split()]

    eventually(lambda: look()[0] == begun)
    before, now = -1, 0
    while before != now:
        time.sleep(0.05)
        before, now = now, look()[1]
    return now


def test_what_waits_for_a_client_is_bounded():
    """It never reads, and the handler writes for ever: what no socket has taken is held."""
    for buffer in (4096, 65536, 1 << 20):
        with Server("--workers", "1", "--response-buffer", str(buffer), "--grace", "0", app=ENDLESS) as server:
            before = resident(server)
            clients = [server.connect(b"GET / HTTP/1.0\r\n\r\n", receive_buffer=4096) for _ in range(10)]
            written = look_at_written(server, len(clients))
            held = (written - server.metric("evlua_sent_bytes_total")) / len(clients)
            check(buffer / 2 < held < 2 * buffer, buffer, held)
            grown = (resident(server) - before) / len(clients)
            check(SANITIZED or grown < 4 * buffer + 200_000, buffer, grown)
            clients[3].settimeout(LIMIT)
            taken = 0
            while taken < 8 * buffer + (8 << 20):  # more than sockets and we have held
                taken += len(clients[3].recv(1 << 20))
            check(look_at_written(server, len(clients)) > written, "the one that reads is written to")


def test_what_waits_for_a_stream_is_bounded():
    for buffer in (4096, 65536, 1 << 20):
        with Server("--workers", "1", "--response-buffer", str(buffer), "--grace", "0", app=ENDLESS) as server:
            with server.connect(PREFACE + frame(SETTINGS, 0, 0, SHUT_WINDOW) + head(1, "GET", "/")):
                written = look_at_written(server, 1)
                check(buffer - 1024 <= written <= 2 * buffer, buffer, written)  # its handler has some, its stream some


def resident(server):
    with open(f"/proc/{server.program.process.pid}/statm") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def test_a_large_field_that_is_named_again_and_again():
    """HPACK: a byte names what is in the table, here four kilobytes (RFC 7541, 7.3)."""
    table = b"\x40\x01a\x7f\xbd\x1d" + b"x" * 3900
    named = b"\xbe" * 11000  # 43 MB
    with Server() as server, server.connect(PREFACE + frame(SETTINGS)) as s:
        frames = Frames(s)
        before = resident(server)
        for stream in range(1, 100, 2):
            first = head(stream, "GET", "/")[9:] + (table if stream == 1 else b"")
            s.sendall(frame(HEADERS, 5, stream, first + named))
            frames.until(lambda: frames.body.count(b"Request Header Fields Too Large\n") == (stream + 1) // 2)
        check(SANITIZED or resident(server) - before < 16 << 20, resident(server) - before)
        s.sendall(head(101, "GET", "/"))
        frames.until(lambda: frames.body.endswith(b"hello"))


def test_requests_of_an_http2_connection():
    with Server("--max-requests", "3") as server, server.connect(PREFACE + frame(SETTINGS)) as s:
        frames = Frames(s)
        s.sendall(head(1, "GET", "/") + head(3, "GET", "/") + head(5, "GET", "/"))
        frames.until(lambda: frames.has(GOAWAY) and frames.body == b"hello" * 3)
        while frames.more(LIMIT):
            pass


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


def test_whoever_asks_how_we_are_finds_a_descriptor():
    """Clients that take all that there are, and ask without reading."""
    if "address" in os.environ.get("EVLUA_SANITIZE", ""):
        return
    code = ("import os, resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256)); "
            "os.execv(sys.argv[1], sys.argv[1:])")
    program = Program(sys.executable, "-c", code, EVLUASERVER, APP, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0",
                      "--workers", "2")
    with program:
        admin = int(program.word_after("admin on http://127.0.0.1:"))
        port = int(program.word_after("listening on http://127.0.0.1:"))
        held = [socket.create_connection(("127.0.0.1", port), LIMIT) for _ in range(400)]
        for s in held:
            s.setblocking(False)
            try:
                while s.send(GET * 1000):
                    pass
            except BlockingIOError:
                pass
        program.wait_for("cannot accept connections")
        for path in ("/healthz", "/metrics") * 10:
            began = time.monotonic()
            answer = exchange(admin, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            check(answer.startswith(b"HTTP/1.1 200 "), answer)
            check(SANITIZED or time.monotonic() - began < 1, path, "took", time.monotonic() - began)
        for s in held:
            s.close()
        with socket.create_connection(("127.0.0.1", port), LIMIT) as s:
            check(answer_on(s).endswith(b"hello"), "and then all goes on")
        check(program.stop() == 0, program.text)


try:
    main(globals())
finally:
    shutil.rmtree(FOLDER)
    os.unlink(MUCH)
    os.unlink(ENDLESS)
