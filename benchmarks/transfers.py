"""What clients cost in memory: idle ones over TLS, and one that moves 4 GiB. Part of e2e.py."""
import contextlib
import os
import subprocess
import tempfile

from front_servers import evlua, prepare
from load import PIN
from process import BACKENDS, connections_max, resident

SIZE = 4 << 30
IDLE = ["--keep-alive", "3600", "--handshake-timeout", "60", "--max-connections-per-address", "0"]


@contextlib.contextmanager
def idle_clients(options, port, count):
    """They are connected, and each has been answered once."""
    command = [os.path.join(options.build, "tls_idle"), str(port), str(count)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as clients:
        if clients.stdout.readline() != "ready\n":
            raise SystemExit("tls_idle failed")
        yield
        clients.stdin.close()


def idle_tls_connections(options, results):
    count = connections_max() - 100
    for backend in BACKENDS:
        with tempfile.TemporaryDirectory() as directory:
            prepare(directory)
            server = evlua(options, backend, IDLE)
            server.start(directory)
            pid = server.process.pid
            try:
                with idle_clients(options, server.tls_port, 50):
                    before = resident(pid)
                    with idle_clients(options, server.tls_port, count):
                        each = (resident(pid) - before) / count
            finally:
                server.stop()
            results[f"memory, {count} idle TLS connections: {backend}"] = {"resident_bytes_each": round(each)}


def peak(pid):
    """The most that was ever resident, since it was last forgotten."""
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))


def forget_peak(pid):
    with open(f"/proc/{pid}/clear_refs", "w") as f:
        f.write("5")


def curl(*arguments, stdin=None):
    command = PIN + ["curl", "-sSfk", "--max-time", "600", *arguments]
    return subprocess.run(command, stdin=stdin, capture_output=True, check=True).stdout.decode()


def upload(url, option):
    with subprocess.Popen(PIN + ["head", "-c", str(SIZE), "/dev/zero"], stdout=subprocess.PIPE) as source:
        return int(curl(option, "-T", "-", f"{url}/count", stdin=source.stdout))


def download(url, option):
    return int(curl(option, "-o", "/dev/null", "-w", "%{size_download}", f"{url}/static/huge.bin"))


def large_bodies(options, results):
    for backend in BACKENDS:
        with tempfile.TemporaryDirectory() as directory:
            prepare(directory)
            with open(f"{directory}/static/huge.bin", "wb") as f:
                f.truncate(SIZE)
            server = evlua(options, backend)
            server.start(directory)
            plain, encrypted = f"http://127.0.0.1:{server.port}", f"https://localhost:{server.tls_port}"
            try:
                for protocol, url, option in (("http/1.1", plain, "--http1.1"), ("https", encrypted, "--http1.1"),
                                              ("http/2", encrypted, "--http2")):
                    for move in (upload, download):
                        forget_peak(server.process.pid)
                        before = resident(server.process.pid)
                        moved = move(url, option)
                        if moved != SIZE:
                            raise SystemExit(f"{move.__name__} over {protocol}: {moved} bytes")
                        grown = peak(server.process.pid) - before
                        results[f"memory while 4 GiB are moved: {move.__name__}, {protocol}, {backend}"] = {
                            "grows_by_kib": grown // 1024}
            finally:
                server.stop()


def bench_transfers(options, results):
    for bench in (idle_tls_connections, large_bodies):
        bench(options, results)
