"""Compressed responses: curl and Python's decoders, over HTTP/1 and HTTP/2."""
import gzip
import os
import subprocess
import zlib

from support import LIMIT, check, main, serve, temporary

TEXT = "The quick brown fox jumps over the lazy dog. " * 300
APP = temporary("""
local evlua = require "evlua"
local text = ("The quick brown fox jumps over the lazy dog. "):rep(300)
local large = {}
for i = 1, 400000 do large[i] = ("%x,"):format(i * 2654435761 % 4294967296) end
large = table.concat(large)
local ended
return function(req, res)
  local kind = req:query("type")
  if kind then res:header("Content-Type", kind) end
  if req:query("etag") then res:header("ETag", '"abc"') end
  if req:query("off") then res:compress(false) end
  if req:query("coded") then res:header("Content-Encoding", "x-other") end
  if req:query("keep") then res:header("Cache-Control", req:query("keep")) end
  if req:query("keep_too") then res:add_header("Cache-Control", req:query("keep_too")) end
  if req:query("vary") then res:header("Vary", req:query("vary")) end
  if req.path == "/stream" then
    if not kind then res:header("Content-Type", "text/plain") end
    for i = 1, 300 do
      res:write("The quick brown fox jumps over the lazy dog. ")
      if i % 100 == 0 then evlua.sleep(0.001) end
    end
  elseif req.path == "/pieces" then
    res:header("Content-Type", "text/plain")
    res:write("first")
    io.stderr:write("first is out\\n")
    evlua.sleep(tonumber(req:query("wait")))
    res:write("second")
  elseif req.path == "/promised" then
    res:header("Content-Type", "text/plain"):header("Content-Length", tostring(#text)):write(text)
  elseif req.path:find("^/large") then
    ended = false
    io.stderr:write("the large one begins\\n")
    res:header("Content-Type", "text/plain")
    if req.path == "/large" then assert(res:text(large) == res) else assert(res:write(large)) end
    ended = true
  elseif req.path == "/ended" then
    res:text(tostring(ended))
  elseif req.path == "/small" then
    res:text("small")
  else
    res:text(text)
  end
end
""")


def curl(port, target, *options):
    """Status, fields, body as it was sent."""
    got = subprocess.run(["curl", "-sS", "-i", *options, f"http://127.0.0.1:{port}{target}"], capture_output=True,
                         timeout=LIMIT)
    check(got.returncode == 0, got)
    head, body = got.stdout.split(b"\r\n\r\n", 1)
    lines = head.decode().split("\r\n")
    fields = {line.split(": ")[0].lower(): line.split(": ", 1)[1] for line in lines[1:]}
    return int(lines[0].split(" ")[1]), fields, body


def accept(codings):
    return ["-H", f"Accept-Encoding: {codings}"]


def test_codings():
    for level in ("1", "5", "9"):
        program, port = serve(APP, "--compress", level, "--workers", "2")
        with program:
            for protocol in ("--http1.1", "--http1.0", "--http2-prior-knowledge"):
                for target in ("/", "/stream"):
                    _, fields, body = curl(port, target, protocol, *accept("gzip"))
                    check(fields["content-encoding"] == "gzip" and fields["vary"] == "Accept-Encoding", fields)
                    check(gzip.decompress(body).decode() == TEXT and len(body) < 8000, target, len(body))
                    for coding in ("br", "zstd", "gzip"):
                        _, fields, body = curl(port, target, protocol, "--raw" if coding == "zstd" else "--compressed",
                                               *accept(coding))
                        check(fields["content-encoding"] == coding, fields)
                        check(coding == "zstd" or body.decode() == TEXT, coding, protocol)
                        if coding == "zstd" and "transfer-encoding" not in fields:
                            plain = subprocess.run(["zstd", "-dc"], input=body, capture_output=True, check=True).stdout
                            check(plain.decode() == TEXT)
            check(program.stop() == 0, program.text)


def test_when_not():
    program, port = serve(APP, "--compress", "6")
    with program:
        for target, options in (("/", []), ("/", accept("identity")), ("/", accept("gzip;q=0, *;q=0")),
                                ("/", accept("identity;q=1, gzip;q=0.1")), ("/stream", [])):
            _, fields, body = curl(port, target, *options)
            check("content-encoding" not in fields and fields["vary"] == "Accept-Encoding", target, options, fields)
            check(body.decode() == TEXT)
        for target, options in (("/small", accept("gzip")),
                                ("/?type=image/png", accept("gzip")), ("/?off=1", accept("gzip")),
                                ("/?keep=no-transform", accept("gzip")), ("/?keep=a,No-Transform", accept("gzip")),
                                ("/?keep=private&keep_too=no-transform", accept("gzip")),
                                ("/promised", accept("gzip"))):
            _, fields, body = curl(port, target, *options)
            check("content-encoding" not in fields and "vary" not in fields, target, options, fields)
            check(body.decode() in (TEXT, "small"))
        check(curl(port, "/?coded=1", *accept("gzip"))[1]["content-encoding"] == "x-other")
        check(curl(port, "/?keep=x-no-transform-either", *accept("gzip"))[1]["content-encoding"] == "gzip")
        for vary in ("Origin,accept-encoding", "*"):
            got = curl(port, "/?vary=" + vary, *accept("gzip"))[1]
            check(got["content-encoding"] == "gzip" and got["vary"] == vary, got)
        both = curl(port, "/", *accept("br;q=0.5"), *accept("gzip"))[1]
        check(both["content-encoding"] == "gzip", both)
        check(curl(port, "/?etag=1", *accept("gzip"))[1]["etag"] == 'W/"abc"')
        check(curl(port, "/?etag=1")[1]["etag"] == '"abc"')
        check(curl(port, "/", *accept("gzip"), "-I")[1]["content-encoding"] == "gzip")
        check(curl(port, "/stream", *accept("gzip"), "-I")[1]["content-encoding"] == "gzip")
        check(program.stop() == 0, program.text)
    program, port = serve(APP)
    with program:
        check("content-encoding" not in curl(port, "/", *accept("gzip"))[1])
        check(program.stop() == 0, program.text)


def test_large_answers_hold_up_nobody():
    large = ",".join(f"{i * 2654435761 % 4294967296:x}" for i in range(1, 400001)) + ","
    program, port = serve(APP, "--compress", "9", "--workers", "1")
    with program:
        for target in ("/large", "/large_stream"):
            for protocol in ("--http1.1", "--http1.0", "--http2-prior-knowledge"):
                program.text = ""
                command = ["curl", "-sS", protocol, *accept("gzip"), f"http://127.0.0.1:{port}{target}"]
                with subprocess.Popen(command, stdout=subprocess.PIPE) as reader:
                    program.wait_for("the large one begins")
                    check(curl(port, "/ended")[2] == b"false", "others wait for the compressor")
                    check(gzip.decompress(reader.stdout.read()).decode() == large and reader.wait(LIMIT) == 0)
        _, fields, body = curl(port, "/large", *accept("gzip"))
        check(fields["content-encoding"] == "gzip" and int(fields["content-length"]) == len(body), fields)
        check(curl(port, "/large", "-I", *accept("gzip"))[1] | {"date": fields["date"]} == fields)
        _, fields, body = curl(port, "/large")
        check("content-encoding" not in fields and body.decode() == large, fields)
        check(program.stop() == 0, program.text)


def test_a_stream_is_not_held_back():
    program, port = serve(APP, "--compress", "6")
    with program:
        reader = subprocess.Popen(["curl", "-sSN", *accept("gzip"), f"http://127.0.0.1:{port}/pieces?wait=0.5"],
                                  stdout=subprocess.PIPE)
        unpack, seen = zlib.decompressobj(31), b""
        while seen != b"first":
            got = os.read(reader.stdout.fileno(), 65536)
            check(got, "ended early", seen)
            seen += unpack.decompress(got)
        seen += unpack.decompress(reader.stdout.read())
        check(seen == b"firstsecond" and unpack.eof and reader.wait(LIMIT) == 0, seen)
        check(program.stop() == 0, program.text)


try:
    main(globals())
finally:
    os.remove(APP)
