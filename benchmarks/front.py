"""The front of a web application: files, TLS, HTTP/2, compression, beside nginx."""
import subprocess
import tempfile

from front_servers import front_servers, prepare
from load import full_handshakes, h2load, wrk
from rounds import in_turn, start_all

GZIP = ["-H", "Accept-Encoding: gzip"]


def cases(build, seconds):
    """Section: path, whether it is over TLS, and the load."""
    def handshakes(url):
        return full_handshakes(build, url.split(":")[2][:-1], seconds)

    return {
        "static file, 1 KiB": ("/static/small.bin", False, lambda url: wrk(url, seconds)),
        "static file, 1 MiB": ("/static/large.bin", False, lambda url: wrk(url, seconds, 16)),
        "gzip of 10 KiB": ("/page", False, lambda url: wrk(url, seconds, 16, GZIP)),
        "https keep-alive": ("/", True, lambda url: wrk(url, seconds)),
        "https static file, 1 MiB": ("/static/large.bin", True, lambda url: wrk(url, seconds, 16)),
        "http/2": ("/", True, lambda url: h2load(url, seconds)),
        "full handshake and a request": ("/", True, handshakes),
    }


def url_of(server, path, encrypted):
    return f"https://localhost:{server.tls_port}{path}" if encrypted else f"http://127.0.0.1:{server.port}{path}"


def check_same(running, path, encrypted):
    """All give the same answer, and pack it if they are asked to."""
    answers = {server.name: subprocess.run(["curl", "-sSfk", "--compressed", url_of(server, path, encrypted)],
                                           capture_output=True, check=True).stdout for server in running}
    if len(set(answers.values())) != 1:
        raise SystemExit(f"different answers for {path}: { {name: answer[:80] for name, answer in answers.items()} }")


def bench_front(options, results):
    with tempfile.TemporaryDirectory() as directory:
        prepare(directory)
        servers = front_servers(options)
        try:
            running = start_all(servers, directory)
            for section, (path, encrypted, load) in cases(options.build, options.seconds).items():
                if options.section and options.section not in section:
                    continue
                check_same(running, path, encrypted)
                in_turn(options, section, running, lambda server: load(url_of(server, path, encrypted)), results)
        finally:
            for server in servers:
                server.stop()
