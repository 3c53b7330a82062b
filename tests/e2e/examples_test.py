"""Every example, used as its comment says."""
import os
import shutil
import socket
import subprocess
import tempfile
import time
import zlib

from support import EVLUA, EVLUASERVER, LIMIT, SOURCE, Program, check, eventually, exchange, main, run, serve


def example(name):
    return os.path.join(SOURCE, "examples", name)


def test_echo():
    with Program(EVLUA, example("echo_server.lua"), "127.0.0.1:0", watch="stdout") as server:
        port = server.word_after("listening on 127.0.0.1:")
        got = run(example("echo_client.lua"), port, "1000", "3", timeout=120)
        check(got.returncode == 0 and "1000 connections, 3000 echoes" in got.stdout, got)
        check(exchange(int(port), b"raw \0 bytes", shutdown=True) == b"raw \0 bytes")


def test_hash_tree():
    root = tempfile.mkdtemp()
    expected = []
    for i in range(200):
        directory = os.path.join(root, f"d{i % 7}", f"e{i % 3}")
        os.makedirs(directory, exist_ok=True)
        content = os.urandom(i * 997 % 70000)
        path = os.path.join(directory, f"f{i}")
        with open(path, "wb") as f:
            f.write(content)
        expected.append((path, f"{zlib.adler32(content):08x}  {len(content):9d}  {path}"))
    got = run(example("hash_tree.lua"), root)
    check(got.returncode == 0 and got.stdout.splitlines() == [line for _, line in sorted(expected)], got.stderr)
    shutil.rmtree(root)


class Chatter:
    def __init__(self, path, nick):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(LIMIT)
        self.socket.connect(path)
        self.text = ""
        self.wait_for("nick?\n")
        self.say(nick)

    def say(self, line):
        self.socket.sendall(line.encode() + b"\n")

    def wait_for(self, words):
        while words not in self.text:
            got = self.socket.recv(65536)
            check(got, f"closed without {words!r}: {self.text!r}")
            self.text += got.decode()


def test_chat():
    path = tempfile.mktemp(suffix=".sock")
    with Program(EVLUA, example("chat_server.lua"), path, watch="stdout") as server:
        server.wait_for("listening on unix:" + path)
        anna = Chatter(path, "anna")
        anna.wait_for("* anna joined\n")
        bert = Chatter(path, "bert")
        anna.wait_for("* bert joined\n")
        bert.say("hello")
        anna.wait_for("<bert> hello\n")
        twin = Chatter(path, "anna")
        twin.wait_for("cannot be had")
        bert.say("/quit")
        anna.wait_for("* bert left\n")
        anna.socket.close()


def test_web_app():
    program, port = serve(example("web_app.lua"), "--workers", "2")
    with program:
        close = b"Host: x\r\nConnection: close\r\n\r\n"
        index = exchange(port, b"GET / HTTP/1.1\r\n" + close)
        check(index.startswith(b"HTTP/1.1 200") and b"<h1>It works" in index, index)
        head = exchange(port, b"HEAD / HTTP/1.1\r\n" + close)
        check(head.startswith(b"HTTP/1.1 200") and head.endswith(b"\r\n\r\n"), head)
        echo = exchange(port, b"POST /echo HTTP/1.1\r\nContent-Length: 6\r\n" + close + b"text=x")
        check(echo.endswith(b"\r\n\r\ntext=x"), echo)
        large = exchange(port, b"POST /echo HTTP/1.1\r\nContent-Length: 70000\r\n" + close + b"x" * 70000)
        check(large.startswith(b"HTTP/1.1 413"), large[:80])
        stream = exchange(port, b"GET /stream HTTP/1.1\r\n" + close)
        check(b"line 1\n" in stream and b"line 10\n" in stream, stream)
        check(exchange(port, b"GET /none HTTP/1.1\r\n" + close).startswith(b"HTTP/1.1 404"))
        wrong = exchange(port, b"DELETE / HTTP/1.1\r\n" + close)
        check(wrong.startswith(b"HTTP/1.1 405") and b"Allow: GET" in wrong, wrong)
        check(program.stop() == 0, program.text)


def test_hello():
    program, port = serve(example("hello.lua"))
    with program:
        check(exchange(port, b"GET / HTTP/1.0\r\n\r\n").endswith(b"Hello, World!"))
        check(program.stop() == 0, program.text)


def curl(*arguments):
    got = subprocess.run(["curl", "-sSk", "--max-time", str(LIMIT), *arguments], capture_output=True, timeout=2 * LIMIT)
    check(got.returncode == 0, arguments, got)
    return got.stdout


def watch_progress(port, content):
    """From the first byte to the last; the second half is sent when the first was seen."""
    half = len(content) // 2
    url = f"http://127.0.0.1:{port}/progress/watched.bin"
    with subprocess.Popen(["curl", "-sN", "--max-time", str(LIMIT), url], stdout=subprocess.PIPE, text=True) as watcher:
        events = (line.strip() for line in watcher.stdout if line.strip())
        check(next(events) == "data: nothing yet")
        with socket.create_connection(("127.0.0.1", port), LIMIT) as stream:
            stream.sendall(b"PUT /files/watched.bin HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                           b"Content-Length: %d\r\n\r\n" % len(content) + content[:half])
            check(f"data: {half}" in events, "it stops at what was sent")
            stream.sendall(content[half:])
            check(b" 201 Created" in stream.recv(1000))
        check(list(events)[-1] == "data: done")


def test_upload_service():
    folder = tempfile.mkdtemp()
    os.environ["UPLOADS"] = folder
    content = os.urandom(2_000_000)
    source = os.path.join(folder, "source.part")
    with open(source, "wb") as f:
        f.write(content)
    program, port = serve(example("upload_service.lua"), "--workers", "2")
    with program:
        at = f"http://127.0.0.1:{port}"
        check(curl("-T", source, f"{at}/files/whole.bin") == b"2000000 bytes\n")
        check(curl(f"{at}/files/whole.bin") == content and curl("-r", "5-9", f"{at}/files/whole.bin") == content[5:10])
        check(b"data: done" in curl("-N", f"{at}/progress/whole.bin"))
        # Broken off in the middle, asked for, taken up again.
        head = b"PUT /files/cut.bin HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n"
        with socket.create_connection(("127.0.0.1", port), LIMIT) as stream:
            stream.sendall(head + content[:1_000_000])
        deadline = time.monotonic() + LIMIT
        offset = 0
        while offset < 1_000_000:
            check(time.monotonic() < deadline, "what was sent did not arrive", offset)
            offset = int(curl("-I", f"{at}/files/cut.bin").decode().split("Upload-Offset: ")[1].split("\r")[0])
        rest = os.path.join(folder, "rest.part")
        with open(rest, "wb") as f:
            f.write(content[offset:])
        while True:  # the first sender may not be gone yet
            got = curl("-T", rest, "-H", f"Content-Range: bytes {offset}-1999999/2000000", f"{at}/files/cut.bin")
            if b"somebody" not in got:
                break
            check(time.monotonic() < deadline, got)
        check(got == b"2000000 bytes\n" and curl(f"{at}/files/cut.bin") == content, got)
        watch_progress(port, content[:100_000])
        # Taken up where less was meant to be: nothing of the first attempt is left behind it.
        part = os.path.join(folder, "short.bin.part")
        with open(part, "wb") as f:
            f.write(content[:1000] + b"x" * 5_000_000)
        got = curl("-T", rest, "-H", "Content-Range: bytes 1000-*/*", f"{at}/files/short.bin")
        check(got == b"1001000 bytes\n" and curl(f"{at}/files/short.bin") == content[:1000] + content[1_000_000:], got)
        check(b"go on at byte 0" in curl("-T", rest, "-H", "Content-Range: bytes 9-*/*", f"{at}/files/none.bin"))
        check(curl("-F", f"f=@{rest};filename=form.bin", f"{at}/files") == b"form.bin: 1000000 bytes\n")
        check(curl(f"{at}/files/form.bin") == content[1_000_000:])
        for name in ("..%2fx", ".hidden", "x.part", "a%20b"):
            check(curl("-T", rest, f"{at}/files/{name}") == b"not found\n", name)
        uploads(content, folder, port)
        one_at_a_time(content[:200_000], port)
        watchers_that_go(program, port)
        # What cannot be put into its place is an error, and locks nobody out.
        os.mkdir(os.path.join(folder, "folder.bin"))
        for _ in range(2):
            got = curl("-T", rest, "-w", "%{http_code}", f"{at}/files/folder.bin")
            check(got.endswith(b"500") and b"somebody" not in got, got)
        check(program.stop() == 0, program.text)
    shutil.rmtree(folder)


def uploads(content, folder, port):
    """What Content-Range says has to be true, and is not whole before its end."""
    at = f"http://127.0.0.1:{port}/files/ranges.bin"

    def send(first, size, field, *more):
        piece = os.path.join(folder, "piece.part")
        with open(piece, "wb") as f:
            f.write(content[first:first + size])
        got = curl("-T", piece, "-w", "%{http_code}", "-H", f"Content-Range: {field}", *more, at)
        return int(got[-3:]), got[:-3]

    chunked = ("-H", "Transfer-Encoding: chunked")
    check(send(0, 100, "bytes 0-99/1000") == (202, b"100 bytes so far\n"))
    check(not os.path.exists(os.path.join(folder, "ranges.bin")), "a part was taken for the whole")
    part = os.path.join(folder, "ranges.bin.part")
    for field in ("bytes 0-98/1000", "bytes 0-100/1000", "bytes 99-0/1000", "bytes 0-99/99", "bytes 0-99",
                  "bytes */1000", "bytes x-99/1000", "items 0-99/1000", "bytes 0-9*/1000", "bytes 10-*/1000",
                  "bytes 0-99/*x"):
        status, text = send(0, 100, field)
        check(status == 400 and os.path.getsize(part) == 100, field, status, text)
    check(send(200, 100, "bytes 200-299/1000")[0] == 409)
    check(send(100, 100, "bytes 100-249/1000", *chunked)[0] == 400)
    check(send(100, 100, "bytes 100-149/1000", *chunked)[0] == 400)
    check(send(100, 400, "bytes 100-499/*", *chunked) == (202, b"500 bytes so far\n"))
    check(send(500, 500, "bytes 500-999/1000") == (201, b"1000 bytes\n"))
    check(curl(at) == content[:1000])


def one_at_a_time(content, port):
    """Two forms with the same file: the second one is told so, and nothing is mixed."""
    form = b'--X\r\nContent-Disposition: form-data; name=f; filename=twice.bin\r\n\r\n' + content + b"\r\n--X--\r\n"
    head = (b"POST /files HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            b"Content-Type: multipart/form-data; boundary=X\r\nContent-Length: %d\r\n\r\n" % len(form))
    deadline = time.monotonic() + LIMIT
    refused = False
    while not refused:  # the second one may have come first
        with socket.create_connection(("127.0.0.1", port), LIMIT) as stream:
            stream.sendall(head + form[:len(form) // 2])
            refused = b" 423 " in exchange(port, head + form)
            if refused:
                stream.sendall(form[len(form) // 2:])
                check(b" 201 " in stream.recv(1000))
        check(time.monotonic() < deadline, "both write")
    check(curl(f"http://127.0.0.1:{port}/files/twice.bin") == content)
    check(b" 201 " in exchange(port, head + form))


def watchers_that_go(program, port):
    folder = f"/proc/{program.process.pid}/fd"
    before = len(os.listdir(folder))
    streams = [socket.create_connection(("127.0.0.1", port), LIMIT) for _ in range(20)]
    for stream in streams:
        stream.sendall(b"GET /progress/never.bin HTTP/1.1\r\nHost: x\r\n\r\n")
        check(b"event-stream" in stream.recv(1000))
    for stream in streams:
        stream.close()
    eventually(lambda: len(os.listdir(folder)) <= before + 5, "it is noticed that they are gone")


def test_site():
    command = [EVLUASERVER, example("site/app.lua"), "--static", example("site/public"), "--compress", "5",
               "--tls-auto-dev", "--listen", "127.0.0.1:0"]
    with Program(*command) as program:
        at = "https://localhost:" + program.word_after("https://127.0.0.1:")
        check(b"EventSource" in curl(f"{at}/site.js") and b"<h1>" in curl("--compressed", f"{at}/"))
        check(curl("--http2", f"{at}/about").startswith(b"HTTP/2.0, TLSv1.3, 127.0.0.1:"))
        check(curl("--http2", f"{at}/clock?ticks=2&every=0.01").count(b"event: tick") == 2)
        check(curl("-w", "%{http_code}", f"{at}/clock?every=abc").endswith(b"400"))
        lines = curl("--compressed", f"{at}/export.csv").split(b"\n")
        check(len(lines) == 100002 and lines[-2] == b"100000,10000000000", len(lines))
        check(program.stop() == 0, program.text)


main(globals())
