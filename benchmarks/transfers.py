"""What clients cost in memory: idle ones over TLS, and one that moves 4 GiB. Part of e2e.py."""
import contextlib
import os
import subprocess
import tempfile

from front_servers import evlua, prepare
from load import PIN
from process import BACKENDS, connections_of_a_process, resident

SIZE = 4 << 30
IDLE_CLIENTS = 20000
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


def resident_with(pid, connections):
    open_files = len(os.listdir(f"/proc/{pid}/fd"))
    if open_files < connections:
        raise SystemExit(f"of {connections} connections the server holds {open_files}")
    return resident(pid)


def idle_tls_connections(options, results):
    """With several servers, each with its share, where a process may not open as many files."""
    most = connections_of_a_process() - 100
    count = -(-IDLE_CLIENTS // most)
    share = -(-IDLE_CLIENTS // count)
    for backend in BACKENDS:
        with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as running:
            prepare(directory)
            servers = [evlua(options, backend, IDLE) for _ in range(count)]
            for server in servers:
                running.callback(server.stop)
                server.start(directory)
                running.enter_context(idle_clients(options, server.tls_port, 50))
            before = sum(resident_with(server.process.pid, 50) for server in servers)
            for server in servers:
                running.enter_context(idle_clients(options, server.tls_port, share))
            grown = sum(resident_with(server.process.pid, share + 50) for server in servers) - before
            results[f"memory, {count * share} idle TLS connections: {backend}"] = {
                "servers": count, "resident_bytes_each": round(grown / (count * share))}


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
