#!/usr/bin/env python3
"""evlua.compat.socket beside LuaSocket itself: scripts/NAME.lua says the same under both.

Under lua5.3 they run with Debian's lua-socket, under evlua with --compat socket.
"""
import difflib
import http.server
import os
import pathlib
import shutil
import socketserver
import subprocess
import sys
import tempfile
import threading

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "e2e"))
from support import EVLUA, EVLUASERVER, LIMIT, check, main  # noqa: E402

SCRIPTS = HERE / "scripts"
STOCK = shutil.which("lua5.3")


class Handler(http.server.BaseHTTPRequestHandler):
    """The server for scripts/http.lua."""
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):  # pylint: disable=arguments-differ
        pass

    def answer(self, status, body, **fields):
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def handle_any(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if self.path == "/hello":
            self.answer(200, b"hello\n", Content_Type="text/plain")
        elif self.path == "/echo":
            self.answer(201, body, X_Method=self.command, X_Mine=self.headers.get("X-Mine", "none"))
        elif self.path == "/redirect":
            self.answer(302, b"elsewhere", Location="/hello")
        elif self.path == "/user":
            self.answer(200, self.headers.get("Authorization", "none").encode())
        elif self.path == "/chunked":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"3\r\none\r\n5\r\n two \r\n0\r\n\r\n")
        elif self.path == "/closed":
            self.close_connection = True
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"x" * 300000)
        elif self.path == "/slow":
            self.server.ended.wait(LIMIT)  # longer than the client's patience
            self.close_connection = True
        else:
            self.answer(404, b"no")

    do_GET = do_POST = do_PUT = do_HEAD = handle_any


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    block_on_close = False

    def __enter__(self):
        self.ended = threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.shutdown()
        self.server_close()


def run(program, *arguments):
    got = subprocess.run([*program, *map(str, arguments)], capture_output=True, text=True, check=False,
                         timeout=2 * LIMIT, env=dict(os.environ, LUA_PATH=f"{SCRIPTS}/?.lua;;"))
    return got.stdout + got.stderr + f"exit code {got.returncode}\n"


def compare(name, argument=lambda folder: folder):
    """The script gets what `argument` makes of an empty folder."""
    said = []
    for program in ([STOCK], [EVLUA, "--compat", "socket", "--workers", "1"]):
        with tempfile.TemporaryDirectory() as folder:
            said.append(run(program, SCRIPTS / f"{name}.lua", argument(folder)))
    check("exit code 0" in said[0] and said[0].count("\n") > 5, said[0])
    check(said[0] == said[1], "\n".join(difflib.unified_diff(
        said[0].splitlines(), said[1].splitlines(), "LuaSocket", "evlua", lineterm="", n=1)))


def test_streams():
    compare("streams")


def test_timeouts():
    compare("timeouts")


def test_select():
    compare("select")


def test_datagrams():
    compare("datagrams")


def test_options():
    compare("options")


def test_unix():
    compare("unix")


def test_names():
    compare("names")


def test_helpers():
    compare("helpers")


def test_tasks():
    """What only ours has."""
    for workers in ("1", "2"):
        said = run([EVLUA, "--workers", workers], SCRIPTS / "tasks.lua")
        check(said == "done\nexit code 0\n", said)


def test_opting():
    def fails(words, *arguments):
        got = run([EVLUA], *arguments)
        check(words in got and "exit code 0" not in got, got)
    fails("--compat knows no 'sockets'; it knows socket", "--compat", "sockets", "-e", "")
    fails("unknown name 'x'; known: socket", "-e", "require('evlua.compat').use('x')")
    fails("'socket.core' is loaded already", "-e", "require 'socket' require('evlua.compat').use('socket')")
    fails("install Debian's lua-socket", "--compat", "socket", "-e", "package.path = '' require 'socket.http'")
    said = run([EVLUA], "--compat=socket", "--compat", "socket", "-e", "print(require('socket.core').select ~= nil)")
    check(said == "true\nexit code 0\n", said)
    # Nobody gets ours unasked.
    said = run([EVLUA], "-e", "require 'socket' print(package.searchpath('socket.core', package.cpath) ~= nil, "
               "package.preload['socket.core'])")
    check(said == "true\tnil\nexit code 0\n", said)
    got = subprocess.run([EVLUASERVER, "--compat", "sockets", "x.lua"], capture_output=True, text=True, check=False,
                         timeout=LIMIT)
    check(got.returncode != 0 and "sockets" in got.stderr and "{socket}" in got.stderr, got)


def test_http():
    with Server(("127.0.0.1", 0), Handler) as server:
        compare("http", lambda _: server.server_address[1])


if STOCK is None:
    print("lua5.3 is not installed")
    sys.exit(77)
main(globals())
