"""The servers that benchmarks/front.py compares: plain and over TLS, with the same files, page and certificate."""
import os
import random
import shutil
import subprocess

from servers import NGINX_MODULES, PEERS, Server, free_port, nginx_program

COMPRESSION_LEVEL = 5

NGINX_CONF = """
daemon off; worker_processes 1; pid @DIR@/nginx.pid; error_log @DIR@/error.log; @USER@
@MODULES@
events { worker_connections 30000; }
http {
  access_log off; keepalive_requests 1000000000; keepalive_timeout 600s; sendfile on; tcp_nopush on;
  http2_max_requests 1000000000;
  client_body_temp_path @DIR@/b; proxy_temp_path @DIR@/p; fastcgi_temp_path @DIR@/f; uwsgi_temp_path @DIR@/u;
  scgi_temp_path @DIR@/s;
  gzip on; gzip_comp_level @LEVEL@; gzip_min_length 1024;
  init_by_lua_block { local f = io.open('@DIR@/page.html') page = f:read('*a') f:close() }
  server {
    listen 127.0.0.1:@PORT@;
    listen 127.0.0.1:@TLS@ ssl http2;
    ssl_certificate @DIR@/site.pem; ssl_certificate_key @DIR@/site.key; ssl_protocols TLSv1.2 TLSv1.3;
    location / {
      default_type 'text/plain; charset=utf-8';
      content_by_lua_block { ngx.header['Content-Length'] = 13 ngx.print('Hello, World!') }
    }
    location /page { default_type text/html; content_by_lua_block { ngx.print(page) } }
    location /static/ { alias @DIR@/static/; }
  }
}
"""
WORDS = ("evlua serves pages that were made just now and sends them packed if the client likes it so of which many are "
         "short but some have more to say than others").split()


def prepare(directory):
    """Files, page and certificate."""
    os.mkdir(f"{directory}/static")
    for name, size in (("small.bin", 1024), ("large.bin", 1 << 20)):
        with open(f"{directory}/static/{name}", "wb") as f:
            f.write(os.urandom(size))
    chance = random.Random(1)
    page = "<!doctype html><title>ten kibibytes</title>\n"
    while len(page) < 10240:
        page += f"<p id='{chance.randrange(10000)}'>{' '.join(chance.choice(WORDS) for _ in range(12))}</p>\n"
    with open(f"{directory}/page.html", "w") as f:
        f.write(page[:10240])
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-keyout", f"{directory}/site.key", "-out", f"{directory}/site.pem", "-days", "2",
                    "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
                   check=True, capture_output=True)


class FrontServer(Server):
    """Listens on `tls_port` as well."""

    def start(self, directory, cores="0"):
        self.tls_port = free_port()
        self.env["PAGE"] = f"{directory}/page.html"
        return super().start(directory, cores)


def evlua(options, backend, more=()):
    def command(port, directory):
        return [os.path.join(options.build, "evluaserver"), f"{PEERS}/front.lua", "--workers", "1",
                "--listen", f"http://127.0.0.1:{port}", "--listen", f"https://127.0.0.1:{server.tls_port}",
                "--tls-cert", f"{directory}/site.pem", "--tls-key", f"{directory}/site.key",
                "--static", f"{directory}/static=/static", "--compress", str(COMPRESSION_LEVEL), *more]

    server = FrontServer(f"evlua {backend}", command, {"EVLUA_BACKEND": backend})
    return server


def nginx():
    def command(port, directory):
        if nginx_program() is None:
            return None
        text = NGINX_CONF
        for name, value in (("DIR", directory), ("PORT", port), ("TLS", server.tls_port), ("MODULES", NGINX_MODULES),
                            ("LEVEL", COMPRESSION_LEVEL), ("USER", "user root;" if os.geteuid() == 0 else "")):
            text = text.replace(f"@{name}@", str(value))
        with open(f"{directory}/front.conf", "w") as f:
            f.write(text)
        return [nginx_program(), "-c", f"{directory}/front.conf", "-p", directory]

    server = FrontServer("nginx + Lua", command)
    return server


def front_servers(options):
    return [evlua(options, "io_uring"), evlua(options, "libev"), nginx()]
