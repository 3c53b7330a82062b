"""Headless Chromium, driven through its DevTools protocol over a pair of pipes."""
import fcntl
import json
import os
import select
import shutil
import subprocess
import tempfile
import time

from support import LIMIT, check

CHROMIUM = shutil.which("chromium")


class Page:
    """A page that is open; `complaints` are what its console would show in red."""

    def __init__(self, url):
        self.profile = tempfile.mkdtemp()
        theirs_in, self.to = self._pipe(0)
        self.source, theirs_out = self._pipe(1)
        self.log = tempfile.TemporaryFile()
        self.browser = subprocess.Popen(
            [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--ignore-certificate-errors",
             "--remote-debugging-pipe", "--user-data-dir=" + self.profile],
            preexec_fn=lambda: (os.dup2(theirs_in, 3), os.dup2(theirs_out, 4)), close_fds=False,
            stdout=subprocess.DEVNULL, stderr=self.log)
        os.close(theirs_in)
        os.close(theirs_out)
        self.input, self.calls, self.session, self.complaints = b"", 0, None, []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(domain + ".enable")
        self.call("Page.navigate", url=url)

    @staticmethod
    def _pipe(inherited):
        """Numbers out of the way of 3 and 4; the end with that index is for the browser."""
        ends = []
        for index, fd in enumerate(os.pipe()):
            how = fcntl.F_DUPFD if index == inherited else fcntl.F_DUPFD_CLOEXEC
            ends.append(fcntl.fcntl(fd, how, 10))
            os.close(fd)
        return ends

    def _message(self, deadline):
        while b"\0" not in self.input:
            left = deadline - time.monotonic()
            check(left > 0 and select.select([self.source], [], [], left)[0], "the browser says nothing")
            got = os.read(self.source, 65536)
            check(got, "the browser has ended")
            self.input += got
        message, self.input = self.input.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, **parameters):
        self.calls += 1
        message = {"id": self.calls, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + 2 * LIMIT
        while True:
            got = self._message(deadline)
            if got.get("id") == self.calls:
                check("error" not in got, method, got)
                return got["result"]
            if got["method"] in ("Runtime.exceptionThrown", "Network.loadingFailed", "Log.entryAdded"):
                self.complaints.append(got)

    def value(self, expression):
        """Of JavaScript; of a promise, what becomes of it."""
        got = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        check("exceptionDetails" not in got, expression, got)
        return got["result"].get("value")

    def wait_for(self, expression):
        """Until it is true; its value."""
        deadline = time.monotonic() + LIMIT
        while not (value := self.value(expression)):
            check(time.monotonic() < deadline, "never came true:", expression)
            time.sleep(0.1)
        return value

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.to)
        os.close(self.source)
        self.browser.terminate()
        self.browser.wait(LIMIT)
        self.log.close()
        shutil.rmtree(self.profile, ignore_errors=True)
