"""What the programs cost as processes: memory per wait, start, idleness, a task. Part of e2e.py."""
import os
import resource
import socket
import statistics
import subprocess
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
PEERS = os.path.join(HERE, "peers")
BACKENDS = ("io_uring", "libev")
PIN = ["taskset", "-c", "0"]
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def connections_of_a_process():
    """How many it may have, beside what else it opens."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard - 200


def connections_max():
    """20,000, or what this process may open if that is less."""
    return min(20000, connections_of_a_process())


def environment(backend):
    return dict(os.environ, EVLUA_BACKEND=backend)


def wait_for(path_or_port, process):
    unix = isinstance(path_or_port, str)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.poll() is None:
        try:
            connection = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
            connection.connect(path_or_port if unix else ("127.0.0.1", path_or_port))
            return connection
        except OSError:
            connection.close()
            time.sleep(0.02)
    raise SystemExit("the server did not start")


def resident(pid):
    with open(f"/proc/{pid}/status") as status:
        for line in status:
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    raise SystemExit("the server has ended")


def parked_coroutines(options, results):
    count = connections_max()
    for backend in BACKENDS:
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "socket")
            command = [os.path.join(options.build, "evlua"), "--workers", "1", f"{PEERS}/parked.lua", str(count), path]
            process = subprocess.Popen(command, env=environment(backend), stdout=subprocess.PIPE, text=True)
            peers = [wait_for(path, process)]
            while len(peers) < count:
                peers.append(socket.socket(socket.AF_UNIX))
                peers[-1].connect(path)
            text, _ = process.communicate(timeout=60)
            for peer in peers:
                peer.close()
            each, heap = (round(float(figure)) for figure in text.split())
            results[f"memory, {count} coroutines parked in a read: {backend}"] = {
                "resident_bytes_each": each, "of_which_lua_heap": heap}


def idle_connections(options, results):
    count = connections_max() - 100
    for backend in BACKENDS:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [os.path.join(options.build, "evluaserver"), f"{PEERS}/hello.lua", "--listen", f"127.0.0.1:{port}",
                   "--workers", "1", "--max-connections", str(count + 200), "--max-connections-per-address", "0"]
        process = subprocess.Popen(command, env=environment(backend), stderr=subprocess.DEVNULL)
        wait_for(port, process).close()
        clients = []

        def connect(number):
            for _ in range(number):
                client = socket.create_connection(("127.0.0.1", port))
                client.sendall(REQUEST)
                while b"Hello, World!" not in client.recv(4096):
                    pass
                clients.append(client)

        connect(100)
        before = resident(process.pid)
        connect(count)
        each = (resident(process.pid) - before) / count
        for client in clients:
            client.close()
        process.terminate()
        process.wait(30)
        results[f"memory, {count} idle keep-alive connections: {backend}"] = {"resident_bytes_each": round(each)}


def seconds_of(command, env, runs):
    """Of one run each, as the wall clock has it."""
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        subprocess.run(command, env=env, check=True)
        times.append(time.perf_counter() - began)
    return times


def start(options, results):
    evlua = os.path.join(options.build, "evlua")
    commands = {backend: ([evlua, "-e", ""], environment(backend)) for backend in BACKENDS}
    commands["lua5.3"] = (["lua5.3", "-e", ""], dict(os.environ))
    times = {name: [] for name in commands}
    for _ in range(options.rounds):
        for name, (command, env) in commands.items():
            times[name] += seconds_of(PIN + command, env, 20)
    for name, rows in times.items():
        middle = statistics.median(rows)
        results[f"start and end of an empty script: {name}"] = {"milliseconds": round(middle * 1e3, 2)}


def idleness(options, results):
    """Processor time that a server takes in five seconds in which nothing happens."""
    for backend in BACKENDS:
        command = [os.path.join(options.build, "evluaserver"), f"{PEERS}/hello.lua", "--listen", "127.0.0.1:0"]
        process = subprocess.Popen(command, env=environment(backend), stderr=subprocess.PIPE)
        process.stderr.readline()  # "listening on ..."
        time.sleep(0.5)
        before = processor_nanoseconds(process.pid)
        time.sleep(5)
        spent = processor_nanoseconds(process.pid) - before
        process.terminate()
        process.wait(30)
        results[f"processor time of an idle server in 5 s: {backend}"] = {"microseconds": round(spent / 1e3)}


def processor_nanoseconds(pid):
    total = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/schedstat") as figures:
            total += int(figures.read().split()[0])
    return total


def tasks(options, results):
    for backend in BACKENDS:
        command = PIN + [os.path.join(options.build, "evlua"), "--workers", "1", f"{PEERS}/spawn.lua"]
        rows = []
        for _ in range(options.rounds):
            text = subprocess.run(command, env=environment(backend), check=True, capture_output=True, text=True).stdout
            rows.append([float(figure) for figure in text.split()])
        spawn, switch = (statistics.median(column) for column in zip(*rows))
        results[f"a task from Lua: {backend}"] = {"spawn_and_finish_ns": round(spawn), "yield_ns": round(switch)}


def bench_process(options, results):
    for bench in (tasks, start, idleness, idle_connections, parked_coroutines):
        bench(options, results)
