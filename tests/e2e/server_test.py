"""evluaserver from outside: start, failures, curl, draining."""
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time

from support import EVLUASERVER, LIMIT, Program, check, exchange, main, serve, temporary

APP = temporary("""
local evlua = require "evlua"
return {
  handle = function(req, res)
    if req.path == "/slow" then io.stderr:write("slow began\\n") evlua.sleep(0.3) return res:text("slow but there") end
    if req.path == "/error" then local secret = nil; return secret.field end
    if req.path == "/split" then return res:header("X", "a\\r\\nSet-Cookie: x=1") end
    if req.path == "/query" then return res:text((req:query("a b") or "-") .. "|" .. tostring(req:query("none"))) end
    if req.path == "/cookie" then return res:text(req:cookie("b") or "-") end
    if req.path == "/upload" then
      local size = 0
      for piece in req:chunks() do size = size + #piece end
      return res:text(tostring(size))
    end
    if req.path == "/echo" then
      for piece in req:chunks() do assert(res:write(piece)) end
      return
    end
    if req.path == "/body" then return res:text(tostring(select("#", req:body()))) end
    if req.path == "/promise" then return res:header("Content-Length", "5"):send("abc") end
    if req.path == "/keep" then kept = req return res:text("kept") end
    if req.path == "/kept" then return res:text(tostring(select(2, pcall(kept.header, kept, "host")))) end
    res:header("X-Remote", req.remote):text(req.method .. " " .. req.path .. " " .. req.version)
  end,
  start = function() io.stderr:write("app started\\n") end,
  stop = function() io.stderr:write("app stopped\\n") end,
}
""")
CLOSE = b"Host: x\r\nConnection: close\r\n\r\n"


def get(port, path, more=b""):
    return exchange(port, b"GET " + path + b" HTTP/1.1\r\n" + more + CLOSE)


def curl(*arguments):
    return subprocess.run(["curl", "-sS", "--max-time", str(LIMIT), *arguments], capture_output=True, check=True).stdout


def test_bad_starts():
    broken, wrong = temporary("return function(req res) end"), temporary("return 42")
    for path, words in ((broken, broken + ":1: "), (wrong, "must return a function"),
                        ("no-such-file.lua", "no-such-file.lua: No such file or directory; the app is a Lua file that"),
                        (os.path.dirname(APP), "Is a directory; the app is a Lua file that")):
        got = subprocess.run([EVLUASERVER, path], capture_output=True, text=True, timeout=LIMIT)
        check(got.returncode == 1 and words in got.stderr and got.stderr.count("\n") == 1, got)
    os.remove(broken)
    os.remove(wrong)
    for arguments in ([], ["--nonsense"], [APP, "--listen", "nowhere"], [APP, "--workers", "0"]):
        got = subprocess.run([EVLUASERVER, *arguments], capture_output=True, text=True, timeout=LIMIT)
        check(got.returncode == 2, arguments, got)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for workers in ("1", "2"):
            got = subprocess.run([EVLUASERVER, APP, "--listen", address, "--workers", workers], capture_output=True,
                                 text=True, timeout=LIMIT)
            check(got.returncode == 1 and address in got.stderr and "in use" in got.stderr, got)


def test_addresses_that_are_given_twice():
    address, path = "127.0.0.1:8080", "unix:/tmp/twice.sock"
    config = temporary('listen = ["[::1]:8080", "[::1]:8080"]', suffix=".toml")
    twice = [["--listen", address, "--listen", address], ["--listen", address, "--listen", "http://" + address],
             ["--listen", ":8080", "--listen", "0.0.0.0:8080"], ["--listen", path, "--listen", path],
             ["--config", config]]
    for arguments in twice:
        got = subprocess.run([EVLUASERVER, APP, *arguments], capture_output=True, text=True, timeout=LIMIT)
        check(got.returncode == 2 and "is given twice" in got.stderr and got.stderr.count("\n") == 1, arguments, got)
    os.remove(config)
    for taken in (address, path):
        got = subprocess.run([EVLUASERVER, APP, "--listen", taken, "--admin", taken], capture_output=True, text=True,
                             timeout=LIMIT)
        check(got.returncode == 2 and f"--listen {taken} is the address of --admin, too" in got.stderr, got)
    with Program(EVLUASERVER, APP, "--listen", "127.0.0.1:0", "--listen", "127.0.0.1:0", "--workers", "1") as program:
        program.wait_for("listening on")
        check(program.stop() == 0 and program.text.count("listening on") == 2, program.text)


def test_addresses_that_take_others_in():
    with socket.socket() as reserved:  # for whom reuses it, as long as nobody listens
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        for first, second in ((f"127.0.0.1:{port}", f"0.0.0.0:{port}"), (f"0.0.0.0:{port}", f"127.0.0.1:{port}")):
            for workers in ("1", "2"):
                for option in ("--listen", "--admin"):
                    got = subprocess.run([EVLUASERVER, APP, option, first, "--listen", second, "--workers", workers],
                                         capture_output=True, text=True, timeout=LIMIT)
                    words = f"cannot listen on {second}: address already in use; {option} {first} has that port\n"
                    check(got.returncode == 1 and words in got.stderr, option, first, second, workers, got)


def test_second_server_on_the_port():
    program, port = serve(APP, "--workers", "2")
    with program:
        got = subprocess.run([EVLUASERVER, APP, "--listen", f"127.0.0.1:{port}", "--workers", "2"],
                             capture_output=True, text=True, timeout=LIMIT)
        check(got.returncode == 1 and "in use" in got.stderr, got)
        check(program.stop() == 0, program.text)
    # And a port that somebody has just left can be had, also for several workers.
    with Program(EVLUASERVER, APP, "--listen", f"127.0.0.1:{port}", "--workers", "2") as again:
        again.wait_for(f"127.0.0.1:{port}")
        check(again.stop() == 0, again.text)


def test_requests():
    program, port = serve(APP, "--workers", "2")
    with program:
        base = f"http://127.0.0.1:{port}"
        check(curl(base + "/x") == b"GET /x 1.1" and curl("--http1.0", base + "/x") == b"GET /x 1.0")
        check(curl(base + "/a", base + "/b") == b"GET /a 1.1GET /b 1.1")
        check(curl("-I", base + "/").startswith(b"HTTP/1.1 200"))
        check(curl("-H", "Expect: 100-continue", "-d", "x" * 5000, base + "/upload") == b"5000")
        with tempfile.NamedTemporaryFile() as f:
            f.write(b"z" * 3_000_000)
            f.flush()
            check(curl("-T", f.name, base + "/upload") == b"3000000")
            check(curl("-H", "Transfer-Encoding: chunked", "-T", f.name, base + "/upload") == b"3000000")
        check(curl(base + "/query?x=1&a+b=c%20d") == b"c d|nil")
        check(curl("-b", "a=1; b=two", base + "/cookie") == b"two")
        check(program.stop() == 0 and "app stopped" in program.text, program.text)


def test_errors_tell_clients_nothing():
    program, port = serve(APP, "--workers", "1")
    with program:
        answer = get(port, b"/error")
        check(answer.startswith(b"HTTP/1.1 500") and b".lua" not in answer and b"secret" not in answer, answer)
        program.wait_for("stack traceback")
        split = get(port, b"/split")
        check(split.startswith(b"HTTP/1.1 500") and b"Set-Cookie" not in split, split)
        check(get(port, b"/promise").startswith(b"HTTP/1.1 500"))
        program.wait_for("Content-Length promised another length")
        check(get(port, b"/keep").endswith(b"kept"))
        check(b"the request has ended" in get(port, b"/kept"))


def test_development_page():
    app = temporary("""
local evlua = require "evlua"
local function fails(text) error(text) end
return function(req, res)
  res:header("Content-Length", "3"):header("Content-Encoding", "gzip")
  if req.path == "/waited" then evlua.sleep(0.001) end
  fails("<script>alert('" .. req.path .. "')</script>")  -- "this line"
end
""")
    browser = b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n"
    program, port = serve(app, "--workers", "1", "--dev")
    with program:
        for path in (b"/now", b"/waited"):
            for accept in (b"", b"Accept: */*\r\n", b"Accept: application/json\r\n"):
                text = get(port, path, accept)
                check(text.startswith(b"HTTP/1.1 500") and b"\r\nContent-Type: text/plain" in text, text)
                check(b"stack traceback" in text and b"\r\nContent-Encoding" not in text, text)
            page = get(port, path, browser)
            check(page.startswith(b"HTTP/1.1 500") and b"\r\nContent-Type: text/html; charset=utf-8\r\n" in page, page)
            check(b"\r\nContent-Security-Policy: default-src 'none'" in page, page)
            head, body = page.split(b"\r\n\r\n", 1)
            check(b"\r\nContent-Length: %d\r\n" % len(body) in head + b"\r\n", head)
            check(b"<script" not in body and b"&lt;script&gt;alert(&#39;" + path in body, body)
            check(b'<span class="row here"><i>3</i>local function fails(text) error(text) end</span>' in body, body)
            check(b"-- &quot;this line&quot;</span>" in body, body)
            check(b"http://" not in body and b"https://" not in body, body)
    program, port = serve(app, "--workers", "1")
    with program:
        page = get(port, b"/now", browser)
        check(page.endswith(b"\r\n\r\nInternal Server Error\n") and b"text/html" not in page, page)


def test_body_limit():
    program, port = serve(APP, "--workers", "1", "--max-body", "3")
    with program:
        check(curl("-d", "abc", f"http://127.0.0.1:{port}/body") == b"1")
        check(curl("-d", "abcd", f"http://127.0.0.1:{port}/body") == b"3")  # nil, message, code


def test_what_was_cut_does_not_look_whole():
    program, port = serve(APP, "--workers", "1")
    with program:
        post = b"POST /echo HTTP/1.1\r\nContent-Length: %d\r\n" + CLOSE
        whole = exchange(port, post % 5 + b"12345", shutdown=True)
        check(whole.endswith(b"12345\r\n0\r\n\r\n"), whole)
        cut = exchange(port, post % 10 + b"12345", shutdown=True)
        check(not cut.endswith(b"0\r\n\r\n"), cut)
        program.wait_for("request body")


def test_unix_and_several_listeners():
    path = tempfile.mktemp(suffix=".sock")
    with Program(EVLUASERVER, APP, "--listen", "127.0.0.1:0", "--listen", "unix:" + path, "--workers", "2") as program:
        program.wait_for("unix:" + path)
        check(curl("--unix-socket", path, "http://x/u") == b"GET /u 1.1")
        port = int(program.word_after("http://127.0.0.1:"))
        check(curl(f"http://127.0.0.1:{port}/t") == b"GET /t 1.1")
        check(program.stop() == 0, program.text)
    check(not os.path.exists(path))


def test_drains():
    for number in (signal.SIGTERM, signal.SIGINT):
        program, port = serve(APP, "--workers", "2")
        with program:
            idle = socket.create_connection(("127.0.0.1", port), LIMIT)
            idle.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            check(idle.recv(65536).startswith(b"HTTP/1.1 200"))
            answers = []
            busy = socket.create_connection(("127.0.0.1", port), LIMIT)
            busy.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
            reader = threading.Thread(target=lambda: answers.append(busy.recv(65536)))
            reader.start()
            program.wait_for("slow began")
            check(program.stop(number) == 0, program.text)
            reader.join(LIMIT)
            check(answers and answers[0].startswith(b"HTTP/1.1 200") and b"slow but there" in answers[0], answers)
            check(idle.recv(100) == b"")


class Caller:
    """A client of a kept connection that asks again and again, up to the answer that says it is the last one."""

    def __init__(self, port):
        self.port, self.served, self.lost = port, 0, None
        self.thread = threading.Thread(target=self.call)
        self.thread.start()

    def call(self):
        answered = None
        with socket.create_connection(("127.0.0.1", self.port), LIMIT) as s:
            while True:
                asked = time.monotonic()
                answer = self.ask(s)
                if not answer.endswith(b"GET /x 1.1"):
                    # Whoever thinks for longer may have asked when the connection was already given up as idle.
                    if answered is None or asked - answered < 0.2:
                        self.lost = (self.served, answer)
                    return
                answered = time.monotonic()
                self.served += 1
                if b"\r\nConnection: close\r\n" in answer:
                    return

    @staticmethod
    def ask(s):
        answer = b""
        try:
            s.sendall(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
            while not answer.endswith(b"GET /x 1.1"):
                piece = s.recv(65536)
                if not piece:
                    break
                answer += piece
        except OSError as error:
            answer += repr(error).encode()
        return answer


def test_stopped_under_load():
    """Whoever is connected gets an answer to all that he asks. wrk is there for the load: what it asks anew, when the
    listener is gone, has to fail."""
    for _ in range(20):
        program, port = serve(APP, "--workers", "2")
        with program:
            load = subprocess.Popen(["wrk", "-t1", "-c32", "-d20", f"http://127.0.0.1:{port}/"],
                                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            callers = [Caller(port) for _ in range(8)]
            try:
                deadline = time.monotonic() + LIMIT
                while min(caller.served for caller in callers) < 5 and time.monotonic() < deadline:
                    time.sleep(0.01)
                check(program.stop() == 0, program.text)
            finally:
                load.kill()
                load.wait()
            for caller in callers:
                caller.thread.join(LIMIT)
                check(caller.served >= 5 and caller.lost is None, caller.served, caller.lost)


main(globals())
