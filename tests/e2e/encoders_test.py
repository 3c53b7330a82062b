"""How much is compressed on the way at once, and what that may hold and cost."""
import gzip
import os
import random
import shutil
import socket
import struct
import tempfile
import time
import zlib

from attackers import (HEADERS, PREFACE, RST_STREAM, SETTINGS, SHUT_WINDOW, WINDOW_UPDATE, Frames, Server, frame, head)
from support import LIMIT, SANITIZED, check, eventually, main, temporary

APP = temporary("""
local evlua = require "evlua"
local large = {}
for i = 1, 300000 do large[i] = ("%x,"):format(math.random(1 << 20)) end
large = table.concat(large)
return function(req, res)
  res:header("Content-Type", "text/plain")
  if req:query("coded") then res:header("Content-Encoding", "x-own") end
  if req.path == "/stream" then
    while res:write("a piece of a stream\\n") do evlua.sleep(0.05) end
  elseif req.path == "/large" then
    res:header("ETag", '"abc"'):text(large)
  else
    res:text("hello")
  end
end
""")
ROOT = tempfile.mkdtemp()
random.seed(1)
WORDS = ["".join(random.choices("etaoinshrdlu", k=random.randint(2, 9))) for _ in range(3000)]
TEXT = " ".join(random.choices(WORDS, k=700_000)).encode()  # four megabytes
with open(os.path.join(ROOT, "long.txt"), "wb") as file:
    file.write(TEXT)
LONG = "/files/long.txt"


def serve(*options):
    return Server("--compress", "6", "--workers", "1", "--static", f"{ROOT}=/files", *options, app=APP)


def connect(server, address="127.0.0.1"):
    s = socket.socket()
    s.settimeout(LIMIT)
    s.bind((address, 0))
    s.connect(("127.0.0.1", server.port))
    return s


def ask(server, path, address="127.0.0.1"):
    """A connection, and the head that it has got: its fields, in lower case."""
    s = connect(server, address)
    s.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n".encode())
    got = b""
    while b"\r\n\r\n" not in got:
        piece = s.recv(1)
        check(piece, got)
        got += piece
    lines = got.decode().split("\r\n")
    check(lines[0].startswith("HTTP/1.1 200"), lines)
    return s, {line.split(": ")[0].lower(): line.split(": ", 1)[1] for line in lines[1:] if line}


def download(server, path):
    """The fields of the answer, and its body."""
    s, fields = ask(server, path)
    with s, s.makefile("rb") as stream:
        return fields, stream.read()


def look(server, path, address="127.0.0.1"):
    """The fields of the answer; the client is gone then."""
    s, fields = ask(server, path, address)
    s.close()
    return fields


def is_plain(fields):
    return "content-encoding" not in fields and fields["vary"] == "Accept-Encoding"


SHUT = frame(SETTINGS, payload=SHUT_WINDOW)
OPEN = (frame(SETTINGS, payload=struct.pack(">HI", 4, 1 << 30)) +
        frame(WINDOW_UPDATE, payload=struct.pack(">I", 1 << 30)))


def hold_streams(server, count, coding="gzip", address="127.0.0.1", windows=SHUT):
    """A connection of HTTP/2 with as many streams."""
    s = connect(server, address)
    more = (("accept-encoding", coding),) if coding else ()
    s.sendall(PREFACE + windows)
    s.sendall(b"".join(head(1 + 2 * i, "GET", LONG, more=more) for i in range(count)))
    return s


def encoders(server):
    status = server.status()
    return status["encoders"], status["encoders_refused"]


def resident(server):
    with open(f"/proc/{server.program.process.pid}/statm") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_files_beyond_the_bound_go_out_as_they_are():
    with serve("--max-encoders", "8") as server:
        held = [hold_streams(server, 6)]
        eventually(lambda: encoders(server) == (2, 4), "an address has a quarter")
        fields, body = download(server, LONG)
        check(is_plain(fields) and fields["etag"].startswith('"'), fields)
        check(int(fields["content-length"]) == len(TEXT) and body == TEXT, fields)
        fields = look(server, LONG, "127.0.0.2")
        check(fields["content-encoding"] == "gzip" and fields["etag"].startswith('W/"'), fields)
        eventually(lambda: encoders(server)[0] == 2)
        for number in range(2, 5):
            held.append(hold_streams(server, 2, address=f"127.0.0.{number}"))
        eventually(lambda: encoders(server) == (8, 5))
        fields = look(server, LONG, "127.0.0.5")
        check(is_plain(fields), "that is all for the worker", fields)
        check(server.metric("evlua_encoders") == 8 and server.metric("evlua_encoders_refused_total") == 6)
        for s in held:
            s.close()
        eventually(lambda: encoders(server) == (0, 6))
        fields = look(server, LONG)
        check(fields["content-encoding"] == "gzip", fields)


def test_so_do_answers_of_lua():
    with serve("--max-encoders", "4") as server:
        first, fields = ask(server, "/stream")
        check(fields["content-encoding"] == "gzip", fields)
        check(encoders(server)[0] == 1)
        own, fields = ask(server, "/stream?coded=1")
        check(fields["content-encoding"] == "x-own" and encoders(server) == (1, 0), fields)
        second, fields = ask(server, "/stream")
        check(is_plain(fields) and second.recv(100), fields)
        fields, body = download(server, "/large")
        check(is_plain(fields) and fields["etag"] == '"abc"', fields)
        check(len(body) == int(fields["content-length"]) > 1 << 20)
        check(encoders(server) == (1, 2), encoders(server))
        for s in (first, own, second):
            s.close()
        eventually(lambda: encoders(server)[0] == 0)
        fields, body = download(server, "/large")
        check(fields["content-encoding"] == "gzip" and len(gzip.decompress(body)) > 1 << 20, fields)


def test_shut_windows_hold_next_to_nothing():
    """512 streams; an encoder would be a megabyte each, a piece of the file 64 KiB."""
    for coding in ("zstd", None):
        with serve("--max-encoders", "4096") as server:
            before = resident(server)
            held = [hold_streams(server, 128, coding) for _ in range(4)]
            streams = lambda: server.metric("evlua_http2_streams_total")
            eventually(lambda: streams() == 512 and encoders(server)[0] == (512 if coding else 0))
            grown = resident(server) - before
            print(f"{coding}: {grown >> 10} KiB for 512 streams")
            check(SANITIZED or grown < 30 << 20, coding, grown)
            for s in held:
                s.close()
            eventually(lambda: encoders(server) == (0, 0))


def test_windows_that_stay_shut_end():
    with serve("--send-timeout", "0.5") as server:
        with hold_streams(server, 3) as s, hold_streams(server, 3, None) as other:
            for frames in (Frames(s), Frames(other)):
                frames.until(lambda: all(frames.has(RST_STREAM, stream) for stream in (1, 3, 5)))
                check(not frames.body and all(frames.has(HEADERS, stream) for stream in (1, 3, 5)), frames.seen)
            eventually(lambda: encoders(server) == (0, 0))


def test_windows_that_open_a_little():
    for coding in ("gzip", None):
        with serve() as server, hold_streams(server, 1, coding) as s:
            frames = Frames(s)
            granted = 0

            def whole():
                if coding is None:
                    return len(frames.body) == len(TEXT)
                unpack = zlib.decompressobj(31)
                unpack.decompress(frames.body)
                return unpack.eof

            steps = iter([1, 10, 1000, 5000, 17_000, 100_000])
            while not whole():
                step = next(steps, 1 << 20)
                granted += step
                s.sendall(frame(WINDOW_UPDATE, stream=1, payload=struct.pack(">I", step)) +
                          frame(WINDOW_UPDATE, payload=struct.pack(">I", step)))
                frames.until(lambda: len(frames.body) == granted or whole())
            check((gzip.decompress(frames.body) if coding else frames.body) == TEXT)


def test_others_have_their_turn():
    """A hundred and twenty downloads at once: a piece of each would be a tenth of a second of processor time."""
    with serve("--max-encoders", "1000") as server:
        held = [hold_streams(server, 60, "zstd", windows=OPEN) for _ in range(2)]
        eventually(lambda: encoders(server)[0] == 120)
        times = []
        clock = (~server.program.process.pid << 3) | 2  # clock_getcpuclockid(3)
        with server.connect() as s:
            while len(times) < 20 and encoders(server)[0] > 60:
                for other in held:
                    other.setblocking(False)
                    try:
                        while other.recv(1 << 20):
                            pass
                    except BlockingIOError:
                        pass
                began = time.clock_gettime(clock)
                s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                check(s.recv(1000).endswith(b"hello"))
                times.append(time.clock_gettime(clock) - began)
        times.sort()
        print("median %.1f ms, longest %.1f ms, of %d" % (times[len(times) // 2] * 1e3, times[-1] * 1e3, len(times)))
        check(SANITIZED or times[len(times) // 2] < 0.05, times)
        for s in held:
            s.close()


try:
    main(globals())
finally:
    shutil.rmtree(ROOT)
    os.remove(APP)
