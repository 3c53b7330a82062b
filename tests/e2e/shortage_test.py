"""The programs where the system gives them little: they say what is missing and end with 1, or do what they can."""
import os
import resource
import shutil
import subprocess
import tempfile

from support import EVLUA, EVLUASERVER, LIMIT, THREAD_SANITIZER, check, main

NOBODY = 65534
FOLDER = tempfile.mkdtemp()
os.chmod(FOLDER, 0o755)  # for nobody
APP = os.path.join(FOLDER, "app.lua")
with open(APP, "w") as f:
    f.write("return function(req, res) res:text('hello') end")
# The build may lie where nobody may not look.
SCRIPT = (shutil.copy(EVLUA, FOLDER), "-e", "print 'ran'")
SERVER = (shutil.copy(EVLUASERVER, FOLDER), APP, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")


def outcome(command, setup):
    """Its exit code, and what it said. `setup` is called in front of it. A server is ended when it serves."""
    # LeakSanitizer would start a thread.
    environment = dict(os.environ, ASAN_OPTIONS=os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=setup,
                          env=environment) as process:
        said = ""
        for line in process.stdout:
            said += line
            if "listening on" in line:
                process.terminate()
        return process.wait(LIMIT), said


def tasks_of(user):
    """How many threads it has: what RLIMIT_NPROC counts."""
    count = 0
    for name in os.listdir("/proc"):
        try:
            if name.isdigit() and os.stat("/proc/" + name).st_uid == user:
                count += len(os.listdir(f"/proc/{name}/task"))
        except OSError:
            pass  # it has ended
    return count


def test_threads():
    if THREAD_SANITIZER:
        return  # it starts one itself
    root = os.geteuid() == 0
    others = tasks_of(NOBODY if root else os.getuid())

    def allow(count):
        if root:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        resource.setrlimit(resource.RLIMIT_NPROC, (count, count))

    for command in (SCRIPT, SERVER):
        for count in (1, *range(others + 1, others + 12)):
            code, said = outcome((*command, "--workers", "3"), lambda count=count: allow(count))
            if count == 1 or code != 0:
                check(code == 1 and "no thread can be started: raise" in said, command, count, code, said)


def test_as_many_descriptors_as_are_allowed():
    script = os.path.join(FOLDER, "limits.lua")
    with open(script, "w") as f:
        f.write("""
local process = require "evlua.process"
print(io.open("/proc/self/limits"):read("a"):match("Max open files%s+(%d+%s+%d+)"))
local ask = "echo $(ulimit -Sn) $(ulimit -Hn)"
os.execute(ask)
print(io.popen(ask):read("l"))
print(process.run{"sh", "-c", ask}.stdout)
setmetatable({}, {__gc = function() os.execute(ask) end})  -- where it cannot wait
collectgarbage()
""")
    for soft, hard in ((100, 200), (200, 200)):
        code, said = outcome((EVLUA, "--workers", "2", script),
                             lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard)))
        lines = sorted(" ".join(line.split()) for line in said.splitlines() if line)
        check(code == 0 and lines == sorted([f"{hard} {hard}"] + [f"{soft} {hard}"] * 4), said)


def test_descriptors():
    if "address" in os.environ.get("EVLUA_SANITIZE", ""):
        return  # UBSan looks at memory through a pipe
    for command in (SCRIPT, SERVER):
        for workers in ("1", "4"):
            for count in range(8, 48):
                code, said = outcome((*command, "--workers", workers),
                                     lambda count=count: resource.setrlimit(resource.RLIMIT_NOFILE, (count, count)))
                words = f"cannot start: too few open files allowed: ulimit -n is {count}, raise it\n"
                told = code == 1 and said.endswith(words)
                served = code == 0 and ("ran\n" in said or "listening on" in said)
                check(told if count == 8 else told or served, command, workers, count, code, said)
            check(served, "it does not need more than this", command, workers, count, said)


try:
    main(globals())
finally:
    shutil.rmtree(FOLDER)
