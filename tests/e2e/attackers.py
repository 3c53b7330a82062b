"""A server for clients that want all of it, and what those clients are made of: for tests of limits and of overload."""
import atexit
import json
import os
import socket
import ssl
import struct
import time

from support import EVLUASERVER, LIMIT, Program, check, exchange, temporary

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
atexit.register(os.unlink, APP)
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


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
        answer = exchange(self.admin, b"GET /status.json HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return json.loads(answer.split(b"\r\n\r\n", 1)[1])

    def metric(self, name):
        answer = exchange(self.admin, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").decode()
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


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def head(stream, method, path, ends=True, more=()):
    fields = ((":method", method), (":scheme", "http"), (":path", path), (":authority", "x"), *more)
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
