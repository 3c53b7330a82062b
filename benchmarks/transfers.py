"""What clients cost in memory: idle ones over TLS, and one that moves 4 GiB. Part of e2e.py."""
import os
import socket
import ssl
import subprocess
import tempfile

from front_servers import evlua, prepare
from load import PIN
from process import BACKENDS, REQUEST, connections_max, resident

SIZE = 4 << 30


def ask(client):
    client.sendall(REQUEST)
    while b"Hello, World!" not in client.recv(4096):
        pass


def idle_tls_connections(options, results):
    count = connections_max() - 100
    context = ssl._create_unverified_context()
    for backend in BACKENDS:
        with tempfile.TemporaryDirectory() as directory:
            prepare(directory)
            server = evlua(options, backend)
            server.start(directory)
            clients = []

            def connect(number):
                for made in range(number):
                    plain = socket.create_connection(("127.0.0.1", server.tls_port))
                    clients.append(context.wrap_socket(plain))
                    ask(clients[-1])
                    if made % 2000 == 1999:  # before the server closes those that have been idle for long
                        for client in clients:
                            ask(client)

            try:
                connect(100)
                before = resident(server.process.pid)
                connect(count)
                each = (resident(server.process.pid) - before) / count
            finally:
                for client in clients:
                    client.close()
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
