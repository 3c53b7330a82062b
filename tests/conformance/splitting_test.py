"""Response splitting: whatever bytes a handler puts into a header name, a value, a reason, a cookie, a redirect or the
name of a download, an answer has exactly the header lines that were meant, or the handler gets an error."""
import os
import pathlib
import re
import socket
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))
from support import LIMIT, check, main, serve, temporary  # noqa: E402

APP = temporary("""
local acts = {
  name = function(res, text) res:header(text, "v"):text("fine") end,
  value = function(res, text) res:header("X-Test", text):text("fine") end,
  add_name = function(res, text) res:add_header(text, "v"):text("fine") end,
  add_value = function(res, text) res:add_header("X-Test", text):text("fine") end,
  reason = function(res, text) res:status(200, text):text("fine") end,
  stream_value = function(res, text) res:header("X-Test", text) res:write("fine") end,
  type = function(res, text) res:header("Content-Type", text):text("fine") end,
  cookie_name = function(res, text) res:cookie(text, "v"):text("fine") end,
  cookie_value = function(res, text) res:cookie("c", text):text("fine") end,
  cookie_path = function(res, text) res:cookie("c", "v", {path = text}):text("fine") end,
  cookie_domain = function(res, text) res:cookie("c", "v", {domain = text}):text("fine") end,
  redirect = function(res, text) res:redirect(text) end,
  download = function(res, text) assert(res:file("FILE", {download = text})) end,
}
return function(req, res)
  local kind, hex = req.path:match("^/([%a_]+)/(%x+)$")
  local text = hex:gsub("%x%x", function(digits) return string.char(tonumber(digits, 16)) end)
  local ok = pcall(acts[kind], res, text)
  if not ok then res:status(500, "Refused"):text("refused") end
end
""".replace("FILE", __file__))

TOKEN = set(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
TEXT = set(range(0x20, 0x7f)) | {9} | set(range(0x80, 0x100))
COOKIE = set(range(0x21, 0x7f)) - set(b'",;\\')
ATTRIBUTE = set(range(0x20, 0x7f)) - set(b";")
# What each kind takes; None: everything, encoded.
KINDS = {"name": TOKEN, "value": TEXT, "add_name": TOKEN, "add_value": TEXT, "reason": TEXT, "stream_value": TEXT,
         "type": TEXT, "cookie_name": TOKEN, "cookie_value": COOKIE, "cookie_path": ATTRIBUTE,
         "cookie_domain": ATTRIBUTE, "redirect": TEXT, "download": None}
OURS = {b"server", b"date", b"content-length", b"content-type", b"transfer-encoding", b"set-cookie", b"location",
        b"x-test", b"content-disposition", b"etag", b"last-modified", b"accept-ranges", b"cache-control", b"vary"}
LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ([\t\x20-\x7e\x80-\xff]*)")


def texts():
    """Every byte at the start, in the middle and at the end of a text, and what one would send to split a response."""
    for value in range(256):
        byte = bytes([value])
        for text in (byte + b"ab", b"a" + byte + b"b", b"ab" + byte, b"a" + byte + b"evil:1"):
            yield text
    for text in (b"a\r\nevil: 1", b"a\r\n\r\nHTTP/1.1 200 OK\r\nevil: 1\r\n\r\n", b"\r\nevil: 1", b"a\nevil: 1",
                 b"a\revil: 1", b"a\0\r\nevil: 1", b"a\r\n evil: 1", "a\u560d\u560aevil: 1".encode(), b"a\xc4\x8a"):
        yield text


def answers(port, kind, all_texts):
    """One connection, all requests at once; the answers' heads."""
    requests = b"".join(b"GET /%b/%b HTTP/1.1\r\nHost: a\r\n\r\n" % (kind.encode(), text.hex().encode())
                        for text in all_texts)
    with socket.create_connection(("127.0.0.1", port), LIMIT) as s:
        stream = s.makefile("rb")
        s.sendall(requests)
        for _ in all_texts:
            head = []
            while (line := stream.readline()) != b"\r\n":
                check(line.endswith(b"\r\n") and line.count(b"\r") == 1, kind, "a line is split:", head, line)
                head.append(line[:-2])
            fields = [LINE.fullmatch(line) for line in head[1:]]
            check(all(fields), kind, "no field lines:", head)
            size = [int(field[2]) for field in fields if field[1].lower() == b"content-length"]
            if size:
                stream.read(size[0])
            else:
                while int(stream.readline(), 16) != 0:
                    stream.readline()
                stream.readline()
            yield head[0], [(field[1], field[2]) for field in fields]


def test_no_answer_is_split():
    program, port = serve(APP, "--workers", "1")
    with program:
        for kind, good in KINDS.items():
            all_texts = list(texts())
            for start in range(0, len(all_texts), 100):
                part = all_texts[start:start + 100]
                for text, (status, fields) in zip(part, answers(port, kind, part)):
                    sendable = good is None or set(text) <= good
                    about = (kind, text, "-", status, fields)
                    check(status.startswith(b"HTTP/1.1 500 Refused" if not sendable else b"HTTP/1.1 "), *about)
                    check(sendable == (b" 500 " not in status), *about)
                    extra = [name for name, _ in fields if name.lower() not in OURS]
                    check(extra == ([text] if sendable and kind in ("name", "add_name") else []), *about)
                    check(len(fields) == len({name.lower() for name, _ in fields}), *about)
                    if sendable and kind in ("value", "add_value", "stream_value"):
                        check((b"X-Test", text) in fields, *about)
                    if sendable and kind == "reason":
                        check(status == b"HTTP/1.1 200 " + text, *about)
        check(program.stop() == 0, program.text)


try:
    main(globals())
finally:
    os.unlink(APP)
