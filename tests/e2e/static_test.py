"""Files served by evluaserver: --static and res:file, over every protocol, against curl."""
import email.utils
import gzip
import hashlib
import os
import shutil
import socket
import subprocess
import tempfile
import time

from support import EVLUASERVER, LIMIT, Program, check, exchange, main, temporary

ROOT = tempfile.mkdtemp()
APP = temporary("""
return function(req, res)
  local name = req:query("file")
  if name then
    if req:query("length") then res:header("Content-Length", req:query("length")) end
    if req:query("status") then res:status(tonumber(req:query("status"))) end
    local ok, message, code = res:file(name, {
      root = req:query("anywhere") == nil and "%s" or nil, type = req:query("type"), cache = "no-cache",
      download = req:query("as") or req:query("download") ~= nil,
    })
    if not ok then return res:status(404):text(code .. " " .. message) end
    return
  end
  res:status(404):text("the app was asked: " .. req.method .. " " .. req.path)
end
""" % ROOT)


def put(name, content):
    path = os.path.join(ROOT, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(content)
    return path


BIG = os.urandom(5_000_000)
put("index.html", b"the index")
put("sub/index.html", b"sub")
put("sub/page.html", b"page")
put("a b.txt", b"blank")
put("empty.txt", b"")
put("big.bin", BIG)
put("style.css", b"body { color: black }" * 100)
with open(os.path.join(ROOT, "style.css.gz"), "wb") as packed:
    packed.write(gzip.compress(b"body { color: black }" * 100))
put(".hidden", b"hidden")
put(".git/config", b"hidden")
put(".well-known/security.txt", b"Contact: us")
put("bare/x.txt", b"x")
SECRET = temporary("secret", ".txt")
os.symlink(SECRET, os.path.join(ROOT, "evil.txt"))
os.symlink("/", os.path.join(ROOT, "evil"))
os.symlink("sub/page.html", os.path.join(ROOT, "good.html"))
os.mkfifo(os.path.join(ROOT, "pipe.txt"))


def serve(*options, app=APP):
    program = Program(EVLUASERVER, *([app] if app else []), "--listen", "http://127.0.0.1:0", *options)
    return program, int(program.word_after("http://127.0.0.1:"))


def forget(path):
    """Where the system allows it, it is no longer in memory."""
    with open(path, "rb") as f:
        os.fdatasync(f.fileno())
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def curl(url, *options):
    """Status, header fields (lower case), body."""
    got = subprocess.run(["curl", "-sSk", "--path-as-is", "-i", *options, url], capture_output=True, timeout=LIMIT)
    check(got.returncode == 0, url, got)
    head, body = got.stdout.split(b"\r\n\r\n", 1)
    lines = head.decode().split("\r\n")
    fields = {line.split(": ", 1)[0].lower(): line.split(": ", 1)[1] for line in lines[1:]}
    return int(lines[0].split(" ")[1]), fields, body


def test_paths():
    program, port = serve("--static", ROOT, "--static", f"{ROOT}/sub=/other/place/", "--workers", "2")
    with program:
        at = f"http://127.0.0.1:{port}"
        for path, content in (("/", b"the index"), ("/index.html", b"the index"), ("/sub/", b"sub"),
                              ("/a%20b.txt", b"blank"),
                              ("/%61%20b.txt?x=../", b"blank"), ("/empty.txt", b""), ("/good.html", b"page"),
                              ("/.well-known/security.txt", b"Contact: us"), ("/other/place/page.html", b"page"),
                              ("/other/place/", b"sub")):
            status, _, body = curl(at + path)
            check(status == 200 and body == content, path, status, body)
        for path, to in (("/sub", "/sub/"), ("/sub?a=1", "/sub/?a=1")):
            status, fields, _ = curl(at + path)
            check(status == 301 and fields["location"] == to, path, status, fields)
        hostile = [".hidden", ".git/config", "evil.txt", "evil/etc/passwd", "pipe.txt", "none", "index.html/",
                   "sub//page.html",
                   "./index.html", "sub/../index.html", "../" * 10 + "etc/passwd", "..", "sub/..", "%2e%2e/",
                   "%2e%2e%2f",
                   "..%2f" * 10 + "etc/passwd", "%252e%252e/", "..%5c", "..\\\\..\\\\", "%c0%ae%c0%ae/",
                   "index.html%00", "%00",
                   "%", "%2", "%zz", "%2fetc/passwd", "/etc/passwd", "//etc/passwd", ".%2e/", "sub/%2e/page.html",
                   "bare/", "%2egit/config", "..;/", "....//", "a" * 300, "a/" * 2000]
        for path in hostile:
            status, _, body = curl(at + "/" + path)
            check(status == 404 and b"the app was asked" in body and b"secret" not in body, path, status, body)
        check(curl(at + "/bare")[0] == 301)
        status, fields, _ = curl(at + "/other/place?a=1")
        check(status == 301 and fields["location"] == "/other/place/?a=1", status, fields)
        check(curl(at + "/other/places")[0] == 404)
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            status, _, body = curl(at + "/index.html", "-X", method)
            check(status == 404 and method.encode() in body, method, status, body)
        check(program.stop() == 0, program.text)


def test_without_an_app():
    program, port = serve("--static", ROOT, "--static-cache", "max-age=60", app=None)
    with program:
        status, fields, body = curl(f"http://127.0.0.1:{port}/")
        check(status == 200 and fields["cache-control"] == "max-age=60" and body == b"the index", fields)
        for status, header in ((304, f"If-None-Match: {fields['etag']}"), (206, "Range: bytes=0-1"),
                               (412, 'If-Match: "x"'), (416, "Range: bytes=1000-")):
            got = curl(f"http://127.0.0.1:{port}/", "-H", header)
            check(got[0] == status and ("cache-control" in got[1]) == (status < 400), got)
            check(status < 400 or "content-type" not in got[1], got)
        check(curl(f"http://127.0.0.1:{port}/none")[0] == 404)
        check(program.stop() == 0, program.text)
    got = subprocess.run([EVLUASERVER, "--static", "/none"], capture_output=True, text=True, timeout=LIMIT)
    check(got.returncode == 1 and "/none" in got.stderr, got)


def test_fifos_hold_up_nobody():
    """As a file, as the index of a folder, and in place of a packed file: nobody waits for a writer."""
    folder = tempfile.mkdtemp()
    for path, content in (("file.txt", b"file"), ("style.css", b"body {}"), ("index/page.html", b"page")):
        os.makedirs(os.path.dirname(os.path.join(folder, path)), exist_ok=True)
        with open(os.path.join(folder, path), "wb") as file:
            file.write(content)
    for path in ("fifo.txt", "style.css.gz", "index/index.html"):
        os.mkfifo(os.path.join(folder, path))
    program, port = serve("--static", folder, "--workers", "1", app=None)
    with program:
        def ask(target):
            request = f"GET {target} HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n"
            head, _, body = exchange(port, request.encode()).partition(b"\r\n\r\n")
            return int(head.split(b" ")[1]), body

        for _ in range(100):  # more than there are threads that could wait
            check(ask("/fifo.txt")[0] == 404 and ask("/index/")[0] == 404)
            check(ask("/style.css") == (200, b"body {}"))
        check(ask("/file.txt") == (200, b"file") and ask("/index/page.html") == (200, b"page"))
        check(program.stop() == 0, program.text)
    shutil.rmtree(folder)


def test_every_protocol():
    program = Program(EVLUASERVER, APP, "--listen", "http://127.0.0.1:0", "--listen", "https://127.0.0.1:0",
                      "--tls-auto-dev", "--static", ROOT, "--workers", "2")
    with program:
        plain = "http://127.0.0.1:" + program.word_after("http://127.0.0.1:")
        secure = "https://localhost:" + program.word_after("https://127.0.0.1:")
        for at, option in ((plain, "--http1.1"), (plain, "--http1.0"), (plain, "--http2-prior-knowledge"),
                           (secure, "--http1.1"), (secure, "--http2")):
            for target in ("/big.bin", "/app?file=big.bin"):
                for cold in (False, True):
                    if cold:
                        forget(os.path.join(ROOT, "big.bin"))
                    status, fields, body = curl(at + target, option)
                    check(status == 200 and hashlib.sha1(body).digest() == hashlib.sha1(BIG).digest(), at, option,
                          target)
                    check(fields["content-length"] == "5000000" and fields["accept-ranges"] == "bytes", fields)
                status, _, body = curl(at + target, option, "-r", "1000000-3999999")
                check(status == 206 and body == BIG[1000000:4000000], at, option, target, len(body))
                status, _, body = curl(at + target, option, "-r", "0-99,200000-399999")
                check(status == 206 and BIG[:100] in body and BIG[200000:400000] in body, at, option, target, len(body))
                status, fields, body = curl(at + target, option, "-I")
                check(status == 200 and body == b"" and fields["content-length"] == "5000000", at, option, fields)
        check(program.stop() == 0, program.text)


def test_conditions():
    path = put("changing.txt", b"0123456789")
    os.utime(path, (1_000_000_000, 1_000_000_000))
    program, port = serve("--static", ROOT)
    with program:
        at = f"http://127.0.0.1:{port}/changing.txt"
        _, fields, _ = curl(at)
        etag, date = fields["etag"], fields["last-modified"]
        check(date == email.utils.formatdate(1_000_000_000, usegmt=True), date)
        later, earlier = (email.utils.formatdate(1_000_000_000 + more, usegmt=True) for more in (10, -10))
        for status, headers in (
                (304, {"If-None-Match": etag}), (304, {"If-None-Match": f'"x", W/{etag}'}), (304,
                                                                                             {"If-None-Match": "*"}),
                (200, {"If-None-Match": '"x"'}), (200, {"If-None-Match": "nonsense"}),
                (304, {"If-Modified-Since": date}), (304, {"If-Modified-Since": later}),
                (200, {"If-Modified-Since": earlier}),
                (200, {"If-Modified-Since": "yesterday"}), (200, {"If-None-Match": '"x"', "If-Modified-Since": date}),
                (200, {"If-Match": etag}), (200, {"If-Match": "*"}), (412, {"If-Match": '"x"'}),
                (412, {"If-Match": "W/" + etag}),
                (412, {"If-Unmodified-Since": earlier}), (200, {"If-Unmodified-Since": date}),
                (206, {"Range": "bytes=0-1", "If-Range": etag}), (206, {"Range": "bytes=0-1", "If-Range": date}),
                (200, {"Range": "bytes=0-1", "If-Range": '"x"'}), (200, {"Range": "bytes=0-1", "If-Range": earlier}),
                (200, {"Range": "bytes=0-1", "If-Range": "W/" + etag}),
                (416, {"Range": "bytes=10-"}), (206, {"Range": "bytes=-1"}), (200, {"Range": "bytes=9-1"})):
            got = curl(at, *(part for name, value in headers.items() for part in ("-H", f"{name}: {value}")))
            check(got[0] == status, headers, got)
            check(got[0] != 304 or got[1]["etag"] == etag, got)
            check(got[0] != 416 or got[1]["content-range"] == "bytes */10", got)
        got = curl(at, "-H", 'If-None-Match: "x"', "-H", f"If-None-Match: {etag}")
        check(got[0] == 304, got)
        # Several ranges.
        status, fields, body = curl(at, "-H", "Range: bytes=0-1,4-5,-1")
        boundary = fields["content-type"].split("boundary=")[1].encode()
        parts = body.split(b"--" + boundary)
        check(status == 206 and int(fields["content-length"]) == len(body) and parts[-1] == b"--\r\n", fields, body)
        got = [(part.split(b"\r\n\r\n")[0].split(b"Content-Range: ")[1],
                part.split(b"\r\n\r\n")[1][:-2]) for part in parts[1:-1]]
        check(got == [(b"bytes 0-1/10", b"01"), (b"bytes 4-5/10", b"45"), (b"bytes 9-9/10", b"9")], got)
        # A changed file is another one, at once.
        put("changing.txt", b"changed")
        status, fields, body = curl(at, "-H", f"If-None-Match: {etag}")
        check(status == 200 and body == b"changed" and fields["etag"] != etag, fields)
        check(program.stop() == 0, program.text)


def test_precompressed():
    program, port = serve("--static", ROOT)
    with program:
        at = f"http://127.0.0.1:{port}/style.css"
        status, plain, body = curl(at)
        check("content-encoding" not in plain and plain["vary"] == "Accept-Encoding", plain)
        status, packed, small = curl(at, "-H", "Accept-Encoding: br, gzip")
        check(packed["content-encoding"] == "gzip" and gzip.decompress(small) == body, packed)
        check(packed["content-type"] == "text/css; charset=utf-8" and packed["etag"] != plain["etag"], packed)
        check("content-encoding" not in curl(at, "-H", "Accept-Encoding: gzip;q=0, *;q=0")[1])
        put("style.css.br", b"br")
        put("style.css.zst", b"zst")
        for accepted, coding in (("gzip, br;q=0.1, zstd;q=0.5", "gzip"), ("gzip, br, zstd", "br"),
                                 ("gzip;q=0.2", "gzip"), ("gzip;q=0.1, zstd;q=0.5", "zstd"),
                                 ("identity;q=1, gzip;q=0.1", None), ("identity;q=0.5, gzip;q=0.5", "gzip"),
                                 ("*", "br")):
            got = curl(at, "-H", f"Accept-Encoding: {accepted}")[1].get("content-encoding")
            check(got == coding, accepted, got)
        got = curl(at, "-H", "Accept-Encoding: identity", "-H", "Accept-Encoding: gzip")[1]
        check(got["content-encoding"] == "gzip", got)
        os.remove(os.path.join(ROOT, "style.css.br"))
        os.remove(os.path.join(ROOT, "style.css.zst"))
        check(program.stop() == 0, program.text)


def test_compressed_on_the_way():
    path = put("page.css", b"p { color: black }\n" * 300)
    program, port = serve("--static", ROOT, "--compress", "6")
    with program:
        for at in (f"http://127.0.0.1:{port}/page.css", f"http://127.0.0.1:{port}/app?file=page.css"):
            for accepted in ("gzip", "identity"):
                asked = ["-H", f"Accept-Encoding: {accepted}"]
                _, whole, body = curl(at, *asked)
                check(whole.get("content-encoding") == ("gzip" if accepted == "gzip" else None), whole)
                check(whole["vary"] == "Accept-Encoding" and int(whole["content-length"]) == len(body), whole)
                check(curl(at, "-I", *asked)[1] | {"date": ""} == whole | {"date": ""}, at, accepted, whole)
                check(whole["etag"].startswith("W/") == (accepted == "gzip"), whole)
                for options in ((), ("-I",)):  # also when a disk has to be asked
                    forget(path)
                    _, cold, again = curl(at, *options, *asked)
                    check(cold | {"date": ""} == whole | {"date": ""} and again == (b"" if options else body), cold)
                for condition, expected in ((f"If-None-Match: {whole['etag']}", 304), ('If-Match: "x"', 412)):
                    status, fields, _ = curl(at, *asked, "-H", condition)
                    check(status == expected and fields["etag"] == whole["etag"], condition, fields)
                    check(fields["vary"] == whole["vary"], condition, fields)
                check(curl(at, *asked, "-H", "Range: bytes=10-19")[1]["etag"].startswith('"'), "of its bytes")
                # The date is that of other bytes: what was got of the encoded form cannot be gone on with.
                status, fields, part = curl(at, *asked, "-H", "Range: bytes=10-19", "-H",
                                            f"If-Range: {whole['last-modified']}")
                check(status == (200 if accepted == "gzip" else 206), fields)
                check(accepted == "gzip" or part == body[10:20], part)
        check(program.stop() == 0, program.text)
    os.remove(path)


def test_large_ones_are_compressed_in_pieces():
    text = b"".join(b"line %d of a text\n" % number for number in range(60_000))
    put("long.txt", text)
    put("long.bin", text)
    put("huge.txt", text * 17)
    program, port = serve("--static", ROOT, "--compress", "6", "--workers", "1")
    gzip_please = ["-H", "Accept-Encoding: gzip"]
    with program:
        for at in (f"http://127.0.0.1:{port}/", f"http://127.0.0.1:{port}/app?file="):
            for protocol in ("--http1.1", "--http2-prior-knowledge", "--http1.0"):
                status, fields, body = curl(at + "long.txt", protocol, *gzip_please)
                check(status == 200 and fields["content-encoding"] == "gzip" and gzip.decompress(body) == text, fields)
                check("content-length" not in fields and fields["etag"].startswith('W/"'), fields)
                check(fields["vary"] == "Accept-Encoding" and len(body) < len(text) / 3, fields, len(body))
                head = curl(at + "long.txt", protocol, "-I", *gzip_please)[1]
                about_the_file = ("content-type", "content-encoding", "content-length", "etag", "last-modified", "vary")
                check([head.get(name) for name in about_the_file] == [fields.get(name) for name in about_the_file],
                      head, fields)
                check(curl(at + "long.txt", protocol, *gzip_please, "-H", f"If-None-Match: {fields['etag']}")[0] == 304)
            status, fields, body = curl(at + "long.txt", *gzip_please, "-H", "Range: bytes=10-19")
            check(status == 206 and body == text[10:20] and "content-encoding" not in fields, fields)
            status, fields, _ = curl(at + "long.txt", *gzip_please, "-H", "Range: bytes=10-19", "-H",
                                     f"If-Range: {fields['last-modified']}")
            check(status == 200 and fields["content-encoding"] == "gzip", "the date is that of other bytes", fields)
            status, fields, body = curl(at + "long.txt")
            check(body == text and int(fields["content-length"]) == len(text) and fields["vary"] == "Accept-Encoding")
            status, fields, _ = curl(at + "long.txt", "-H", f"If-None-Match: {fields['etag']}")
            check(status == 304 and fields["vary"] == "Accept-Encoding", fields)
            for plain in ("long.bin", "huge.txt"):
                status, fields, _ = curl(at + plain, "-H", "If-None-Match: *")
                check(status == 304 and fields.get("vary") == curl(at + plain, "-I")[1].get("vary"), plain, fields)
            for name, size in (("long.bin", len(text)), ("huge.txt", 17 * len(text))):
                status, fields, body = curl(at + name, *gzip_please)
                check("content-encoding" not in fields and len(body) == size == int(fields["content-length"]), fields)
                check(name == "huge.txt" or "vary" not in fields, fields)
        # One that becomes shorter must not look whole.
        path = put("shrinking.txt", text * 10)
        with socket.create_connection(("127.0.0.1", port), LIMIT) as stream:
            stream.sendall(b"GET /shrinking.txt HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n")
            got = stream.recv(1)
            os.truncate(path, 1000)
            try:
                while more := stream.recv(1 << 20):
                    got += more
            except ConnectionResetError:
                pass
            check(not got.endswith(b"\r\n0\r\n\r\n"), "it looks whole", len(got))
        check(program.stop() == 0, program.text)
    for name in ("long.txt", "long.bin", "huge.txt", "shrinking.txt"):
        os.remove(os.path.join(ROOT, name))


def test_res_file():
    program, port = serve("--workers", "2")
    with program:
        at = f"http://127.0.0.1:{port}/app?file="
        status, fields, body = curl(at + "sub/page.html")
        check(status == 200 and body == b"page" and fields["cache-control"] == "no-cache", fields)
        check(curl(at + "index.html&type=text/x-other")[1]["content-type"] == "text/x-other")
        check(curl(at + "index.html&type=text/x%0a")[0] == 500 and curl(at + "index.html")[2] == b"the index")
        program.wait_for("the option 'type' has a line break")
        download = curl(at + "sub/page.html&download=1")[1]["content-disposition"]
        check(download.startswith('attachment; filename="page.html"'), download)
        odd = curl(at + "sub/page.html&as=%C3%A4%22.txt")[1]["content-disposition"]
        check(odd == "attachment; filename=\"___.txt\"; filename*=UTF-8''%C3%A4%22.txt", odd)
        for name, code in (("none", b"ENOENT"), ("../" + os.path.basename(SECRET), b"EXDEV"), ("evil.txt", b"EXDEV"),
                           ("sub", b"EISDIR"), ("pipe.txt", b"EACCES"), (SECRET, b"EXDEV")):
            status, fields, body = curl(at + name)
            check(status == 404 and body.startswith(code) and "etag" not in fields, name, body)
        got = curl(at + "none&download=1")
        check(got[0] == 404 and "content-disposition" not in got[1], got)
        check(curl(at + SECRET + "&anywhere=1")[2] == b"secret")
        # The length is the file's, whatever the app has said of it.
        for name, length in (("sub/page.html", 4), ("big.bin", len(BIG))):
            for wrong in (2, length * 2):
                status, fields, body = curl(at + f"{name}&length={wrong}")
                check(status == 200 and int(fields["content-length"]) == len(body) == length, name, wrong, fields)
                head = curl(at + f"{name}&length={wrong}", "-I")[1]
                check(head["content-length"] == fields["content-length"], name, wrong, head)
        # Conditions and ranges are about what would be 200, and about reading.
        for options in (["-r", "0-1"], ["-H", "If-None-Match: *"], ["-H", 'If-Match: "x"']):
            got = curl(at + "sub/page.html&status=404", *options)
            check(got[0] == 404 and got[2] == b"page" and "content-range" not in got[1], options, got)
            got = curl(at + "sub/page.html", "-d", "x", *options)
            check(got[0] == 200 and got[2] == b"page", options, got)
        check(program.stop() == 0, program.text)


def test_clients_of_all_kinds():
    program, port = serve("--static", ROOT, "--workers", "2")
    with program:
        # Pipelined, small and large in turn.
        names = ["index.html", "big.bin", "sub/page.html", "big.bin", "none"]
        with socket.create_connection(("127.0.0.1", port), LIMIT) as stream:
            stream.sendall(b"".join(f"GET /{name} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for name in names[:-1]) +
                           b"GET /none HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            time.sleep(0.1)  # lets the buffers fill up
            answer = b""
            while got := stream.recv(1 << 20):
                answer += got
        check(answer.count(BIG) == 2 and answer.count(b"HTTP/1.1 200") == 4 and b"the app was asked" in answer,
              len(answer))
        # Those that go in the middle.
        for _ in range(10):
            with socket.create_connection(("127.0.0.1", port), LIMIT) as stream:
                stream.sendall(b"GET /big.bin HTTP/1.1\r\nHost: x\r\n\r\n")
                stream.recv(1000)
        # A file that becomes shorter while it is sent: the client notices.
        path = put("shrinking.bin", BIG * 4)
        with socket.create_connection(("127.0.0.1", port), LIMIT) as stream:
            stream.sendall(b"GET /shrinking.bin HTTP/1.1\r\nHost: x\r\n\r\n")
            got = len(stream.recv(1000))
            os.truncate(path, 1000)
            try:
                while more := stream.recv(1 << 20):
                    got += len(more)
            except ConnectionResetError:
                pass
            check(got < len(BIG) * 4, got)
        check(curl(f"http://127.0.0.1:{port}/")[0] == 200)
        check(program.stop() == 0, program.text)


try:
    main(globals())
finally:
    shutil.rmtree(ROOT)
    os.remove(APP)
    os.remove(SECRET)
