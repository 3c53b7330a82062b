"""Every example, used as its comment says."""
import os
import shutil
import socket
import tempfile
import zlib

from support import EVLUA, LIMIT, SOURCE, Program, check, exchange, main, run, serve


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


main(globals())
