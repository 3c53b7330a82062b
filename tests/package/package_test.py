"""The Debian package: what is in it, and that what is in it works from where it was unpacked."""
import glob
import gzip
import os
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.environ["EVLUA_SOURCE"], "tests", "e2e"))
from support import LIMIT, SOURCE, Program, check, exchange, main  # noqa: E402

BUILD = os.environ["EVLUA_BUILD"]
BUILD_TYPE = os.environ["EVLUA_BUILD_TYPE"]
FOLDER = tempfile.TemporaryDirectory()
LIBRARIES = ("libc6", "libstdc++6", "liburing2", "libev4", "libc-ares2", "libedit2", "libnghttp2-14", "libsimdjson14",
             "zlib1g", "libzstd1")
DOCUMENTS = "usr/share/doc/evlua"
FILES = ("usr/bin/evlua", "usr/bin/evluaserver", "usr/share/man/man1/evlua.1.gz", "usr/share/man/man1/evluaserver.1.gz",
         "usr/lib/systemd/system/evluaserver.service", "usr/share/evlua/types/evlua.lua",
         "usr/share/evlua/types/evlua/http.lua", f"{DOCUMENTS}/copyright", f"{DOCUMENTS}/copyright.boringssl",
         f"{DOCUMENTS}/changelog.gz", f"{DOCUMENTS}/README.md", f"{DOCUMENTS}/docs/reference/operations.md",
         f"{DOCUMENTS}/examples/hello.lua", f"{DOCUMENTS}/examples/systemd/evluaserver.toml")
# The address is the builder's to give.
ACCEPTED = re.compile(r"bogus-mail-host|changelog-distribution")


def output_of(*command):
    got = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    check(got.returncode == 0, command, got.stdout, got.stderr)
    return got.stdout


def build():
    made = os.path.join(FOLDER.name, "made")
    output_of("cpack", "--config", os.path.join(BUILD, "CPackConfig.cmake"), "-B", made)
    (package,) = glob.glob(os.path.join(made, "*.deb"))
    root = os.path.join(FOLDER.name, "root")
    output_of("dpkg-deb", "-x", package, root)
    return package, root


PACKAGE, ROOT = build()


def installed(path):
    return os.path.join(ROOT, path)


def test_control():
    check(output_of("dpkg-deb", "-f", PACKAGE, "Package").strip() == "evlua", "the package's name")
    depends = output_of("dpkg-deb", "-f", PACKAGE, "Depends")
    for library in LIBRARIES:
        check(re.search(rf"\b{re.escape(library)} \(>=", depends), f"no {library} in {depends}")
    control = os.path.join(FOLDER.name, "control")
    output_of("dpkg-deb", "-e", PACKAGE, control)
    for script in ("postinst", "prerm", "postrm"):
        output_of("sh", "-n", os.path.join(control, script))


def test_files():
    for path in FILES:
        check(os.path.isfile(installed(path)), f"{path} is missing")
    for program in ("evlua", "evluaserver"):
        check(os.access(installed(f"usr/bin/{program}"), os.X_OK), f"{program} cannot be run")
        with gzip.open(installed(f"usr/share/man/man1/{program}.1.gz"), "rt", encoding="utf-8") as page:
            check(f".Nm {program}\n" in page.read(), f"the manual page of {program}")
    listed = output_of("dpkg-deb", "-c", PACKAGE)
    check(all("root/root" in line for line in listed.splitlines()), "not all files are root's:", listed)
    # Nothing of the machine that built it: neither its folders, nor what only tests use.
    for program in ("evlua", "evluaserver"):
        with open(installed(f"usr/bin/{program}"), "rb") as f:
            check(SOURCE.encode() not in f.read(), f"{program} knows where it was built")


def test_hardening():
    """Compiled so that an overrun ends the program (cmake/Flags.cmake)."""
    for program in ("evlua", "evluaserver"):
        path = installed(f"usr/bin/{program}")
        segments = output_of("readelf", "-lW", path)
        check("Elf file type is DYN (Position-Independent Executable file)" in segments, segments)
        check(re.search(r"^\s*GNU_RELRO\s", segments, re.M), "no RELRO:", segments)
        check(re.search(r"^\s*GNU_STACK\s.* RW\s", segments, re.M), "the stack can be executed:", segments)
        check(not re.search(r"^\s*LOAD\s.* RWE\s", segments, re.M), "memory to be written and executed:", segments)
        dynamic = output_of("readelf", "-dW", path)
        check(re.search(r"\bNOW\b", dynamic) and "TEXTREL" not in dynamic, "bound late:", dynamic)
        check(not re.search(r"R(UN)?PATH", dynamic), "libraries of another place:", dynamic)
        symbols = output_of("readelf", "--dyn-syms", "-W", path)
        check(re.search(r"UND __stack_chk_fail\b", symbols), f"{program} has no stack protector")
        if BUILD_TYPE == "Release":
            check(re.search(r"UND __\w+_chk@", symbols), f"{program} has no checked functions")


def test_evlua():
    said = output_of(installed("usr/bin/evlua"), "-e", "print(require('evlua').version, _VERSION)")
    version = output_of("dpkg-deb", "-f", PACKAGE, "Version").strip()
    check(said.split() == [version, "Lua", "5.3"], said, version)


def test_evluaserver():
    for backend in ("io_uring", "libev"):
        with Program(installed("usr/bin/evluaserver"), installed(f"{DOCUMENTS}/examples/hello.lua"), "--listen",
                     "127.0.0.1:0", "--backend", backend) as server:
            port = int(server.word_after("http://127.0.0.1:"))
            answer = exchange(port, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            check(answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b"Hello, World!"), answer)
            check(server.stop() == 0, server.text)


def test_unit():
    """It runs what the package has, with options that there are, and the example of a configuration is good."""
    with open(installed("usr/lib/systemd/system/evluaserver.service"), encoding="utf-8") as f:
        unit = f.read()
    program, *options = re.search(r"^ExecStart=(.+)$", unit, re.M)[1].split()
    example = installed(f"{DOCUMENTS}/examples/systemd/evluaserver.toml")
    place = options[options.index("--config") + 1]
    check(f"AssertPathExists={place}" in unit, "which file has to be there?")
    options[options.index(place)] = example
    printed = output_of(installed(f"usr/bin/{program}"), *options, "--print-config")
    check('app = "/srv/site/app.lua"' in printed, printed)
    with open(example, encoding="utf-8") as f:
        check(place in f.readline(), "the example says where it belongs")


def test_lintian():
    if shutil.which("lintian") is None:
        print("lintian is not installed")
        return
    got = subprocess.run(["lintian", "--allow-root", "--fail-on", "none", PACKAGE], capture_output=True, text=True,
                         timeout=LIMIT, check=False)
    findings = [line for line in got.stdout.splitlines() if re.match("[EW]:", line) and not ACCEPTED.search(line)]
    check(got.returncode == 0 and not findings, got.stderr, "\n".join(findings))


main(globals())
