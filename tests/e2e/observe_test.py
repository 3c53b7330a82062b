"""What evluaserver tells of itself: the access log, the error log, request ids and traces."""
import contextlib
import fcntl
import json
import os
import re
import resource
import signal
import socket
import subprocess
import tempfile
import threading
import time

from support import EVLUASERVER, LIMIT, Program, check, eventually, exchange, main, serve, temporary

APP = """
local evlua = require "evlua"
return function(req, res)
  if req.path == "/deferred" then
    evlua.sleep(0.02)
    res:text("deferred")
  elseif req.path == "/stream" then
    for i = 1, 3 do assert(res:write("12345")) end
  elseif req.path == "/error" then
    error("broken: " .. req.query_string .. "\\nevluaserver: forged\\27[2J")
  elseif req.path == "/trace" then
    local trace = req.trace
    res:text(table.concat({trace.id, trace.parent or "-", trace.span, tostring(trace.sampled), trace.traceparent,
                           req.request_id}, " "))
  else
    res:text("hello")
  end
end
"""
COMBINED = re.compile(
    r'^(\S+) - - \[(\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000)\] "(.*)" (\d{3}) (\d+) "(.*)" "(.*)" '
    r'(\d+\.\d{6}) (\S+) (\S+)$')


def lines_of(path):
    if not os.path.exists(path):
        return []
    with open(path, "rb") as f:
        text = f.read()
    return text.decode("ascii", errors="strict" if path.endswith("combined") else "replace").splitlines()


class Logged:
    """A server with an access log."""

    def __init__(self, *options, form="combined", app=APP):
        self.folder = tempfile.mkdtemp()
        self.path = os.path.join(self.folder, form)
        self.program, self.port = serve(temporary(app), "--access-log", self.path, "--access-log-format", form,
                                        "--workers", "2", *options)

    def ask(self, text):
        return exchange(self.port, text if isinstance(text, bytes) else text.encode(), shutdown=True)

    def get(self, target, fields=""):
        return self.ask(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{fields}\r\n")

    def wait_lines(self, count):
        eventually(lambda: len(lines_of(self.path)) >= count, f"{count} lines")
        return lines_of(self.path)

    def end(self):
        check(self.program.stop() == 0, self.program.text)
        return lines_of(self.path)


def test_combined():
    site = tempfile.mkdtemp()
    with open(os.path.join(site, "file.txt"), "w", encoding="ascii") as f:
        f.write("x" * 100000)
    server = Logged("--static", site + "=/s")
    server.get("/plain", "Referer: http://there/\r\nUser-Agent: tester \"1\" \\ \t\u00ff\r\n")
    server.get("/deferred")
    server.get("/stream")
    server.get("/s/file.txt")
    server.get("/s/none.txt")
    server.ask("BAD\x01LINE\"\r\nevil - - forged\r\n\r\n")
    server.ask("GET / HTTP/1.1\r\nHost: x\r\n" + "X: y\r\n" * 200 + "\r\n")
    server.ask("HEAD /head HTTP/1.0\r\n\r\n")
    seen = [COMBINED.match(line) for line in server.end()]
    check(all(seen) and len(seen) == 8, [m and m.groups() for m in seen])
    got = {m[3]: m for m in seen}
    plain = got["GET /plain HTTP/1.1"]
    check(plain[1] == "127.0.0.1" and plain[4] == "200" and plain[5] == "5" and plain[6] == "http://there/", plain)
    check(plain[7].startswith(r'tester \x221\x22 \x5c \x09\xc3\xbf'), plain[7])
    check(got["GET /deferred HTTP/1.1"][5] == "8" and float(got["GET /deferred HTTP/1.1"][8]) >= 0.02, "deferred")
    check(got["GET /stream HTTP/1.1"][5] == "15", "stream")
    check(got["GET /s/file.txt HTTP/1.1"][5] == "100000", got["GET /s/file.txt HTTP/1.1"].groups())
    check(got["GET /s/none.txt HTTP/1.1"][4] == "200", "falls to the app")
    check(got["BAD\\x01LINE\\x22"][4] == "400", "refused")
    check(got["HEAD /head HTTP/1.0"][5] == "0", "HEAD")
    check(got["GET / HTTP/1.1"][4] == "431", "431")
    check(len({m[9] for m in seen}) == 8, "ids differ")


def test_timeout_is_logged():
    server = Logged("--header-timeout", "0.2")
    with socket.create_connection(("127.0.0.1", server.port), LIMIT) as s:
        s.sendall(b"GET /slow HTTP/1.1\r\nHost:")
        answer = b""
        while got := s.recv(65536):
            answer += got
    check(b" 408 " in answer, answer)
    seen = [COMBINED.match(line) for line in server.end()]
    check(len(seen) == 1 and seen[0][4] == "408" and seen[0][3] == "GET /slow HTTP/1.1", seen)


def curl(*arguments):
    return subprocess.run(["curl", "-sk", "--max-time", str(LIMIT), *arguments], capture_output=True, text=True,
                          timeout=2 * LIMIT, check=True).stdout


def test_json_over_http2_and_tls():
    folder = tempfile.mkdtemp()
    path = os.path.join(folder, "json")
    program = Program(EVLUASERVER, temporary(APP), "--listen", "127.0.0.1:0", "--tls-auto-dev", "--access-log", path,
                      "--access-log-format", "json", "--static", folder + "=/s")
    with open(os.path.join(folder, "large"), "w", encoding="ascii") as f:
        f.write("x" * 300000)
    port = int(program.word_after("https://127.0.0.1:"))
    trace = "0af7651916cd43dd8448eb211c80319c"
    curl("--http2", "-A", "agent \u00e4 \u2028 \t\"quoted\"", "-H", f"traceparent: 00-{trace}-b7ad6b7169203331-01",
         f"https://127.0.0.1:{port}/stream")
    curl("--http1.1", f"https://127.0.0.1:{port}/plain?q=1")
    for version in ("--http1.1", "--http2"):
        check(len(curl(version, f"https://127.0.0.1:{port}/s/large?{version}")) == 300000, "the file")
    check(program.stop() == 0, program.text)
    with open(path, encoding="utf-8") as f:
        seen = {entry["target"]: entry for entry in map(json.loads, f.read().splitlines())}
    check(all(seen["/s/large?" + version]["bytes"] == 300000 for version in ("--http1.1", "--http2")), seen)
    two, one = seen["/stream"], seen["/plain?q=1"]
    check(two["request"] == "GET /stream HTTP/2.0" and two["bytes"] == 15 and two["status"] == 200, two)
    check(two["trace_id"] == trace and two["parent_id"] == "b7ad6b7169203331", two)
    check(two["user_agent"].startswith("agent \u00e4 ") and two["user_agent"].endswith('\t"quoted"'), two)
    check(one["tls"].startswith("TLSv1.") and "parent_id" not in one and len(one["trace_id"]) == 32, one)
    check(re.match(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$", one["time"]), one)


def test_rotation_loses_nothing():
    server = Logged("--error-log", "-")
    old = server.path + ".1"
    total = 400
    done = threading.Event()

    def client():
        with socket.create_connection(("127.0.0.1", server.port), LIMIT) as s:
            for _ in range(total):
                s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                got = b""
                while not got.endswith(b"hello"):
                    part = s.recv(65536)
                    check(part, "closed")
                    got += part
        done.set()

    thread = threading.Thread(target=client)
    thread.start()
    server.wait_lines(1)
    os.rename(server.path, old)
    server.program.process.send_signal(signal.SIGUSR1)
    eventually(lambda: os.path.exists(server.path), "the new file")
    thread.join(LIMIT)
    check(done.is_set(), "the client failed")
    server.get("/last")
    after = server.end()
    check(any("/last" in line for line in after), after[-1:])  # each worker writes in an order of its own
    check(len(lines_of(old)) + len(after) == total + 1, len(lines_of(old)), len(after))


def test_full_ring_drops_and_counts():
    reader, writer = os.pipe()  # nobody reads: the writer gets stuck, the server must not
    program, port = serve(temporary(APP), "--workers", "1", "--access-log", "-", setup=lambda: os.dup2(writer, 1))
    os.close(writer)
    count = 16000  # some 2 MB of lines
    with socket.create_connection(("127.0.0.1", port), LIMIT) as s:
        sent = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 100
        for _ in range(count // 100):
            s.sendall(sent)
            got = b""
            while got.count(b"hello") < 100:
                part = s.recv(65536)
                check(part, "closed")
                got += part
    drained = []

    def drain():
        while part := os.read(reader, 65536):
            drained.append(part)

    thread = threading.Thread(target=drain)
    thread.start()
    check(program.stop() == 0, program.text)
    thread.join(LIMIT)
    os.close(reader)
    lost = sum(map(int, re.findall(r"access log: (\d+) lines were dropped", program.text)))
    kept = b"".join(drained).count(b"\n")
    check(lost > 0 and kept > 0 and lost + kept == count, lost, kept, program.text)


def test_a_log_that_nobody_reads_does_not_keep_signals_away():
    fifo = os.path.join(tempfile.mkdtemp(), "fifo")
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    program, port = serve(temporary(APP), "--workers", "1", "--access-log", fifo)
    with program:
        exchange(port, b"GET / HTTP/1.0\r\n\r\n")
        os.close(reader)
        program.process.send_signal(signal.SIGUSR1)
        program.wait_for("the access log cannot be opened again: no such device or address")
        check(exchange(port, b"GET / HTTP/1.0\r\n\r\n").endswith(b"hello"))
        check(program.stop() == 0, program.text)


def test_a_line_that_a_full_disk_cuts_stays_alone():
    folder = tempfile.mkdtemp()
    path = os.path.join(folder, "log")

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))

    program = Program(EVLUASERVER, temporary(APP), "--listen", "127.0.0.1:0", "--workers", "1", "--access-log", path,
                      setup=limit)
    with program:
        port = int(program.word_after("http://127.0.0.1:"))
        request = b"GET /" + b"x" * 300 + b" HTTP/1.0\r\n\r\n"
        while os.path.getsize(path) < 1000:
            exchange(port, request)
        program.wait_for("lines were dropped")
        resource.prlimit(program.process.pid, resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
        exchange(port, request)
        check(program.stop() == 0, program.text)
    with open(path) as f:
        lines = f.read().splitlines()
    whole = [bool(COMBINED.match(line)) for line in lines]
    check(whole.count(False) == 1 and whole[-1], lines)


def test_unusable_files_are_refused():
    for option, code in (("--access-log", 1), ("--error-log", 2)):
        got = subprocess.run([EVLUASERVER, temporary(APP), "--listen", "127.0.0.1:0", option, "/nowhere/x"],
                             capture_output=True, text=True, timeout=LIMIT, check=False)
        check(got.returncode == code and option in got.stderr and "no such file" in got.stderr, got)


def test_error_log():
    folder = tempfile.mkdtemp()
    path = os.path.join(folder, "errors")
    program = Program(EVLUASERVER, temporary(APP), "--listen", "127.0.0.1:0", "--error-log", path, "--workers", "1")
    eventually(lambda: any("listening" in line for line in lines_of(path)), "listening")
    port = int(lines_of(path)[-1].rsplit(":", 1)[1])
    exchange(port, b"GET /error?x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    eventually(lambda: any("broken: x" in line for line in lines_of(path)), "the error")
    os.rename(path, path + ".1")
    program.process.send_signal(signal.SIGUSR1)
    eventually(lambda: os.path.exists(path), "the new file")
    check(program.stop() == 0 and program.text == "", program.text)
    check(any("stopping" in line for line in lines_of(path)), lines_of(path))
    old = lines_of(path + ".1")
    stamped = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (error|info) \[\d+\] ")
    check(all(stamped.match(line) or line.startswith("\t") for line in old), old)
    check(any(line == "\tevluaserver: forged\\x1b[2J" for line in old), old)
    check(any(re.search(r"error \[\d+\] request [0-9a-f]{8}-1 \(req.id 1, trace [0-9a-f]{32}\): ", line)
              for line in old), old)


def test_an_error_log_whatever_standard_error_is():
    ours, theirs = socket.socketpair()  # as systemd has it
    reader, writer = os.pipe()
    for standard in (theirs.fileno(), writer):
        path = os.path.join(tempfile.mkdtemp(), "errors")
        program = Program(EVLUASERVER, temporary(APP), "--listen", "127.0.0.1:0", "--error-log", path, "--workers", "1",
                          setup=lambda fd=standard: os.dup2(fd, 2))
        with program:
            eventually(lambda: any("listening" in line for line in lines_of(path)), "listening")
            descriptors = f"/proc/{program.process.pid}/fd/"
            check(program_has(descriptors, os.readlink(f"/proc/self/fd/{standard}")) == ["2"], "one is left over")
            check(program.stop() == 0, program.text)
    ours.close()
    theirs.close()
    os.close(reader)
    os.close(writer)


def program_has(descriptors, what):
    """The numbers under which that is open."""
    found = []
    for number in os.listdir(descriptors):
        try:
            if os.readlink(descriptors + number) == what:
                found.append(number)
        except FileNotFoundError:  # closed in between
            pass
    return found


def test_levels():
    for level, wanted in (("error", ""), ("info", "listening")):
        path = os.path.join(tempfile.mkdtemp(), "socket")
        program = Program(EVLUASERVER, temporary(APP), "--listen", "unix:" + path, "--log-level", level)
        eventually(lambda: os.path.exists(path), "the socket")
        with socket.socket(socket.AF_UNIX) as s:
            eventually(lambda: s.connect_ex(path) == 0, "an answer")
            s.sendall(b"GET / HTTP/1.0\r\n\r\n")
            check(s.recv(100).startswith(b"HTTP/1.1 200"), "no answer")
        check(program.stop() == 0, program.text)
        check(program.text == "" if wanted == "" else wanted in program.text, level, program.text)


def test_trace_and_ids():
    server = Logged("--request-id", "trust")
    trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"

    def ask(fields):
        head, body = server.get("/trace", fields).decode().split("\r\n\r\n", 1)
        return head, body.split(" ")

    _, got = ask(f"traceparent: 00-{trace}-{parent}-01\r\n")
    check(got[:2] == [trace, parent] and got[3] == "true" and got[4] == f"00-{trace}-{got[2]}-01", got)
    _, later = ask(f"traceparent: cc-{trace}-{parent}-01-more\r\n")
    check(later[0] == trace, later)
    for bad in (f"00-{trace}-{parent}-01-more", f"ff-{trace}-{parent}-01", f"00-{trace.upper()}-{parent}-01",
                f"00-{'0' * 32}-{parent}-01", f"00-{trace}-{'0' * 16}-01", f"00-{trace}-{parent}", "x" * 55,
                f"00-{trace}-{parent}-01\r\ntraceparent: 00-{trace}-{parent}-01"):
        _, got = ask(f"traceparent: {bad}\r\n")
        check(got[0] != trace and got[1] == "-" and got[3] == "false" and re.match("^[0-9a-f]{32}$", got[0]), bad, got)
    head, got = ask("X-Request-Id: proxy-1234\r\n")
    check(got[5] == "proxy-1234" and "X-Request-Id: proxy-1234" in head, head, got)
    for bad in ("a b", "x" * 129, "a\"b", ""):
        head, got = ask(f"X-Request-Id: {bad}\r\n")
        check(re.match("^[0-9a-f]{8}-[0-9a-f]+$", got[5]) and f"X-Request-Id: {got[5]}" in head, head)
    check("X-Request-Id: " in server.get("/error").decode(), "an error has an id, too")
    check("X-Request-Id: " in server.ask("BAD\r\n\r\n").decode(), "so has a refusal")
    check(sum(" proxy-1234 " in line for line in server.end()) == 1, "the log has the client's id")


def test_a_stalled_reader_of_errors_holds_up_nobody():
    app = temporary('return function() error(("x"):rep(3000)) end')
    program = Program(EVLUASERVER, app, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--workers", "1")
    with program:
        admin = int(program.word_after("admin on http://127.0.0.1:"))
        port = int(program.word_after("listening on http://127.0.0.1:"))
        ask = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        for _ in range(100):  # some 300 KB that nobody reads
            check(exchange(port, ask).startswith(b"HTTP/1.1 500"), "not answered")
        figures = exchange(admin, ask.replace(b"/ ", b"/metrics ", 1).replace(b"Host: x", b"Host: localhost")).decode()
        dropped = int(re.search(r"^evlua_error_log_dropped_total (\d+)$", figures, re.M)[1])
        check(0 < dropped < 100, dropped)
        os.set_blocking(program.stream.fileno(), False)
        kept = b""
        while part := program.stream.read():
            kept += part
        os.set_blocking(program.stream.fileno(), True)
        check(kept.count(b"evluaserver: request ") == 100 - dropped, kept.count(b"evluaserver: request "), dropped)
        check(exchange(port, ask).startswith(b"HTTP/1.1 500"))
        program.wait_for(f"{dropped} lines were dropped, since nobody read them")
        check(program.stop() == 0 and "stopping" in program.text, program.text)


def test_an_access_log_that_nobody_reads_holds_up_nobody():
    for blocking in (True, False):
        reader, writer = os.pipe()
        os.set_blocking(writer, blocking)
        program = Program(EVLUASERVER, temporary(APP), "--listen", "127.0.0.1:0", "--workers", "1", "--access-log", "-",
                          setup=lambda: os.dup2(writer, 1))
        port = int(program.word_after("http://127.0.0.1:"))
        os.close(writer)
        count = 2000  # some 250 KB of lines
        exchange(port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * (count - 1) +
                 b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        used = processor_seconds(program.process.pid)
        began = time.monotonic()
        while time.monotonic() < began + 1:  # what is looked at is that nothing happens
            time.sleep(0.1)
        used = processor_seconds(program.process.pid) - used
        check(used < 0.4, "it spins", used)
        check(program.stop() == 0, program.text)
        kept = b""
        while part := os.read(reader, 65536):
            kept += part
        os.close(reader)
        lost = sum(map(int, re.findall(r"access log: (\d+) lines were dropped: nobody reads them", program.text)))
        check(lost > 0 and lost + kept.count(b"\n") == count, lost, kept.count(b"\n"), program.text)


def test_processes_that_share_a_pipe_write_whole_lines():
    """It is full most of the time."""
    app = temporary('return function(req, res) res:text("x") end')
    reader, writer = os.pipe()
    kept, full = [], b""
    with contextlib.ExitStack() as stack:
        ports = []
        for _ in range(2):
            program = stack.enter_context(Program(EVLUASERVER, app, "--listen", "127.0.0.1:0", "--workers", "1",
                                                  "--access-log", "-", setup=lambda: os.dup2(writer, 1)))
            ports.append((program, int(program.word_after("http://127.0.0.1:"))))
        os.close(writer)
        sent = 0
        for letter in "abcdefghijkl":
            for _, port in ports:
                request = f"GET /{letter * 1000} HTTP/1.1\r\nHost: x\r\n"
                exchange(port, ((request + "\r\n") * 19 + request + "Connection: close\r\n\r\n").encode())
                sent += 20
        deadline = time.monotonic() + LIMIT
        while len(kept) < sent:
            check(time.monotonic() < deadline, len(kept), sent)
            full += os.read(reader, 1000)
            *lines, full = full.split(b"\n")
            kept += lines
        for program, _ in ports:
            check(program.stop() == 0, program.text)
    os.close(reader)
    os.unlink(app)
    for line in kept:
        seen = COMBINED.match(line.decode())
        check(seen and re.match(r"^GET /([a-l])\1{999} HTTP/1.1$", seen[3]), line)


def test_a_line_that_a_slow_reader_cuts_goes_on_as_itself():
    app = temporary('return function(req, res) res:text("x") end')
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    program = Program(EVLUASERVER, app, "--listen", "127.0.0.1:0", "--workers", "2", "--access-log", "-",
                      setup=lambda: os.dup2(writer, 1))
    port = int(program.word_after("http://127.0.0.1:"))
    os.close(writer)
    kept = b""
    with program, contextlib.ExitStack() as stack:
        def ask(connection, path):
            connection.sendall(f"GET /{path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            answer = b""
            while b"\r\n\r\n" not in answer or not answer.split(b"\r\n\r\n", 1)[1]:
                answer += connection.recv(65536)

        connections = [stack.enter_context(socket.create_connection(("127.0.0.1", port), LIMIT)) for _ in range(16)]
        for _ in range(8):
            for index, connection in enumerate(connections):
                ask(connection, "abcdefghijklmnop"[index] * 4500)  # more than a pipe takes as a whole
            began = time.monotonic()
            while time.monotonic() < began + 0.4:  # the writer gives up for now, within a line, and begins once more
                time.sleep(0.05)
            kept += os.read(reader, 4096)  # all that a pipe of this size holds: less than has come
        deadline = time.monotonic() + LIMIT
        while kept.count(b"\n") < 8 * 16:
            check(time.monotonic() < deadline, kept[-2000:])
            kept += os.read(reader, 65536)
        check(program.stop() == 0, program.text)
    os.close(reader)
    for line in kept.decode().splitlines():
        seen = COMBINED.match(line)
        check(seen and re.match(r"^GET /([a-p])\1{4499} HTTP/1.1$", seen[3]), line)


def processor_seconds(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main(globals())
