"""evluaserver over HTTP/2: nghttp2's clients and curl, and frames written by hand."""
import hashlib
import os
import socket
import ssl
import struct
import subprocess
import threading
import time

from support import EVLUASERVER, LIMIT, Program, check, eventually, main, temporary

APP = temporary("""
local evlua = require "evlua"
local written = 0
return function(req, res)
  if req.path == "/what" then
    return res:text(table.concat({req.method, req.target, req.version, req.host, tostring(req:header("x-a")),
      tostring(req:header("cookie")), tostring(req:cookie("b")), tostring(req:header("host"))}, " "))
  end
  if req.path == "/cookies" then return res:text(req:headers().cookie) end
  if req.path == "/echo" then
    for piece in req:chunks() do
      local ok, message, code = res:write(piece)
      if not ok then io.stderr:write("echo: ", code, "\\n") return end
    end
    return
  end
  if req.path == "/size" then return res:text(tostring(#assert(req:body(1 << 30)))) end
  if req.path == "/big" then return res:text(("0123456789abcdef"):rep(1 << 18)) end
  if req.path == "/slow" then evlua.sleep(0.2) return res:text("slow") end
  if req.path == "/wait" then
    io.stderr:write("waiting\\n")
    evlua.sleep(0.5)
    return res:text("late")
  end
  if req.path == "/stream" then
    for i = 1, 3 do res:write(("part %d\\n"):format(i)) res:flush() evlua.sleep(0.01) end
    return
  end
  if req.path == "/writer" then
    for i = 1, 256 do
      assert(res:write(("0123456789abcdef"):rep(1 << 12)))
      written = i
    end
    return
  end
  if req.path == "/written" then return res:text(tostring(written)) end
  if req.path == "/nothing" then return res:status(204):finish() end
  if req.path == "/fail" then error("on purpose") end
  if req.path == "/short" then res:header("Content-Length", "10"):write("abc") return end
  if req.path == "/fields" then
    return res:header("Connection", "close"):header("X-Mixed-Case", "1"):add_header("Set-Cookie", "a=1")
      :add_header("Set-Cookie", "b=2"):text("fields")
  end
  if req.path == "/ignore" then return res:status(413):text("no, thanks") end
  if req.path == "/early" then return res:text("so soon") end
  res:text("hello")
end
""")
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def serve(*options):
    program = Program(EVLUASERVER, APP, "--listen", "127.0.0.1:0", *options)
    return program, int(program.word_after("://127.0.0.1:"))


def curl(port, target, *options):
    return subprocess.run(["curl", "-sS", "--http2-prior-knowledge", *options, f"http://127.0.0.1:{port}{target}"],
                          check=True, capture_output=True, timeout=LIMIT).stdout


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def literal(name, value):
    name, value = name.encode(), value.encode()
    check(len(name) < 127)
    size = bytes([len(value)]) if len(value) < 127 else bytes([127]) + encoded(len(value) - 127)
    return b"\0" + bytes([len(name)]) + name + size + value


def encoded(number):
    digits = b""
    while number >= 128:
        digits += bytes([number % 128 + 128])
        number //= 128
    return digits + bytes([number])


def head(path="/", method="GET", more=()):
    fields = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "x"), *more]
    return b"".join(literal(name, value) for name, value in fields)


class Client:
    """Speaks frames. HEADERS of responses are told apart by their stream only."""

    def __init__(self, port, settings=b"", receive_buffer=None):
        self.socket = socket.socket()
        self.socket.settimeout(LIMIT)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.connect(("127.0.0.1", port))
        self.input = b""
        self.send(PREFACE + frame(4, 0, 0, settings))

    def send(self, data):
        self.socket.sendall(data)

    def request(self, stream, path="/", ends=True, method="GET", more=()):
        self.send(frame(1, 0x05 if ends else 0x04, stream, head(path, method, more)))

    def read(self):
        """The next frame: kind, flags, stream, payload; None at the end."""
        try:
            while True:
                if len(self.input) >= 9:
                    size = struct.unpack(">I", b"\0" + self.input[:3])[0]
                    if len(self.input) >= 9 + size:
                        kind, flags, stream = struct.unpack(">BBI", self.input[3:9])
                        payload, self.input = self.input[9:9 + size], self.input[9 + size:]
                        if kind == 4 and not flags & 1:
                            self.send(frame(4, 1))
                        return kind, flags, stream, payload
                got = self.socket.recv(65536)
                if not got:
                    return None
                self.input += got
        except (ConnectionResetError, BrokenPipeError):
            return None

    def until(self, condition):
        frames = []
        while True:
            got = self.read()
            check(got is not None, "the connection ended", frames[-5:])
            frames.append(got)
            if condition(*got):
                return frames

    def body(self, stream):
        """What comes on the stream until it ends."""
        frames = self.until(lambda kind, flags, at, _: at == stream and (kind == 3 or (kind < 2 and flags & 1)))
        return b"".join(payload for kind, _, at, payload in frames if kind == 0 and at == stream)

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def test_requests():
    program, port = serve("--workers", "2")
    with program:
        check(curl(port, "/what?q=1", "-H", "X-A: b", "-H", "Cookie: a=1; b=2") ==
              f"GET /what?q=1 2.0 127.0.0.1:{port} b a=1; b=2 2 127.0.0.1:{port}".encode())
        fields = curl(port, "/fields", "-i")
        check(b"x-mixed-case: 1\r\nset-cookie: a=1\r\nset-cookie: b=2" in fields and b"onnection" not in fields, fields)
        check(b"content-length: 5\r\n" in curl(port, "/", "-I"))
        check(curl(port, "/stream") == b"part 1\npart 2\npart 3\n")
        check(b"HTTP/2 204" in curl(port, "/nothing", "-i"))
        check(b"HTTP/2 500" in curl(port, "/fail", "-i"))
        short = subprocess.run(["curl", "-sS", "--http2-prior-knowledge", f"http://127.0.0.1:{port}/short"],
                               capture_output=True, timeout=LIMIT)
        check(short.returncode != 0, short)
        # Cookies in crumbs, and a request in as many pieces as there are bytes.
        with Client(port) as client:
            crumbs = (("cookie", "a=1"), ("x-a", "y"), ("cookie", "b=2"), ("cookie", "c=3"))
            for byte in frame(1, 5, 1, head("/what", more=crumbs)):
                client.send(bytes([byte]))
            check(client.body(1) == b"GET /what 2.0 x y a=1; b=2; c=3 2 x")
            # Many are joined in one go: each with all before it would be more than a head may have.
            crumbs = [("cookie", f"n{i}=" + "v" * 200) for i in range(60)]
            client.request(3, "/cookies", more=crumbs)
            check(client.body(3) == "; ".join(value for _, value in crumbs).encode())
        # HTTP/1 goes on beside it, and what only begins alike is answered as HTTP/1.
        old = subprocess.run(["curl", "-sS", f"http://127.0.0.1:{port}/what"], capture_output=True, timeout=LIMIT)
        check(old.stdout.startswith(b"GET /what 1.1"), old)
        old = subprocess.run(["curl", "-sS", "-H", "Cookie: a=1", "-H", "Cookie: b=2",
                              f"http://127.0.0.1:{port}/cookies"], capture_output=True, timeout=LIMIT)
        check(old.stdout == b"a=1; b=2", old)
        for almost, status in ((b"PROPFIND / HTTP/1.1\r\nHost: x\r\n\r\n", b"200"),
                               (b"PRI * HTTP/1.1\r\nHost: x\r\n\r\n", b"400"),
                               (b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", b"505")):
            with socket.create_connection(("127.0.0.1", port), LIMIT) as stream:
                for byte in almost:
                    stream.sendall(bytes([byte]))
                answer = stream.recv(100)
                check(answer.split(b" ")[1][:1] == status[:1], almost, answer)
        check(program.stop() == 0, program.text)


def first_line(stream):
    stream.sendall(PREFACE + frame(4))
    answer = b""
    while b"\r\n" not in answer:
        got = stream.recv(65536)
        if not got:
            break
        answer += got
        if answer[3:4] == b"\x04":
            return b"SETTINGS"
    return answer.split(b"\r\n")[0]


def test_without_http2_nobody_gets_it():
    def secured(port, *protocols):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if protocols:
            context.set_alpn_protocols(protocols)
        return context.wrap_socket(socket.create_connection(("127.0.0.1", port), LIMIT), server_hostname="x")

    for options, expected in (([], b"SETTINGS"), (["--no-http2"], b"HTTP/1.1 505 HTTP Version Not Supported")):
        program, port = serve("--workers", "1", *options)
        with program:
            with socket.create_connection(("127.0.0.1", port), LIMIT) as stream:
                line = first_line(stream)
                check(line == expected, options, line)
            check(program.stop() == 0, program.text)
        program, port = serve("--workers", "1", "--tls-auto-dev", *options)
        with program:
            with secured(port) as stream:
                line = first_line(stream)
                check(line == expected, options, line)
            with secured(port, "http/1.1") as stream:
                check(stream.selected_alpn_protocol() == "http/1.1")
                line = first_line(stream)
                check(line == b"HTTP/1.1 505 HTTP Version Not Supported", options, line)
            check(program.stop() == 0, program.text)


def test_bodies():
    data = os.urandom(3_000_000)
    path = temporary("")
    with open(path, "wb") as f:
        f.write(data)
    program, port = serve("--workers", "2")
    with program:
        for more in ([], ["-H", "Expect: 100-continue"]):
            check(curl(port, "/size", "--data-binary", "@" + path, *more) == b"3000000")
            echoed = curl(port, "/echo", "--data-binary", "@" + path, *more)
            check(hashlib.sha1(echoed).digest() == hashlib.sha1(data).digest(), len(echoed))
        check(hashlib.sha1(curl(port, "/big")).digest() == hashlib.sha1(b"0123456789abcdef" * (1 << 18)).digest())
        # An answer before the body has come, and the connection goes on.
        with Client(port) as client:
            client.request(1, "/ignore", ends=False, method="POST")
            check(client.body(1) == b"no, thanks")
            client.until(lambda kind, flags, at, payload: kind == 3 and at == 1 and payload == b"\0\0\0\0")
            client.request(3)
            check(client.body(3) == b"hello")
            # Trailers end a body, too.
            client.request(5, "/size", ends=False, method="POST")
            client.send(frame(0, 0, 5, b"abc") + frame(1, 5, 5, literal("x-check", "1")))
            check(client.body(5) == b"3")
            # A length that does not hold.
            client.request(7, "/size", ends=False, method="POST", more=(("content-length", "5"),))
            client.send(frame(0, 1, 7, b"abc"))
            client.until(lambda kind, flags, at, payload: kind == 3 and at == 7)
        check(program.stop() == 0, program.text)
    os.remove(path)


def test_an_answer_before_the_upload_ends_is_not_lost():
    path = temporary("")
    with open(path, "wb") as f:
        f.write(os.urandom(3_000_000))
    program, port = serve()
    with program:
        for _ in range(20):
            got = subprocess.run(["curl", "-sS", "--http2-prior-knowledge", "-o", "/dev/null", "-w", "%{http_code}",
                                  "-T", path, f"http://127.0.0.1:{port}/ignore"], capture_output=True, timeout=LIMIT)
            check(got.stdout == b"413" and got.returncode == 0, got)
        # What still comes is skipped for a while: longer than the window, and not without end.
        with Client(port) as client:
            client.request(1, "/ignore", ends=False, method="POST")
            check(client.body(1) == b"no, thanks")
            window, sent, ended = 256 * 1024, 0, False
            while not ended:
                while sent < min(window, 1 << 20):
                    client.send(frame(0, 0, 1, b"x" * 16384))
                    sent += 16384
                kind, _, at, payload = client.read()
                if kind == 8 and at == 1:
                    window += struct.unpack(">I", payload)[0] // 16384 * 16384
                ended = kind == 3 and at == 1
            check(payload == b"\0\0\0\0" and sent == 1 << 20, sent)
            client.request(3)
            check(client.body(3) == b"hello")
        check(program.stop() == 0, program.text)
    os.remove(path)


def test_little_that_is_left_of_an_upload_is_waited_for():
    """Whoever is told that all is well goes on, and may lose the answer if that is cut off."""
    path = temporary("")
    with open(path, "wb") as f:
        f.write(os.urandom(200_000))
    program, port = serve("--body-timeout", "3", "--min-rate", "1000")
    with program:
        for options in ([], ["--limit-rate", "60k"]):
            for way in (["-T", path], ["--data-binary", "@" + path]):
                check(curl(port, "/early", *way, *options) == b"so soon", way, options)
        length = (("content-length", "100000"),)
        with Client(port) as client:
            client.request(1, "/early", ends=False, method="POST", more=length)
            check(client.body(1) == b"so soon")
            for _ in range(10):  # longer than what has no length is skipped
                client.send(frame(0, 0, 1, b"x" * 9_900))
                time.sleep(0.4)
            client.send(frame(0, 1, 1, b"x" * 1_000))
            client.request(3)
            seen = client.until(lambda kind, flags, at, _: kind == 0 and at == 3 and flags & 1)
            check(not any(kind == 3 for kind, _, at, _ in seen), seen)
            client.request(5, "/early", ends=False, method="POST", more=length)
            check(client.body(5) == b"so soon")  # and then nothing
            client.until(lambda kind, _, at, payload: kind == 3 and at == 5 and payload == b"\0\0\0\0")
            client.request(7)
            check(client.body(7) == b"hello")
        with Client(port) as client:  # the server does not stop for it
            client.request(1, "/early", ends=False, method="POST", more=length)
            check(client.body(1) == b"so soon")
            check(program.stop() == 0, program.text)
    os.remove(path)


def test_many_streams_share_a_connection():
    program, port = serve("--workers", "2")
    with program:
        with Client(port) as client:
            for stream in range(1, 100, 2):
                client.request(stream, "/slow" if stream % 4 == 1 else "/")
            ended = set()
            began = time.monotonic()
            while len(ended) < 50:
                kind, flags, at, _ = client.read()
                if kind < 2 and flags & 1:
                    ended.add(at)
            check(time.monotonic() - began < 5, "they waited for each other")
        got = subprocess.run(["h2load", "-n", "20000", "-c", "16", "-m", "32", f"http://127.0.0.1:{port}/"],
                             capture_output=True, text=True, timeout=LIMIT).stdout
        check("20000 succeeded, 0 failed" in got, got)
        got = subprocess.run(["h2load", "-n", "100", "-c", "4", "-m", "8", f"http://127.0.0.1:{port}/big"],
                             capture_output=True, text=True, timeout=LIMIT).stdout
        check("100 succeeded, 0 failed" in got, got)
        check(program.stop() == 0, program.text)


def test_flow_control():
    program, port = serve("--workers", "1")
    with program:
        # A client with small windows gets the body in its own time; another stream is not held up.
        with Client(port, struct.pack(">HI", 4, 1000)) as client:
            client.request(1, "/big")
            got = sum(len(payload) for kind, _, at, payload in
                      client.until(lambda kind, flags, at, payload: kind == 0) if kind == 0)
            check(got == 1000, got)
            client.request(3, "/nothing")
            client.until(lambda kind, flags, at, payload: at == 3 and flags & 1)
            client.send(frame(8, 0, 1, struct.pack(">I", 1 << 23)) + frame(8, 0, 0, struct.pack(">I", 1 << 23)))
            check(got + len(client.body(1)) == 16 << 18)
        # A handler that writes waits when the window is shut.
        with Client(port, struct.pack(">HI", 4, 1000)) as client:
            client.request(1, "/writer")
            client.until(lambda kind, flags, at, payload: kind == 0)
            client.request(3, "/slow")
            check(client.body(3) == b"slow")
            client.request(5, "/written")
            written = int(client.body(5))
            check(written < 10, "pieces of 64 KiB that nobody has taken:", written)
            client.send(frame(8, 0, 1, struct.pack(">I", 1 << 25)) + frame(8, 0, 0, struct.pack(">I", 1 << 25)))
            check(1000 + len(client.body(1)) == 256 << 16)
        # A handler that does not read: no more comes than the window lets.
        with Client(port) as client:
            client.until(lambda kind, flags, at, payload: kind == 4 and not flags & 1)
            client.request(1, "/wait", ends=False, method="POST")
            for _ in range(16):
                client.send(frame(0, 0, 1, b"x" * 16384))
            frames = client.until(lambda kind, flags, at, payload: kind == 1)
            check(not [got for got in frames if got[0] == 8 and got[2] == 1], "the window was opened")
        with Client(port) as client:
            client.until(lambda kind, flags, at, payload: kind == 4 and not flags & 1)
            client.request(1, "/wait", ends=False, method="POST")
            try:
                for _ in range(20):
                    client.send(frame(0, 0, 1, b"x" * 16384))
            except OSError:
                pass
            frames = client.until(lambda kind, flags, at, payload: kind in (3, 7))
            check(frames[-1][3][-4:] == struct.pack(">I", 3), "more than the window was taken", frames)
        check(program.stop() == 0, program.text)


def take(client, got, enough, rate):
    """Takes bodies at that rate, all in all, giving back to the windows; None in `got` for a stream that was reset."""
    began, total = time.monotonic(), 0
    while not enough():
        frame_read = client.read()
        check(frame_read is not None, "the connection has ended", got)
        kind, flags, at, payload = frame_read
        if kind == 3:
            got[at] = None
        if kind == 0 and payload:
            got[at] = got.get(at, 0) + len(payload)
            total += len(payload)
            time.sleep(max(0, began + total / rate - time.monotonic()))
            more = struct.pack(">I", len(payload))
            client.send(frame(8, 0, 0, more) + (b"" if flags & 1 else frame(8, 0, at, more)))


def test_who_waits_for_other_streams_is_not_slow():
    """One response after the other, as the client wants it; the last ones wait for longer than a client may pause."""
    size = 16 << 18
    program, port = serve("--workers", "1", "--send-timeout", "0.5", "--min-rate", "100000")
    with program:
        for window in (None, 1 << 24):  # what they wait for: the window of the connection, or the socket
            with Client(port, struct.pack(">HI", 4, window or 1 << 20), receive_buffer=window and 8192) as client:
                if window:
                    client.send(frame(8, 0, 0, struct.pack(">I", window)))
                for stream in (1, 3, 5):
                    client.request(stream, "/big", more=[("priority", "u=3")])
                got = {}
                began = time.monotonic()
                for stream in (1, 3, 5):
                    take(client, got, lambda: None in got.values() or got.get(stream) == size, 3e6)
                    check(all(got[before] == size for before in range(1, stream, 2)), stream, got)
                    # A little goes out when there is nothing of the one before it for a moment.
                    check(all(got.get(later, 0) < size / 4 for later in range(stream + 2, 7, 2)), stream, got)
                check(time.monotonic() - began > 3, "that was too fast to see anything")
        check(program.stop() == 0, program.text)


def test_streams_take_turns():
    """Unless the client wants it otherwise."""
    size = 16 << 18
    program, port = serve("--workers", "1")
    with program:
        with Client(port, struct.pack(">HI", 4, 1 << 24)) as client:
            got = {}
            client.request(1, "/big")
            take(client, got, lambda: got.get(1, 0) > 100_000, 1e9)
            client.request(3, "/big")
            client.request(5, "/")
            take(client, got, lambda: got.get(5) == 5, 1e9)
            check(got[1] < size / 2, "a page waits for a download", got)
            take(client, got, lambda: size in got.values(), 1e9)
            check(got[1] == size and got[3] > size / 2, "a download waits for another one", got)
            take(client, got, lambda: got[3] == size, 1e9)
            client.request(7, "/big")
            take(client, got, lambda: got.get(7, 0) > 100_000, 1e9)
            client.request(9, "/big", more=[("priority", "u=1")])
            take(client, got, lambda: got.get(9) == size, 1e9)
            check(got[7] < size / 2, "the more urgent one comes first", got)
        check(program.stop() == 0, program.text)


def test_limits():
    program, port = serve()
    with program:
        with Client(port) as client:
            client.request(1, "/" + "x" * 9000)
            check(b"URI Too Long" in client.body(1))
            client.request(3, more=[(f"x-{i}", "1") for i in range(150)])
            check(b"Too Large" in client.body(3))
            client.request(5, more=[(f"x-{i}", "y" * 200) for i in range(60)])
            check(client.body(5) == b"hello")
            client.request(7, "/a#b")
            check(b"Bad Request" in client.body(7))
        # A head of many pieces is no way around the limit.
        with Client(port) as client:
            client.send(frame(1, 1, 1, head()))
            for i in range(1000):
                try:
                    client.send(frame(9, 0, 1, literal(f"x-{i}", "y" * 100)))
                except OSError:
                    break
            while client.read():
                pass
        check(curl(port, "/") == b"hello")
        check(program.stop() == 0, program.text)


def test_slow_clients():
    """The connection ends with the request that took too long, and not when it has been idle as well."""
    program, port = serve("--header-timeout", "0.3", "--send-timeout", "0.3", "--keep-alive", "1000")
    with program:
        with Client(port) as client:  # no request at all
            check(ended_with(client) == 0)
        with Client(port) as client:  # half a head
            client.until(lambda kind, flags, at, payload: kind == 4 and not flags & 1)
            client.send(frame(1, 1, 1, head()))
            check(ended_with(client) == 0)
        with Client(port) as client:  # half a frame of it
            client.until(lambda kind, flags, at, payload: kind == 4 and not flags & 1)
            client.send(frame(1, 5, 1, head())[:12])
            check(ended_with(client) == 0)
        with Client(port, struct.pack(">HI", 4, 0)) as client:  # a window that stays shut
            client.request(1)
            frames = client.until(lambda kind, flags, at, payload: kind == 3)
            check(frames[-1][2:] == (1, struct.pack(">I", 8)), frames)
            check(ended_with(client) == 0)
        with Client(port) as client:  # who was answered may be idle for longer
            client.request(1)
            check(client.body(1) == b"hello")
            time.sleep(1)
            client.request(3)
            check(client.body(3) == b"hello")
        check(program.stop() == 0, program.text)


def ended_with(client):
    """The error code of the GOAWAY that ends the connection, or None."""
    code = None
    while got := client.read():
        if got[0] == 7:
            code = struct.unpack(">I", got[3][4:8])[0]
    return code


def test_attacks():
    program, port = serve("--workers", "2")
    with program:
        # Rapid reset: requests that are taken back at once, with whatever code.
        for reason in (8, 0):
            with Client(port) as client:
                stream, alive = 1, True
                try:
                    for _ in range(200):
                        batch = b""
                        for _ in range(50):
                            batch += frame(1, 5, stream, head("/slow")) + frame(3, 0, stream, struct.pack(">I", reason))
                            stream += 2
                        client.send(batch)
                except OSError:
                    alive = False
                code = ended_with(client) if alive else 11
                check(code in (11, None), code)
            with Client(port) as client:
                client.send(b"".join(frame(1, 5, 2 * i + 1, head("/slow")) +
                                     frame(3, 0, 2 * i + 1, struct.pack(">I", reason)) for i in range(210)))
                check(ended_with(client) == 11)
        # Floods of what wants an answer, with a client that does not read.
        for flood in (frame(6, 0, 0, b"12345678"), frame(4, 0, 0, b""), frame(3, 0, 1, b"\0\0\0\0")):
            with Client(port) as client:
                try:
                    for _ in range(300):
                        client.send(flood * 1000)
                    client.socket.shutdown(socket.SHUT_WR)
                except OSError:
                    pass
                while client.read():
                    pass
        # Nonsense of all kinds ends the connection and nothing else.
        for bad in (frame(1, 5, 2, head()), frame(0, 0, 1, b"x"), frame(1, 5, 1, b"\xff" * 20),
                    frame(8, 0, 0, b"\0\0\0\0"), frame(5, 4, 1, b""), frame(99, 0, 0, b"x") + frame(9, 4, 1, b""),
                    b"\xff" * 100,
                    frame(1, 5, 1, literal(":path", "/")), frame(1, 1, 1, head()) + frame(6, 0, 0, b"12345678"),
                    frame(1, 5, 1, head(more=(("Upper", "x"),))),
                    frame(1, 5, 1, head(more=(("connection", "close"),)))):
            with Client(port) as client:
                client.send(bad)
                client.send(frame(6, 0, 0, b"the end."))
                while got := client.read():
                    if got[0] == 3 or (got[0] == 6 and got[3] == b"the end."):
                        break
        with Client(port) as client:
            client.socket.close()
        check(curl(port, "/") == b"hello")
        check(program.stop() == 0, program.text)


def open_descriptors(program):
    return len(os.listdir(f"/proc/{program.process.pid}/fd"))


def test_clients_that_go():
    program, port = serve("--workers", "2")
    with program:
        curl(port, "/")
        before = open_descriptors(program)
        for path in ("/wait", "/echo", "/big", "/size", "/stream"):
            for _ in range(5):
                client = Client(port)
                client.request(1, path, ends=False, method="POST")
                client.send(frame(0, 0, 1, b"x" * 10000))
                client.until(lambda kind, flags, at, payload: kind == 4)
                client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                client.close()
        eventually(lambda: open_descriptors(program) <= before, "no descriptor is left open")
        check(curl(port, "/") == b"hello")
        check(program.stop() == 0, program.text)


def test_stop_lets_streams_end():
    program, port = serve("--workers", "2")
    with program:
        idle = Client(port)
        idle.until(lambda kind, flags, at, payload: kind == 4 and flags & 1)
        busy = Client(port)
        busy.request(1, "/wait")
        program.wait_for("waiting")
        answers = []
        reader = threading.Thread(target=lambda: answers.append(busy.body(1)))
        reader.start()
        check(program.stop() == 0, program.text)
        reader.join(LIMIT)
        check(answers == [b"late"], answers)
        check(ended_with(idle) == 0)
        idle.close()
        busy.close()


try:
    main(globals())
finally:
    os.remove(APP)
