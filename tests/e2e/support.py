"""What the end-to-end tests share. No sleeps as synchronisation: everything polls with a deadline."""
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

EVLUA = os.environ["EVLUA"]
EVLUASERVER = os.environ["EVLUASERVER"]
SOURCE = os.environ["EVLUA_SOURCE"]
LIMIT = 60
SANITIZED = os.environ.get("EVLUA_SANITIZE", "") not in ("", "OFF")
# It holds signals back, so that no slice of Lua can be ended there: what computes for ever cannot be tested.
THREAD_SANITIZER = "thread" in os.environ.get("EVLUA_SANITIZE", "")


def run(*arguments, stdin=None, env=None, timeout=LIMIT):
    return subprocess.run([EVLUA, *arguments], input=stdin, capture_output=True, text=True, timeout=timeout,
                          env=dict(os.environ, **(env or {})))


def check(condition, *about):
    if not condition:
        raise AssertionError((" ".join(str(a) for a in about) or "check failed")[:3000])


def eventually(condition, *about):
    """Waits for it; what it returns then."""
    deadline = time.monotonic() + LIMIT
    while True:
        got = condition()
        if got:
            return got
        check(time.monotonic() < deadline, "never came true", *about)
        time.sleep(0.005)


class Program:
    """A running program whose standard error (or output) is read line by line, with a deadline."""

    started = []

    def __init__(self, *command, watch="stderr", setup=None, env=None):
        """`setup` runs in the new process, in front of the program."""
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE if watch == "stderr" else subprocess.STDOUT,
            preexec_fn=setup, env=env)
        self.stream = self.process.stderr if watch == "stderr" else self.process.stdout
        self.text = ""
        Program.started.append(self.process)

    def wait_for(self, words):
        deadline = time.monotonic() + LIMIT
        while words not in self.text:
            left = deadline - time.monotonic()
            check(left > 0, f"no {words!r} in time; got {self.text!r}")
            if select.select([self.stream], [], [], left)[0]:
                got = os.read(self.stream.fileno(), 65536).decode(errors="replace")
                check(got, f"ended without {words!r}; got {self.text!r}")
                self.text += got
        return self.text

    def word_after(self, words):
        """The rest of the line behind `words`, once the line is complete."""
        self.wait_for(words)
        while "\n" not in self.text.split(words, 1)[1]:
            self.text += os.read(self.stream.fileno(), 65536).decode(errors="replace")
        return self.text.split(words, 1)[1].split("\n", 1)[0].strip()

    def stop(self, number=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            rest = self.process.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise
        self.text += "".join(part.decode(errors="replace") for part in rest if part)
        return self.process.returncode

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


def end_programs():
    """Those of a test that has failed in front of their end."""
    for process in Program.started:
        if process.poll() is None:
            process.kill()
            process.wait()


def exchange(port, data, shutdown=False):
    """Sends `data`, reads to the end of the connection."""
    with socket.create_connection(("127.0.0.1", port), LIMIT) as s:
        s.sendall(data)
        if shutdown:
            s.shutdown(socket.SHUT_WR)
        answer = b""
        while True:
            got = s.recv(65536)
            if not got:
                return answer
            answer += got


def serve(app, *options, setup=None):
    """evluaserver on a port of the kernel's choice; (program, port)."""
    program = Program(EVLUASERVER, app, "--listen", "127.0.0.1:0", *options, setup=setup)
    port = int(program.word_after("http://127.0.0.1:"))
    return program, port


class App:
    """A folder with an app of these files, and evluaserver that serves its app.lua."""

    def __init__(self, files, *options):
        self.folder = tempfile.mkdtemp()
        for name, text in files.items():
            self.write(name, text)
        os.environ["LUA_PATH"] = self.folder + "/?.lua;;"
        self.program, self.port = serve(self.folder + "/app.lua", *options)

    def write(self, name, text):
        with open(os.path.join(self.folder, name), "w") as f:
            f.write(text)

    def get(self, target="/"):
        answer = exchange(self.port, f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        check(answer.startswith(b"HTTP/1.1 200"), answer)
        return answer.split(b"\r\n\r\n", 1)[1].decode()

    def signal(self, number):
        self.program.process.send_signal(number)

    def __enter__(self):
        self.program.__enter__()
        return self

    def __exit__(self, *error):
        self.program.__exit__(*error)
        shutil.rmtree(self.folder)


def main(scope):
    try:
        for name, test in sorted(scope.items()):
            if name.startswith("test_"):
                print(name, flush=True)
                test()
    finally:
        end_programs()
    sys.exit(0)


def temporary(text, suffix=".lua"):
    handle, path = tempfile.mkstemp(suffix=suffix)
    with os.fdopen(handle, "w") as f:
        f.write(text)
    return path
