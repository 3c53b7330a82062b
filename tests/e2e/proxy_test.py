"""evluaserver behind nginx as a reverse proxy, over TCP and over a Unix socket. Registered only where nginx is."""
import http.client
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

from support import EVLUASERVER, LIMIT, Program, check, main, temporary

NGINX = shutil.which("nginx") or "/usr/sbin/nginx"
APP = temporary("""
local evlua = require "evlua"
return function(req, res)
  if req.path == "/count" then
    local size = 0
    for piece in req:chunks() do size = size + #piece end
    return res:text(tostring(size))
  elseif req.path == "/echo" then
    for piece in req:chunks() do assert(res:write(piece)) end
    return
  elseif req.path == "/stream" then
    for i = 1, 50 do assert(res:write(("%05d"):format(i):rep(2000))) end
    return
  elseif req.path == "/slow" then
    evlua.sleep(0.05)
  elseif req.path == "/fail" then
    error "on purpose"
  end
  res:header("X-Seen", req:header("x-forwarded-for") or "-"):text(req.method .. " " .. req.path)
end
""")
CONF = """
daemon off; master_process off; pid {dir}/pid; error_log {dir}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; client_max_body_size 0;
  client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u;
  scgi_temp_path {dir}/s;
  upstream app {{ server {upstream}; keepalive 32; }}
  server {{
    listen unix:{dir}/front.sock;
    location / {{
      proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For 192.0.2.1; proxy_buffering {buffering}; proxy_request_buffering {buffering};
      proxy_next_upstream off;
    }}
  }}
}}
"""


class Front(http.client.HTTPConnection):
    """A connection to nginx, which listens on a Unix socket so that no port can be taken."""

    def __init__(self, directory):
        super().__init__("site.example", timeout=LIMIT)
        self.path = os.path.join(directory, "front.sock")

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(LIMIT)
        self.sock.connect(self.path)

    def get(self, path, method="GET", body=None, chunked=False):
        self.request(method, path, body, encode_chunked=chunked,
                     headers={"Transfer-Encoding": "chunked"} if chunked else {})
        answer = self.getresponse()
        return answer.status, answer.read(), answer


class Nginx:
    def __init__(self, upstream, buffering):
        self.directory = tempfile.mkdtemp()
        conf = os.path.join(self.directory, "nginx.conf")
        with open(conf, "w") as f:
            f.write(CONF.format(dir=self.directory, upstream=upstream, buffering=buffering))
        self.process = subprocess.Popen([NGINX, "-c", conf, "-p", self.directory], stderr=subprocess.DEVNULL)

    def __enter__(self):
        deadline = time.monotonic() + LIMIT
        while True:
            check(self.process.poll() is None and time.monotonic() < deadline, "nginx did not start")
            try:
                front = Front(self.directory)
                front.connect()
                front.close()
                return self
            except OSError:
                time.sleep(0.01)

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(LIMIT)
        shutil.rmtree(self.directory)


def everything_through(nginx):
    front = Front(nginx.directory)
    for number in range(50):
        status, body, answer = front.get(f"/{number}")
        check(status == 200 and body == f"GET /{number}".encode(), status, body)
        check(answer.getheader("X-Seen") == "192.0.2.1", answer.headers)
    big = os.urandom(3_000_000)
    check(front.get("/count", "POST", big)[1] == b"3000000")
    check(front.get("/count", "POST", iter([big[:1000], big[1000:]]), chunked=True)[1] == b"3000000")
    check(front.get("/count", "POST", b"")[1] == b"0")
    # nginx stops sending a request once the response has begun, so this one must fit into a socket's buffer.
    check(front.get("/echo", "PUT", big[:60000])[1] == big[:60000])
    check(len(front.get("/stream")[1]) == 50 * 10000)
    status, body, _ = front.get("/head", "HEAD")
    check(status == 200 and body == b"", body)
    check(front.get("/fail")[0] == 500 and front.get("/after")[0] == 200)
    front.close()


def many_at_once(nginx):
    wrong = []

    def client():
        front = Front(nginx.directory)
        for _ in range(20):
            got = front.get("/slow")[:2]
            if got != (200, b"GET /slow"):
                wrong.append(got)
        front.close()

    threads = [threading.Thread(target=client) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check(not wrong, wrong[:3])


def through(address, upstream):
    with Program(EVLUASERVER, APP, "--listen", address, "--workers", "2") as program:
        port = program.word_after("http://127.0.0.1:") if not address.startswith("unix:") else ""
        program.wait_for("listening")
        for buffering in ("on", "off"):
            with Nginx(upstream.format(port=port), buffering) as nginx:
                everything_through(nginx)
                many_at_once(nginx)
        check(program.stop() == 0, program.text)


def test_tcp():
    through("127.0.0.1:0", "127.0.0.1:{port}")


def test_unix():
    path = tempfile.mktemp(suffix=".sock")
    through("unix:" + path, "unix:" + path)


def test_restart_behind_the_proxy():
    path = tempfile.mktemp(suffix=".sock")
    with Nginx("unix:" + path, "on") as nginx:
        for _ in range(3):
            with Program(EVLUASERVER, APP, "--listen", "unix:" + path) as program:
                program.wait_for("listening")
                front = Front(nginx.directory)
                check(front.get("/there")[0] == 200)
                check(program.stop() == 0, program.text)
                check(front.get("/gone")[0] == 502)
                front.close()


main(globals())
