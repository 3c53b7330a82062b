"""evluaserver as a process: taken over by the next one, started by systemd, unprivileged, configured by a file."""
import grp
import os
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

from support import EVLUASERVER, LIMIT, Program, check, eventually, exchange, main

APP = """
local evlua, fs = require "evlua", require "evlua.fs"
local acts = {
  ["/wait"] = function() io.stderr:write("waiting\\n") evlua.sleep(0.3) end,
  ["/write"] = function(res, query) return select(3, fs.write(query, "x")) end,
  ["/read"] = function(res, query) return select(3, fs.read(query)) end,
  ["/limits"] = function()
    local own = assert(fs.read("/proc/self/limits")):match("Max open files%s+(%d+)")
    return own .. " " .. assert(io.popen("ulimit -Sn")):read()
  end,
}
return {
  start = function() if os.getenv "BROKEN" then error "broken" end end,
  handle = function(req, res)
    local act = acts[req.path]
    res:text(tostring(act and act(res, req.query_string) or "hello"))
  end,
}
"""
FOLDER = tempfile.mkdtemp()


def path(name):
    return os.path.join(FOLDER, name)


def write(name, text):
    with open(path(name), "w") as f:
        f.write(text)
    return path(name)


APP_FILE = write("app.lua", APP)


def content(name):
    try:
        with open(path(name)) as f:
            return f.read()
    except FileNotFoundError:
        return ""


def get(port, target="/"):
    answer = exchange(port, f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    check(answer.startswith(b"HTTP/1.1 200"), answer)
    return answer.split(b"\r\n\r\n", 1)[1].decode()


def get_unix(name):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(LIMIT)
        s.connect(path(name))
        s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = b""
        while got := s.recv(65536):
            answer += got
    return answer


def end(pid):
    """Stops a process that is not our child; it is gone when nobody answers."""
    os.kill(pid, signal.SIGTERM)
    eventually(lambda: not os.path.exists(f"/proc/{pid}"), pid)


def run_with(environment, *options, **more):
    command = [EVLUASERVER, *options]
    own = {name: value for name, value in os.environ.items() if not name.startswith("EVLUASERVER_")}
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False,
                          env={**own, **environment}, **more)


def test_another_process_takes_over_and_no_request_fails():
    with Program(EVLUASERVER, APP_FILE, "--listen", "127.0.0.1:0", "--listen", "unix:" + path("app.sock"),
                 "--workers", "2", "--pid-file", path("pid")) as first:
        port = int(first.word_after("http://127.0.0.1:"))
        eventually(lambda: content("pid").strip() == str(first.process.pid), content("pid"))
        failures, stop, served = [], threading.Event(), []

        def ask():
            with socket.create_connection(("127.0.0.1", port), LIMIT) as connection:
                count = 0
                while not stop.is_set():
                    try:
                        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                        answer = b""
                        while not answer.endswith(b"hello"):
                            got = connection.recv(65536)
                            check(got, "cut", answer)
                            answer += got
                        count += 1
                        if b"Connection: close" in answer:
                            connection.close()
                            connection = socket.create_connection(("127.0.0.1", port), LIMIT)
                    except Exception as error:
                        failures.append(repr(error))
                        return
                served.append(count)
                connection.close()

        clients = [threading.Thread(target=ask, daemon=True) for _ in range(4)]
        for client in clients:
            client.start()
        waited = []
        waiting = threading.Thread(target=lambda: waited.append(get(port, "/wait")))
        waiting.start()
        first.wait_for("waiting")
        pids = [first.process.pid]
        for _ in range(2):
            os.kill(pids[-1], signal.SIGUSR2)
            eventually(lambda: content("pid").strip() not in ("", str(pids[-1])), content("pid"), first.text)
            pids.append(int(content("pid")))
        check(first.process.wait(LIMIT) == 0)
        waiting.join()
        check(waited == ["hello"], waited)
        check(b"hello" in get_unix("app.sock"), "the file of the socket is still there")
        stop.set()
        for client in clients:
            client.join()
        check(not failures and len(served) == 4 and min(served) > 0, failures, served)
        eventually(lambda: not os.path.exists(f"/proc/{pids[1]}"), pids, first.text)
        end(pids[-1])
        check(not os.path.exists(path("app.sock")) and not os.path.exists(path("pid")), os.listdir(FOLDER))


def test_who_takes_over_has_the_limits_of_the_first():
    def setup():
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, 200))

    with Program(EVLUASERVER, APP_FILE, "--listen", "127.0.0.1:0", "--workers", "1", "--pid-file", path("pid"),
                 setup=setup) as first:
        port = int(first.word_after("http://127.0.0.1:"))
        check(get(port, "/limits") == "200 100")
        os.kill(first.process.pid, signal.SIGUSR2)
        check(first.process.wait(LIMIT) == 0)
        check(get(port, "/limits") == "200 100")
        end(int(content("pid")))


def test_signals_end_no_process_that_starts_or_stops():
    app = write("slow.lua", """
local evlua = require "evlua"
local function wait(name)
  local f = assert(io.open(os.getenv "SLOW" .. name, "w")) f:write "begun" f:close()
  for _ = 1, 6000 do
    if io.open(os.getenv "SLOW" .. name .. ".go") then return end
    evlua.sleep(0.01)
  end
end
return {
  start_once = function() wait "start" end,
  stop_once = function() wait "stop" end,
  handle = function(_, res) res:text("hello") end,
}
""")
    signals = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
    with Program(EVLUASERVER, app, "--listen", "127.0.0.1:0", "--workers", "1", "--pid-file", path("slow.pid"),
                 env=dict(os.environ, SLOW=path("slow."))) as first:
        eventually(lambda: content("slow.start") == "begun", first.text)
        for number in signals:
            os.kill(first.process.pid, number)
        write("slow.start.go", "")
        # The new process begins with nothing that its predecessor had waiting.
        first.wait_for("takes over")
        eventually(lambda: content("slow.stop") == "begun", first.text)
        for number in signals:
            os.kill(first.process.pid, number)
        check(first.process.poll() is None, first.text)
        write("slow.stop.go", "")
        check(first.process.wait(LIMIT) == 0, first.text)
        port = int(first.text.split("http://127.0.0.1:", 1)[1].split()[0])
        check(get(port) == "hello")
        end(int(content("slow.pid")))


def test_signals_end_no_process_at_its_very_beginning():
    with Program(EVLUASERVER, APP_FILE, "--listen", "127.0.0.1:0", "--workers", "1",
                 setup=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})) as program:
        os.kill(program.process.pid, signal.SIGHUP)  # in front of main
        program.wait_for("app reloaded")
        check(program.stop() == 0, program.text)


def test_a_process_that_does_not_start_takes_nothing_over():
    broken = write("broken.lua", "return function(_, res) res:text('hello') end")
    with Program(EVLUASERVER, broken, "--listen", "127.0.0.1:0", "--workers", "1") as first:
        port = int(first.word_after("http://127.0.0.1:"))
        for _ in range(2):
            write("broken.lua", "error 'no'")
            first.text = ""
            os.kill(first.process.pid, signal.SIGUSR2)
            first.wait_for("we go on")
            check(get(port) == "hello")
        check(first.stop() == 0, first.text)


def handed(count, environment, *options, listener=None):
    """A program with a listening socket as systemd passes it; LISTEN_PID has to be its own."""
    listener = listener or socket.create_server(("127.0.0.1", 0))
    script = (f'exec 3<&{listener.fileno()}; export LISTEN_FDS={count} LISTEN_PID=$$; exec "$@"')
    command = ["bash", "-c", script, "bash", EVLUASERVER, *options]
    environment = dict(os.environ, **environment)
    process = subprocess.Popen(command, pass_fds=[listener.fileno()], stderr=subprocess.PIPE, env=environment)
    return listener.getsockname(), process, listener


def test_sockets_and_messages_of_systemd():
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.settimeout(LIMIT)
    manager.bind(path("notify.sock"))
    environment = {"NOTIFY_SOCKET": path("notify.sock"), "WATCHDOG_USEC": "200000"}
    (_, port), process, listener = handed(1, environment, APP_FILE, "--workers", "2")
    with listener:
        message = manager.recv(4096)
        check(message == b"READY=1\nMAINPID=%d" % process.pid, message)
        for _ in range(3):
            check(manager.recv(4096) == b"WATCHDOG=1")
        check([get(port) for _ in range(20)] == ["hello"] * 20)
        process.terminate()
        while (message := manager.recv(4096)) == b"WATCHDOG=1":
            pass
        check(message == b"STOPPING=1", message)
        check(process.wait(LIMIT) == 0, process.stderr.read())
        process.stderr.close()
    manager.close()


def test_numbers_of_sockets_that_are_none():
    for count, words in (("x", "is no number of sockets"), ("-1", "is no number of sockets"),
                         ("1x", "is no number of sockets"), ("99999999999999999999", "is no number of sockets"),
                         ("''", "is no number of sockets"), ("9223372036854775807", "descriptor "),
                         ("1000000000", "descriptor ")):
        _, process, listener = handed(count, {}, APP_FILE, "--workers", "1")
        with listener, process.stderr:
            check(process.wait(LIMIT) == 1, count)
            said = process.stderr.read().decode().splitlines()  # what else is open, a log, is no socket
            check(said[-1].startswith("evluaserver: LISTEN_FDS=") and words in said[-1] and len(said) < 20, count, said)


def test_times_of_a_watchdog():
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.settimeout(LIMIT)
    manager.bind(path("watchdog.sock"))
    for time_told, is_told in (("x", True), ("-1", True), ("99999999999999999999", True), ("", True),
                               ("9223372036854775807", False), ("9223372036854776", False), ("0", False)):
        environment = dict(os.environ, NOTIFY_SOCKET=path("watchdog.sock"), WATCHDOG_USEC=time_told)
        with Program(EVLUASERVER, APP_FILE, "--listen", "127.0.0.1:0", "--workers", "1", env=environment) as program:
            check(manager.recv(4096).startswith(b"READY=1"))
            port = int(program.word_after("listening on http://127.0.0.1:"))
            check(get(port) == "hello")
            check(program.stop() == 0, program.text)
            check(manager.recv(4096) == b"STOPPING=1", "nobody is told in between", time_told)
            check(("is no time" in program.text) == is_told, time_told, program.text)
    environment = dict(os.environ, NOTIFY_SOCKET=path("watchdog.sock"), WATCHDOG_USEC="1")
    with Program(EVLUASERVER, APP_FILE, "--listen", "127.0.0.1:0", "--workers", "1", env=environment) as program:
        check(manager.recv(4096).startswith(b"READY=1"))
        began = time.monotonic()
        check({manager.recv(4096) for _ in range(100)} == {b"WATCHDOG=1"})
        check(time.monotonic() - began > 0.08, "it has something else to do", time.monotonic() - began)
        check(program.stop() == 0, program.text)
    manager.close()


def test_privileges_are_dropped():
    if os.geteuid() != 0:
        return
    os.chmod(FOLDER, 0o755)
    secret = write("secret", "s")
    os.chmod(secret, 0o600)
    with Program(EVLUASERVER, APP_FILE, "--listen", "127.0.0.1:0", "--user", "nobody", "--workers", "2") as program:
        port = int(program.word_after("http://127.0.0.1:"))
        with open(f"/proc/{program.process.pid}/status") as f:
            lines = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
        check(set(lines["Uid"].split()) == {"65534"} and "0" not in lines["Groups"].split(), lines)
        check(get(port, "/write?" + path("new")) == "EACCES" and get(port, "/read?" + secret) == "EACCES")
        check([get(port) for _ in range(20)] == ["hello"] * 20)
        check(program.stop() == 0, program.text)
    got = run_with({}, APP_FILE, "--listen", "127.0.0.1:0", "--user", "no-such-user")
    check(got.returncode == 1 and "there is no user 'no-such-user'" in got.stderr, got)


def test_a_unix_socket_is_the_users():
    if os.geteuid() != 0:
        return
    os.chmod(FOLDER, 0o755)
    file = path("user.socket")
    for _ in range(2):  # what the first leaves in root's folder does not keep the second from it
        with Program(EVLUASERVER, APP_FILE, "--listen", "unix:" + file, "--user", "nobody", "--group", "daemon",
                     "--workers", "1") as program:
            program.wait_for("listening on")
            about = os.stat(file)
            check((about.st_uid, about.st_gid) == (65534, grp.getgrnam("daemon").gr_gid), about)
            check(program.stop() == 0, program.text)
    os.unlink(file)


def test_a_unix_socket_of_systemd_stays_whose_it_was():
    if os.geteuid() != 0:
        return
    os.chmod(FOLDER, 0o755)
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.settimeout(LIMIT)
    manager.bind(path("whose.notify"))
    os.chmod(path("whose.notify"), 0o666)
    unix = socket.socket(socket.AF_UNIX)
    unix.bind(path("whose.socket"))
    unix.listen()
    group = grp.getgrnam("daemon").gr_gid  # as SocketGroup=daemon has it
    os.chown(path("whose.socket"), 0, group)
    _, process, _ = handed(1, {"NOTIFY_SOCKET": path("whose.notify")}, APP_FILE, "--listen",
                           "unix:" + path("whose.socket"), "--user", "nobody", "--workers", "1", listener=unix)
    with unix, manager, process.stderr:
        try:
            check(manager.recv(4096).startswith(b"READY=1"))
            about = os.stat(path("whose.socket"))
            check((about.st_uid, about.st_gid) == (0, group), about)
            check(get_unix("whose.socket").endswith(b"hello"))
            process.terminate()
            check(process.wait(LIMIT) == 0, process.stderr.read())
        finally:
            process.kill()


def for_nobody():
    """The program, where nobody may look: the build may lie where only root may."""
    os.chmod(FOLDER, 0o755)
    return shutil.copy(EVLUASERVER, path("evluaserver"))


def test_a_group_is_not_forgotten():
    if os.geteuid() != 0:
        return
    for options, setup in ((("--user", "root", "--group", "daemon"), None),
                           (("--user", "nobody", "--group", "daemon"), lambda: os.setuid(65534))):
        with Program(for_nobody(), APP_FILE, "--listen", "127.0.0.1:0", "--workers", "1", *options,
                     setup=setup) as program:
            if setup:  # it may not
                program.wait_for("cannot become user 'nobody'")
                check(program.process.wait(LIMIT) == 1, program.text)
                continue
            program.wait_for("listening on")
            with open(f"/proc/{program.process.pid}/status") as f:
                check(f"Gid:\t{grp.getgrnam('daemon').gr_gid}\t" in f.read())
            check(program.stop() == 0, program.text)


def test_who_is_the_user_already_keeps_the_group():
    if os.geteuid() != 0:
        return
    group = grp.getgrnam("daemon").gr_gid

    def become():  # as a unit has it with User= and Group=
        os.setgroups([])
        os.setgid(group)
        os.setuid(65534)

    with Program(for_nobody(), APP_FILE, "--listen", "127.0.0.1:0", "--workers", "1", "--user", "nobody",
                 setup=become) as program:
        program.wait_for("listening on")
        with open(f"/proc/{program.process.pid}/status") as f:
            check(f"Gid:\t{group}\t" in f.read())
        check(program.stop() == 0, program.text)


def free_port_below_1024():
    for port in range(1000, 600, -1):
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise AssertionError("no port below 1024 is free")


def test_ports_that_need_privileges():
    if os.geteuid() != 0:
        return
    os.chmod(FOLDER, 0o755)
    admin = free_port_below_1024()
    with Program(EVLUASERVER, APP_FILE, "--listen", "127.0.0.1:0", "--admin", f"127.0.0.1:{admin}", "--user", "nobody",
                 "--workers", "1") as program:
        port = int(program.word_after("listening on http://127.0.0.1:"))
        with open(f"/proc/{program.process.pid}/status") as f:
            check("Uid:\t65534" in f.read())
        check(get(port) == "hello" and get(admin, "/healthz") == "serving\n")
        got = run_with({}, APP_FILE, "--listen", "127.0.0.1:0", "--admin", f"127.0.0.1:{admin}", "--user", "nobody",
                       "--workers", "1")
        check(got.returncode == 1 and "cannot listen on --admin" in got.stderr, got)
        check(program.stop() == 0, program.text)


def test_an_unprivileged_user_rotates_logs_and_hands_over():
    if os.geteuid() != 0:
        return
    os.chmod(FOLDER, 0o755)
    folder = path("unprivileged")
    os.mkdir(folder)
    # Logs are in a folder of the user's, as rotation needs it; one is there already, root's. The pid file is in root's.
    shutil.chown(folder, "nobody")
    old = write("unprivileged/e.log", "")
    os.chmod(old, 0o640)
    other = write("others", "x")
    os.symlink(other, path("unprivileged/link"))
    options = ["--error-log", old, "--access-log", path("unprivileged/a.log"), "--pid-file", path("user.pid")]
    with Program(for_nobody(), APP_FILE, "--listen", "127.0.0.1:0", "--workers", "1", "--user", "nobody",
                 *options) as first:
        eventually(lambda: "listening on" in content("unprivileged/e.log"), first.text)
        port = int(content("unprivileged/e.log").split("http://127.0.0.1:", 1)[1].split()[0])
        check(content("user.pid") == f"{first.process.pid}\n", content("user.pid"))
        check({os.stat(path("unprivileged/" + name)).st_uid for name in ("e.log", "a.log")} == {65534})
        for name in ("e.log", "a.log"):
            os.rename(path("unprivileged/" + name), path(f"unprivileged/{name}.1"))
        os.kill(first.process.pid, signal.SIGUSR1)
        eventually(lambda: os.path.exists(path("unprivileged/a.log")), content("unprivileged/e.log.1"))
        check(get(port, "/rotated") == "hello")
        eventually(lambda: "/rotated" in content("unprivileged/a.log"))
        os.kill(first.process.pid, signal.SIGUSR2)
        eventually(lambda: content("user.pid").split() not in ([], [str(first.process.pid)]),
                   content("unprivileged/e.log"))
        check(first.process.wait(LIMIT) == 0, content("unprivileged/e.log"))
        check(get(port) == "hello")
        end(int(content("user.pid")))
        check(content("user.pid") == "", "emptied, since root's folder keeps it")
    with Program(EVLUASERVER, APP_FILE, "--listen", "127.0.0.1:0", "--workers", "1", "--user", "nobody",
                 "--access-log", path("unprivileged/link")) as program:
        program.wait_for("listening on")
        check(program.stop() == 0, program.text)
    check(os.stat(other).st_uid == 0, "what a link leads to is not given away")


def test_configuration():
    config = write("server.toml", f'app = "{APP_FILE}"\nlisten = ["127.0.0.1:0"]\nworkers = 1\nmax-body = 1000\n'
                   'no-http2 = true\n')
    got = run_with({"EVLUASERVER_MAX_BODY": "2000", "EVLUASERVER_VMS": "2"}, "--config", config, "--vms", "3",
                   "--print-config")
    for line in ("max-body = 2000", "vms = 3", "workers = 1", "no-http2 = true", 'listen = ["127.0.0.1:0"]',
                 "#grace = 30", "#dev = false", '#user = ""', "#static = []"):
        check(got.returncode == 0 and line in got.stdout.splitlines(), line, got)
    printed = write("printed.toml", got.stdout)
    again = run_with({}, "--config", printed, "--print-config")
    check(again.stdout == got.stdout, again)
    with Program(EVLUASERVER, "--config", config) as program:
        check(get(int(program.word_after("http://127.0.0.1:"))) == "hello")
        check(program.stop() == 0, program.text)
    for text, words in (("max-bodies = 1\n", "max-bodies"), ("workers = 0\n", "workers")):
        got = run_with({}, APP_FILE, "--config", write("wrong.toml", text))
        check(got.returncode == 2 and words in got.stderr, got)
    got = run_with({"EVLUASERVER_WORKERS": "many"}, APP_FILE)
    check(got.returncode == 2 and "workers" in got.stderr, got)
    for unreadable, words in ((path("none.toml"), "no such file"), (FOLDER, "is a directory")):
        got = run_with({}, APP_FILE, "--config", unreadable)
        check(got.returncode == 2 and unreadable in got.stderr and words in got.stderr.lower(), got)


def test_what_is_nearer_says_where_to_listen():
    config = write("listen.toml", 'listen = ["127.0.0.1:1"]\nhost = "::1"\n')
    got = run_with({}, "--config", config, "--print-config")
    check(got.returncode == 2 and "xclude" in got.stderr, got)
    config = write("listen.toml", 'listen = ["127.0.0.1:1"]\n')
    lines = printed({"EVLUASERVER_PORT": "2"}, "--config", config)
    check("port = 2" in lines and not any(line.startswith("listen") for line in lines), lines)
    lines = printed({"EVLUASERVER_LISTEN": "127.0.0.1:3"}, "--config", config, "--port", "2")
    check("port = 2" in lines and not any(line.startswith("listen") for line in lines), lines)
    lines = printed({"EVLUASERVER_HOST": "::1"}, "--listen", "127.0.0.1:4")
    check('listen = ["127.0.0.1:4"]' in lines and not any(line.startswith("host") for line in lines), lines)
    lines = printed({"EVLUASERVER_HOST": "::1"}, "--port", "5")
    check('host = "::1"' in lines and "port = 5" in lines, lines)
    for environment, options in (({}, ("--listen", "127.0.0.1:1", "--port", "2")),
                                 ({"EVLUASERVER_LISTEN": "127.0.0.1:1", "EVLUASERVER_PORT": "2"}, ())):
        got = run_with(environment, APP_FILE, *options)
        check(got.returncode == 2 and "xclude" in got.stderr, got)


def printed(environment, *options):
    """The options that are set, by --print-config; the same come of what it prints."""
    got = run_with(environment, *options, "--print-config")
    check(got.returncode == 0, got)
    again = run_with({}, "--config", write("round.toml", got.stdout), "--print-config")
    check(again.stdout == got.stdout, again, got)
    return [line for line in got.stdout.splitlines() if not line.startswith("#")]


def test_what_is_printed_can_be_read():
    check(printed({}) == [])
    with Program(EVLUASERVER, "--config", path("round.toml"), APP_FILE, "--listen", "127.0.0.1:0") as program:
        program.wait_for("listening on")
        check(program.stop() == 0, program.text)
    odd = 'a # "b" \\ c\td = [e]'
    lines = printed({}, odd, "--static-cache", odd, "--static", "/a#b", "--static", "/c", "--dev", "--grace", "1e3")
    quoted = '"a # \\"b\\" \\\\ c\\u0009d = [e]"'
    check(sorted(lines) == sorted([f"app = {quoted}", f"static-cache = {quoted}", 'static = ["/a#b", "/c"]',
                                   "dev = true", "grace = 1000"]), lines)


def test_all_that_is_printed_can_be_set():
    """What stands there as a comment is what counts, and no other."""
    for options in ([], ["--max-body-memory", "4000"], ["--workers", "2", "--static", FOLDER]):
        got = run_with({}, APP_FILE, *options, "--print-config")
        lines = [line.removeprefix("#") for line in got.stdout.splitlines()
                 if not line.startswith(("#host = ", "#port = "))]  # listen excludes them
        check(got.returncode == 0 and len(lines) > 50 and not any(line.endswith("= ") for line in lines), got)
        again = run_with({}, "--config", write("all.toml", "\n".join(lines) + "\n"), "--print-config")
        check(again.returncode == 0, again)
        check([line.removeprefix("#") for line in again.stdout.splitlines()
               if not line.startswith(("#host = ", "#port = "))] == lines, again.stdout, got.stdout)
        left = {line for line in again.stdout.splitlines() if line.startswith("#") and not line.endswith(" = []")}
        check(left == {'#host = "127.0.0.1"', "#port = 8080"}, left)
        check("max-body-memory-per-address = 1000" in lines or "--max-body-memory" not in options, lines)
        check(f"workers = {2 if '--workers' in options else len(os.sched_getaffinity(0))}" in lines, lines)
        lines = [line for line in lines if not line.startswith("listen = ")] + ['listen = ["127.0.0.1:0"]']
        with Program(EVLUASERVER, "--config", write("all.toml", "\n".join(lines) + "\n")) as program:
            check(get(int(program.word_after("http://127.0.0.1:"))) == "hello")
            check(program.stop() == 0, program.text)


def test_the_environment():
    config = write("server.toml", 'app = "b.lua"\nlisten = ["unix:/x"]\ndev = true\n')
    environment = {"EVLUASERVER_CONFIG": config, "EVLUASERVER_APP": "a.lua", "EVLUASERVER_DEV": "false",
                   "EVLUASERVER_LISTEN": "127.0.0.1:1,[::1]:2\nunix:/y", "EVLUASERVER_STATIC": "/a,b\n/c"}
    check(sorted(printed(environment)) == ['app = "a.lua"', "dev = false",
                                           'listen = ["127.0.0.1:1", "[::1]:2", "unix:/y"]',
                                           'static = ["/a,b", "/c"]'], printed(environment))
    check('app = "c.lua"' in printed(environment, "c.lua"), "the command line counts most")
    for name, value in (("EVLUASERVER_MAX_BODDY", "1"), ("EVLUASERVER_CHECK", "1"), ("EVLUASERVER_DEV", "perhaps")):
        got = run_with({name: value}, APP_FILE, "--check")
        check(got.returncode == 2 and name in got.stderr, got)
    check(run_with({"EVLUASERVER_MAX_BODDY": ""}, APP_FILE, "--check").returncode == 0)


def test_files_are_toml():
    text = """\ufeff# a comment
app = "a\\"b\\t\\u0041 # no comment" # one
listen = [
  "127.0.0.1:0", # two
  'unix:/a\\b',
]
max-body = 1_000
max-uri = 0x1000
grace = 2.5
user = 'a'
watch = true
"""
    got = printed({}, "--config", write("whole.toml", text))
    check(sorted(got) == sorted(['app = "a\\"b\\u0009A # no comment"', 'listen = ["127.0.0.1:0", "unix:/a\\\\b"]',
                                 "max-body = 1000", "max-uri = 4096", "grace = 2.5", 'user = "a"', "watch = true"]),
          got)
    for text, words in (("max-body =\n", ":1: "), ("a\nb", ":1: "), ("max-body = true", "max-body is no boolean"),
                        ("dev = 1", "dev is true or false"), ("app = 5", "app takes a string"),
                        ('app = ["a", "b"]', "app takes no list"), ("[app]\n", "'app' has a value that no option"),
                        ("listen = [[]]", "'listen' has a value"), ("check = true", "'check' is no option"),
                        ("\n\nmax-bodies = 1", ":3: 'max-bodies' is no option"), ("grace = nan", "--grace: 'nan' is"),
                        ("vms = 1\nvms = 2", ":2: ")):
        got = run_with({}, APP_FILE, "--config", write("wrong.toml", text), "--print-config")
        check(got.returncode == 2 and "wrong.toml" in got.stderr and words in got.stderr, text, got)


def test_empty_values_take_nothing_else():
    app = write("victim.lua", APP)
    got = run_with({"EVLUASERVER_ACCESS_LOG": "", "EVLUASERVER_USER": ""}, "--check", app)
    check(got.returncode == 0 and "victim.lua is good" in got.stderr, got)
    got = run_with({}, "--access-log=", app, "--static", FOLDER, "--check")
    check(got.returncode == 2 and "--access-log= has no value" in got.stderr, got)
    check(content("victim.lua") == APP)


def test_numbers_that_are_none():
    whole = ("max-body", "max-body-memory", "max-connections", "max-requests", "min-rate", "vm-memory", "max-queue",
             "max-encoders", "workers", "port")
    seconds = ("keep-alive", "grace", "request-timeout", "cpu-limit", "queue-target", "slow-request")
    cases = [(name, value) for name in whole for value in ("-1", "99999999999999999999", "1x", "0x10", "+1", "nan")]
    cases += [(name, value) for name in seconds for value in ("-1", "nan", "inf", "1e400", "1s")]
    for name, value in [*cases, ("max-queue", "0"), ("port", "65536"), ("slow-request", "0")]:
        got = run_with({}, APP_FILE, f"--{name}={value}", "--print-config")
        check(got.returncode == 2 and f"--{name}: '{value}' is" in got.stderr and len(got.stderr) < 200, got)
    got = run_with({"EVLUASERVER_GRACE": "nan"}, APP_FILE, "--print-config")
    check(got.returncode == 2 and "--grace: 'nan' is" in got.stderr, got)
    got = run_with({}, APP_FILE, "--config", write("wrong.toml", "max-body = -5\n"), "--print-config")
    check(got.returncode == 2 and "--max-body: '-5' is" in got.stderr, got)
    got = run_with({}, APP_FILE, "--max-body", "010", "--grace", "0.5", "--print-config")
    check(got.returncode == 0 and "\nmax-body = 10\n" in got.stdout and "\ngrace = 0.5\n" in got.stdout, got)


def test_text_that_no_header_can_have():
    words = "static-cache: a line break, or another control character"
    for code in (*range(1, 32), 127):
        got = run_with({}, APP_FILE, "--static", FOLDER, "--static-cache", f"max-age=1{chr(code)}x: y", "--check")
        if code == 9:
            check(got.returncode == 0, got)
        else:
            check(got.returncode == 2 and "--" + words in got.stderr, got)
    got = run_with({"EVLUASERVER_STATIC_CACHE": "a\rb"}, APP_FILE, "--check")
    check(got.returncode == 2 and words in got.stderr and "EVLUASERVER_STATIC_CACHE" in got.stderr, got)
    got = run_with({}, APP_FILE, "--config", write("wrong.toml", 'static-cache = "a\\u0000b"\n'), "--check")
    check(got.returncode == 2 and words in got.stderr and "wrong.toml:1" in got.stderr, got)


def test_checking():
    for arguments in (["--check", APP_FILE], ["check", APP_FILE], ["-t", APP_FILE]):
        got = run_with({"BROKEN": "1"}, *arguments)  # nothing is started
        check(got.returncode == 0 and "is good" in got.stderr, got)
    got = run_with({}, "--check", APP_FILE, "--user", "nobody", "--pid-file", path("checked.pid"))
    check(got.returncode == 0 and not os.path.exists(path("checked.pid")), got)
    wrong = write("wrong.lua", "return 1 +")
    for arguments in ([wrong], [APP_FILE, "--static", path("no-folder")],
                      [APP_FILE, "--tls-cert", wrong, "--tls-key", wrong], [APP_FILE, "--user", "no-such-user"],
                      [APP_FILE, "--user", "nobody", "--group", "no-such-group"], [APP_FILE, "--group", "nogroup"],
                      [APP_FILE, "--pid-file", path("no-folder/pid")], [APP_FILE, "--pid-file", FOLDER],
                      [APP_FILE, "--pid-file", "/dev/null"]):
        got = run_with({}, "check", *arguments)
        check(got.returncode == 1 and "is good" not in got.stderr and got.stderr, got)


try:
    main(globals())
finally:
    shutil.rmtree(FOLDER)
