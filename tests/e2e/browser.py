"""Headless Chromium, driven through its DevTools protocol over a pair of pipes."""
import base64
import fcntl
import json
import os
import select
import shutil
import struct
import subprocess
import tempfile
import time
import zlib

from support import LIMIT, check

CHROMIUM = shutil.which("chromium") or "chromium"


def _unfiltered(kind, row, above, channels):
    for i, byte in enumerate(row):
        left, corner = (row[i - channels], above[i - channels]) if i >= channels else (0, 0)
        up, guess = above[i], 0
        if kind == 1:
            guess = left
        elif kind == 2:
            guess = up
        elif kind == 3:
            guess = (left + up) // 2
        elif kind == 4:
            near = left + up - corner
            guess = min((left, up, corner), key=lambda value: abs(near - value))
        row[i] = (byte + guess) & 255
    return row


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

    def screenshot(self):
        """What is seen, as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def picture(self):
        """What is seen: rows of pixels, of three bytes each (PNG, 4.1.1, 6 and 7)."""
        data = self.screenshot()
        at, header, packed = 8, None, b""
        while at < len(data):
            size, kind = struct.unpack(">I4s", data[at:at + 8])
            body = data[at + 8:at + 8 + size]
            header, packed = (body if kind == b"IHDR" else header), packed + (body if kind == b"IDAT" else b"")
            at += size + 12
        width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
        check(depth == 8 and colour in (2, 6) and not interlaced, header)
        channels = 3 if colour == 2 else 4
        raw, rows, above = zlib.decompress(packed), [], bytes(width * channels)
        for y in range(height):
            at = y * (width * channels + 1)
            above = _unfiltered(raw[at], bytearray(raw[at + 1:at + 1 + width * channels]), above, channels)
            rows.append([bytes(above[x:x + 3]) for x in range(0, len(above), channels)])
        return rows

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.to)
        os.close(self.source)
        self.browser.terminate()
        self.browser.wait(LIMIT)
        self.log.close()
        shutil.rmtree(self.profile, ignore_errors=True)
