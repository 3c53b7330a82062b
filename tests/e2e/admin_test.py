"""The admin listener: metrics that Prometheus takes, health, the dashboard; also while Lua is stuck."""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading

from browser import Page
from support import EVLUASERVER, LIMIT, SANITIZED, Program, check, eventually, exchange, main, temporary

APP = """
local evlua, shared = require "evlua", require "evlua.shared"
local hits = shared.counter('odd "name"\\n')
local sizes = shared.histogram("sizes", {buckets = {1, 10, 100}})
return function(req, res)
  hits:add()
  sizes:observe(#req.path)
  if req.path == "/sleep" then
    local function deep() evlua.sleep(tonumber(req.query_string)) end
    deep()
  elseif req.path == "/stuck" then
    package.loadlib("libc.so.6", "getchar")()    -- blocks the thread until there is something to read
  elseif req.path == "/compute" then
    while true do end
  elseif req.path == "/error" then
    error("broken")
  end
  res:text("hello")
end
"""
SAMPLE = re.compile(r'^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\["\\n])*",?)*)\})? (\S+)$')


class Server:
    def __init__(self, *options, app=APP, scheme="http", setup=None):
        self.program = Program(EVLUASERVER, temporary(app), "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0",
                               *options, setup=setup)
        self.admin = int(self.program.word_after("admin on http://127.0.0.1:"))
        self.port = int(self.program.word_after(f"listening on {scheme}://127.0.0.1:"))

    def get(self, target, port=None):
        request = f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
        answer = exchange(port or self.port, request.encode())
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split(b" ")[1]), body.decode()

    def look(self, target):
        return self.get(target, self.admin)

    def metrics(self):
        status, text = self.look("/metrics")
        check(status == 200, status, text)
        return parse(text)

    def status(self):
        return json.loads(self.look("/status.json")[1])

    def end(self):
        check(self.program.stop() == 0, self.program.text)


def parse(text):
    """Strictly: every sample belongs to the metric declared before it, and histograms add up."""
    check(text.endswith("\n"), "the last line ends")
    values, kind, name = {}, None, None
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            check(kind in ("counter", "gauge", "histogram") and (kind != "counter" or name.endswith("_total")), line)
        elif not line.startswith("# HELP "):
            match = SAMPLE.match(line)
            check(match, line)
            suffixes = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
            check(match[1] in [name + suffix for suffix in suffixes], line, "does not belong to", name)
            key = match[1] + ("{" + match[2] + "}" if match[2] else "")
            check(key not in values, key, "twice")
            values[key] = float(match[3])
    for key, value in values.items():
        if "_bucket{" in key and 'le="+Inf"' in key:
            base, labels = key.split("_bucket{")
            rest = re.sub(r',?le="\+Inf"', "", labels[:-1])
            check(values[base + "_count" + ("{" + rest + "}" if rest else "")] == value, key)
            prefix = base + "_bucket{" + (rest + "," if rest else "")
            buckets = [v for k, v in values.items() if k.startswith(prefix + "le=")]
            check(buckets == sorted(buckets), key, buckets)
    return values


def test_metrics():
    server = Server("--access-log", os.devnull, "--workers", "2")
    before = server.metrics()
    for _ in range(20):
        check(server.get("/x")[0] == 200, "no answer")
    check(server.get("/error")[0] == 500, "no error")
    check(b" 400 " in exchange(server.port, b"BAD\r\n\r\n"), "no refusal")
    after = eventually(lambda: (m := server.metrics())['evlua_requests_total{status="4xx"}'] == 1 and m, "all counted")
    grown = {key: value - before.get(key, 0) for key, value in after.items()}
    check(grown['evlua_requests_total{status="2xx"}'] == 20 and grown['evlua_requests_total{status="5xx"}'] == 1, grown)
    check(grown["evlua_request_duration_seconds_count"] == 22 and grown["evlua_requests_refused_total"] == 1, grown)
    check(0 < after["evlua_request_duration_seconds_sum"] < LIMIT, after)
    check(grown["evlua_connections_accepted_total"] == 22 and grown["evlua_lua_errors_total"] == 1, grown)
    check(grown["evlua_access_log_lines_total"] == 22, grown)
    check(grown["evlua_received_bytes_total"] > 22 * 7 and grown["evlua_sent_bytes_total"] > 22 * 100, grown)
    check(after['evlua_shared_value{name="odd \\"name\\"\\n"}'] == 21, after)
    check(after['evlua_shared_observations_count{name="sizes"}'] == 21, after)
    check(after["evlua_up"] == 1 and after["evlua_vms"] == 2 and after['evlua_vm_memory_bytes{vm="1"}'] > 10000, after)
    promtool = shutil.which("promtool")
    if promtool:
        got = subprocess.run([promtool, "check", "metrics"], input=server.look("/metrics")[1], capture_output=True,
                             text=True, timeout=LIMIT, check=False)
        check(got.returncode == 0, got)
    server.end()


def test_tls_and_http2_are_counted():
    server = Server("--tls-auto-dev", scheme="https")
    url = f"https://127.0.0.1:{server.port}/"
    subprocess.run(["curl", "-sk", "--http2", url, url], capture_output=True, timeout=LIMIT, check=True)
    with socket.create_connection(("127.0.0.1", server.port), LIMIT) as s:
        s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        while s.recv(1000):
            pass
    seen = eventually(lambda: (m := server.metrics())["evlua_tls_handshake_failures_total"] == 1 and m, "the failure")
    check(seen["evlua_tls_handshakes_total"] == 1 and seen["evlua_http2_streams_total"] == 2, seen)
    check(seen['evlua_requests_total{status="2xx"}'] == 2, seen)
    server.end()


def test_limits_are_counted():
    if "thread" in os.environ.get("EVLUA_SANITIZE", ""):
        return  # no slice of Lua can be ended there
    server = Server("--cpu-limit", "0.05", "--slow-request", "0.02")
    check(server.get("/compute")[0] == 503, "no limit")
    seen = server.metrics()
    check(seen["evlua_limited_requests_total"] == 1 and seen["evlua_lua_errors_total"] == 0, seen)
    server.end()


def test_answers_while_lua_is_stuck():
    reader, writer = os.pipe()
    server = Server("--workers", "1", setup=lambda: os.dup2(reader, 0))
    stuck = threading.Thread(target=server.get, args=("/stuck",))
    stuck.start()
    eventually(lambda: server.status()["vms"][0]["tasks"] == 1, "stuck")
    check(server.look("/healthz") == (200, "serving\n"), "health")
    check(server.metrics()["evlua_up"] == 1, "metrics")
    check(stuck.is_alive(), "it was not stuck")
    os.write(writer, b"x")
    stuck.join(LIMIT)
    server.end()
    os.close(reader)
    os.close(writer)


def test_slow_requests_with_tracebacks():
    server = Server("--slow-request", "0.1", "--workers", "1")
    waiting = threading.Thread(target=server.get, args=("/sleep?1.5",))
    waiting.start()

    def under_way():
        return [s for s in server.status()["slow"]
                if s["request"] == "GET /sleep?1.5" and "in local 'deep'" in s["traceback"]]

    seen = eventually(under_way, "the traceback")[0]
    check(seen["status"] == 0 and "in field 'sleep'" in seen["traceback"], seen)
    waiting.join(LIMIT)
    ended = eventually(lambda: [s for s in server.status()["slow"] if s["status"] == 200], "its end")[0]
    check(ended["id"] == seen["id"] and ended["seconds"] >= 1.5, ended)
    check(server.get("/fast")[0] == 200 and len(server.status()["slow"]) == 1, "a fast one is none of them")
    server.end()


def test_health_while_draining():
    server = Server("--workers", "2")
    waiting = threading.Thread(target=server.get, args=("/sleep?1",))
    waiting.start()
    eventually(lambda: sum(vm["tasks"] for vm in server.status()["vms"]) == 1, "the request")
    server.program.process.send_signal(signal.SIGTERM)
    health = eventually(lambda: (h := server.look("/healthz"))[0] == 503 and h, "draining")
    check(health == (503, "draining\n"), "health")
    waiting.join(LIMIT)
    check(server.program.process.wait(LIMIT) == 0, "a second SIGTERM would have cut it short")


def test_the_rest_of_it():
    server = Server()
    check(server.look("/nothing")[0] == 404, "404")
    check(b" 405 " in exchange(server.admin, b"POST /metrics HTTP/1.0\r\nContent-Length: 0\r\n\r\n"), "405")
    check(server.get("/metrics")[1] == "hello", "the app's paths are the app's")
    status, page = server.look("/")
    check(status == 200 and "<title>evluaserver</title>" in page, page[:200])
    check(not re.search(r'(src|href)="(https?:)?//', page), "it loads nothing from elsewhere")
    server.end()
    folder = tempfile.mkdtemp()
    path = os.path.join(folder, "admin")
    program = Program(EVLUASERVER, temporary(APP), "--listen", "127.0.0.1:0", "--admin", "unix:" + path)
    program.wait_for("listening on")
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(path)
        s.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        check(s.recv(1000).startswith(b"HTTP/1.1 200"), "no health")
    check(program.stop() == 0 and not os.path.exists(path), program.text)
    got = subprocess.run([EVLUASERVER, temporary(APP), "--listen", "127.0.0.1:0", "--admin", "nonsense"],
                         capture_output=True, text=True, timeout=LIMIT, check=False)
    check(got.returncode == 2 and "--admin" in got.stderr, got)


def test_address_in_use():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = "127.0.0.1:%d" % taken.getsockname()[1]
        got = subprocess.run([EVLUASERVER, temporary(APP), "--listen", "127.0.0.1:0", "--admin", address],
                             capture_output=True, text=True, timeout=LIMIT, check=False)
    check(got.returncode == 1 and f"cannot listen on --admin {address}: address already in use" in got.stderr, got)


def test_takeover_keeps_the_address():
    server = Server("--workers", "1")
    first = server.program.process.pid
    server.program.process.send_signal(signal.SIGUSR2)
    server.program.wait_for("takes over")
    second = int(re.search(r"process (\d+) takes over", server.program.text)[1])
    try:
        check(server.program.process.wait(LIMIT) == 0 and first != second, server.program.text)
        eventually(lambda: server.look("/healthz") == (200, "serving\n"), "the new one alone")
        check(server.metrics()["evlua_requests_total{status=\"2xx\"}"] == 0, "its counts are its own")
    finally:
        os.kill(second, signal.SIGTERM)
    server.program.process.stderr.read()  # to the end of the second process


def brightness(rows):
    """Of the whole picture, 0 to 255."""
    return sum(sum(pixel) for row in rows for pixel in row) / (3 * len(rows) * len(rows[0]))


def test_dashboard():
    if SANITIZED:
        print("  (too slow for a browser: the page was not opened)")
        return
    server = Server("--slow-request", "0.05", "--workers", "1")
    for target in ("/x", "/error", "/sleep?0.2"):
        server.get(target)
    with Page(f"http://127.0.0.1:{server.admin}/") as page:
        page.wait_for("document.getElementById('state')?.textContent == 'serving'")
        page.wait_for("document.querySelector('polyline.curve') != null && document.querySelector('rect.bar') != null")
        page.wait_for("document.body.textContent.includes('GET /sleep?0.2')")
        check(page.value("document.getElementById('total').textContent") == "3 in all", "requests")
        check(page.value("document.body.textContent.includes('1 in Lua')"), "failures")
        for scheme, darkest, brightest in (("light", 170, 255), ("dark", 0, 85)):
            page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
            seen = page.picture()
            check(darkest <= brightness(seen) <= brightest, scheme, brightness(seen))
            check(len({pixel for row in seen for pixel in row}) > 50, scheme, "text and curves are drawn")
            wider = page.value("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            check(wider <= 0, scheme, "it is wider than the window by", wider)
        check(page.complaints == [], page.complaints)
    server.end()


def test_the_locale_of_an_app_changes_nothing():
    """Where decimals have a comma. What such a locale is made of comes with the C library, if at all."""
    folder = tempfile.mkdtemp()
    made = subprocess.run(["localedef", "-i", "de_DE", "-f", "UTF-8", folder + "/de_DE.UTF-8"], capture_output=True,
                          check=False) if shutil.which("localedef") else None
    if made is None or not os.path.exists(folder + "/de_DE.UTF-8/LC_NUMERIC"):
        print("left out: there is no such locale")
        return
    os.environ["LOCPATH"] = folder
    try:
        server = Server("--workers", "1", app="""
local comma = os.setlocale("de_DE.UTF-8") and string.format("%.1f", 0.5)
return function(req, res) res:text(comma) end
""")
    finally:
        del os.environ["LOCPATH"]
    check(server.get("/") == (200, "0,5"), "the locale is there")
    check(any('le="0.0' in name for name in server.metrics()), server.metrics().keys())
    check(0 < server.status()["uptime"] < 1e6, server.status())
    server.program.process.send_signal(signal.SIGHUP)
    check(re.fullmatch(r"\d+\.\d ms", server.program.word_after("app reloaded in ")), server.program.text)
    server.end()
    shutil.rmtree(folder)


def test_idle_connections_keep_nobody_out():
    server = Server("--workers", "1")
    idle = [socket.create_connection(("127.0.0.1", server.admin), LIMIT) for _ in range(70)]
    check(server.look("/healthz") == (200, "serving\n"), "with idle ones")
    for s in idle:
        s.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        check(s.recv(1000).startswith(b"HTTP/1.1 200"), "an idle one is answered")
    check(server.look("/healthz") == (200, "serving\n"), "with kept ones")
    for s in idle:
        check(s.recv(1000) == b"", "they are closed")  # soon: keep-alive would be over before LIMIT
        s.close()
    server.end()


def test_only_for_its_own_names():
    server = Server("--workers", "1", "--admin-host", "metrics.internal", "--admin-host", "other")

    def ask(host):
        request = f"GET /status.json HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        return int(exchange(server.admin, request.encode()).split(b" ")[1])

    for host in ("127.0.0.1", f"127.0.0.1:{server.admin}", "[::1]:9100", "10.1.2.3", "localhost", "LOCALHOST:80",
                 "localhost.", "metrics.internal:9100", "Other"):
        check(ask(host) == 200, host)
    for host in ("evil.example", "evil.example:9100", "localhost.evil.example", "127.0.0.1.evil.example", "metrics",
                 "1.2.3.4.5", "[::1].evil.example"):
        check(ask(host) in (400, 421), host, ask(host))
    check(ask("evil.example") == 421, "which is how it is refused")
    server.end()


if __name__ == "__main__":
    main(globals())
