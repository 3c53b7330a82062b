"""HTTP servers that the benchmarks run: how to start each, and what processor time it has used."""
import os
import shutil
import signal
import socket
import subprocess
import time

HERE = os.path.dirname(os.path.abspath(__file__))
PEERS = os.path.join(HERE, "peers")
TICK = os.sysconf("SC_CLK_TCK")
SERVER_CORE = "0"
NGINX_MODULES = "".join(f"load_module {m};\n" for m in ("/usr/lib/nginx/modules/ndk_http_module.so",
                                                         "/usr/lib/nginx/modules/ngx_http_lua_module.so")
                        if os.path.exists(m))

NGINX_CONF = """
daemon off; worker_processes {workers}; pid {dir}/nginx.pid; error_log {dir}/error.log;
{modules}
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 600s;
  client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u;
  scgi_temp_path {dir}/s;
  lua_shared_dict bench 10m;
  server {{
    listen 127.0.0.1:{port};
    location / {{
      default_type 'text/plain; charset=utf-8';
      content_by_lua_block {{ ngx.header['Content-Length'] = 13 ngx.print('Hello, World!') }}
    }}
    location /burn {{
      content_by_lua_block {{
        local began = os.clock()
        repeat for _ = 1, 1000 do end until os.clock() - began > 0.2
        ngx.print('burnt')
      }}
    }}
    location ~ "^/(get|incr)/([a-z]+)$" {{
      content_by_lua_block {{
        local dict, calls, key = ngx.shared.bench, 2000000, ngx.var[2]
        dict:add(key, 1)
        ngx.update_time()
        local began = ngx.now()
        if ngx.var[1] == 'get' then
          for _ = 1, calls do dict:get(key) end
        else
          for _ = 1, calls do dict:incr(key, 1) end
        end
        ngx.update_time()
        ngx.print(('%d %.2f'):format(ngx.worker.pid(), (ngx.now() - began) / calls * 1e9))
      }}
    }}
  }}
}}
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def pids_below(pid):
    found, queue = [], [pid]
    while queue:
        current = queue.pop()
        found.append(current)
        try:
            with open(f"/proc/{current}/task/{current}/children") as f:
                queue += [int(p) for p in f.read().split()]
        except OSError:
            pass
    return found


def cpu_seconds(pid):
    total = 0
    for p in pids_below(pid):
        try:
            with open(f"/proc/{p}/stat") as f:
                fields = f.read().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
        except OSError:
            pass
    return total / TICK


class Server:
    """A peer: how to start it. `command(port, directory)` returns the argument list, or None when it is missing."""

    def __init__(self, name, command, env=None):
        self.name, self.command, self.env = name, command, env or {}
        self.process = None

    def start(self, directory, cores=SERVER_CORE):
        self.port = free_port()
        command = self.command(self.port, directory)
        if command is None:
            return False
        env = dict(os.environ, GOMAXPROCS="1", **self.env)
        self.process = subprocess.Popen(["taskset", "-c", cores] + command, env=env,
                                        stdout=subprocess.DEVNULL, stderr=open(f"{directory}/{self.name}.err", "w"))
        deadline = time.time() + 20
        while time.time() < deadline:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1) as s:
                    s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                    answer = b""
                    while True:
                        got = s.recv(65536)
                        if not got:
                            break
                        answer += got
                if not answer.startswith(b"HTTP/1.1 200") or b"Hello, World!" not in answer:
                    raise SystemExit(f"{self.name}: wrong answer: {answer!r}")
                return True
            except OSError:
                if self.process.poll() is not None:
                    raise SystemExit(f"{self.name} ended: see {directory}/{self.name}.err")
                time.sleep(0.05)
        raise SystemExit(f"{self.name} did not start")

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def nginx_program():
    """None when it or its Lua module is missing."""
    nginx = shutil.which("nginx") or "/usr/sbin/nginx"
    return nginx if os.path.exists(nginx) and "lua" in NGINX_MODULES else None


def nginx_command(port, directory, workers=1):
    if nginx_program() is None:
        return None
    conf = os.path.join(directory, "nginx.conf")
    with open(conf, "w") as f:
        f.write(NGINX_CONF.format(dir=directory, port=port, modules=NGINX_MODULES, workers=workers))
    return [nginx_program(), "-c", conf, "-p", directory]


def node_command(port, _directory):
    return ["node", f"{PEERS}/node_hello.js", str(port)] if shutil.which("node") else None


def go_command(port, directory):
    if not shutil.which("go"):
        return None
    binary = f"{directory}/hello_go"
    if not os.path.exists(binary):
        subprocess.run(["go", "build", "-o", binary, f"{PEERS}/hello.go"], check=True,
                       env=dict(os.environ, GOFLAGS="-mod=mod", GO111MODULE="off"))
    return [binary, str(port)]
