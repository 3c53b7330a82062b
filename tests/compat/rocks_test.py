#!/usr/bin/env python3
"""Debian's rocks for Lua 5.3, as they are: they load from the usual places, and do what they are for."""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "e2e"))
from support import EVLUA, LIMIT, check, main, run, serve, temporary  # noqa: E402

ROCKS = HERE / "rocks"
STOCK = shutil.which("lua5.3")
PROBE = pathlib.Path(EVLUA).resolve().parent / "tests" / "c_modules" / "probe.so"
# Files that its packages bring; without them its test is left out.
NEEDS = {"posix": "posix.so", "penlight": "lfs.so", "cjson": "cjson.so", "lpeg": "lpeg.so", "lfs": "lfs.so",
         "socket": "mime/core.so"}
VARIABLES = ("LUA_PATH", "LUA_PATH_5_3", "LUA_CPATH", "LUA_CPATH_5_3", "LUA_INIT", "LUA_INIT_5_3")


def environment(**more):
    clean = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    return dict(clean, **more)


def exercise(name, *options):
    """In the first Lua state, with one worker and with two, and in others beside it, where C modules load once more."""
    for workers in ("1", "2"):
        got = run("--workers", workers, *options, str(ROCKS / "in_thread.lua"), str(ROCKS / f"use_{name}.lua"),
                  timeout=2 * LIMIT)
        check(got.returncode == 0 and got.stdout == f"{name}\t{name}\t{name}\n", name, got)
    # All that is used of Lua by the rock is there in the server, too.
    app = temporary(f'local name = dofile("{ROCKS}/use_{name}.lua")\nreturn function(req, res) res:text(name) end\n')
    try:
        program, port = serve(app, "--workers", "1", "--vms", "2", *options)
        with program:
            got = subprocess.run(["curl", "-s", f"http://127.0.0.1:{port}/"], capture_output=True, text=True,
                                 timeout=LIMIT, check=False)
            check(got.stdout == name, name, got)
            check(program.stop() == 0, program.text)
    finally:
        os.remove(app)


def test_posix():
    exercise("posix")


def test_penlight():
    exercise("penlight")


def test_cjson():
    exercise("cjson")


def test_lpeg():
    exercise("lpeg")


def test_lfs():
    exercise("lfs")


def test_socket():
    exercise("socket")
    exercise("socket", "--compat", "socket")


def paths(program, **variables):
    return subprocess.run([program, "-e", "print(package.path) print(package.cpath)"], capture_output=True, text=True,
                          timeout=LIMIT, check=True, env=environment(**variables)).stdout


def test_paths_are_those_of_lua():
    """Where Debian's packages and luarocks put their files, and what the environment says."""
    for variables in ({}, {"LUA_PATH": "/a/?.lua"}, {"LUA_PATH": "/a/?.lua;;"}, {"LUA_PATH": ";;/a/?.lua"},
                      {"LUA_PATH": "/a/?.lua", "LUA_PATH_5_3": "/b/?.lua;;"},
                      {"LUA_CPATH": "/a/?.so;;"}, {"LUA_CPATH": "/a/?.so", "LUA_CPATH_5_3": ";;/b/?.so"},
                      {"LUA_PATH": "", "LUA_CPATH": ""}):
        said = paths(EVLUA, **variables)
        check(said == paths(STOCK, **variables), variables, said)
    check("/usr/local/share/lua/5.3/?.lua;" in paths(EVLUA) and "/usr/share/lua/5.3/?.lua;" in paths(EVLUA))
    check("/usr/local/lib/lua/5.3/?.so;" in paths(EVLUA))


def test_tree_of_luarocks():
    """A tree as `luarocks --local` makes it, with the variables that `luarocks path` prints; also for other states."""
    with tempfile.TemporaryDirectory() as home:
        lua, lib = (pathlib.Path(home, ".luarocks", kind, "lua", "5.3") for kind in ("share", "lib"))
        (lua / "rock").mkdir(parents=True)
        lib.mkdir(parents=True)
        (lua / "rock" / "init.lua").write_text('return {name = "rock", part = require "rock.part"}\n')
        (lua / "rock" / "part.lua").write_text('return ...\n')
        variables = {"LUA_PATH": f"{lua}/?.lua;{lua}/?/init.lua;;", "LUA_CPATH": f"{lib}/?.so;;"}
        code = 'local rock = require "rock" return rock.name .. " " .. rock.part'
        if PROBE.exists():
            shutil.copy(PROBE, lib / "probe.so")
            code = 'local rock = require "rock" return rock.name .. " " .. rock.part .. require("probe").buffered(" c")'
        wanted = "rock rock.part" + (" c-7" if PROBE.exists() else "")
        script = f"local function f() {code} end print(f(), (require('evlua.thread').run(f)))"
        got = subprocess.run([EVLUA, "-e", script], capture_output=True, text=True, timeout=LIMIT, check=False,
                             env=environment(**variables))
        check(got.stdout == f"{wanted}\t{wanted}\n", got)


if STOCK is None:
    print("lua5.3 is not installed")
    sys.exit(77)
FOUND = [folder for folder in ("/usr/lib/x86_64-linux-gnu/lua/5.3", "/usr/lib/aarch64-linux-gnu/lua/5.3")
         if os.path.isdir(folder)]
for rock, needed in NEEDS.items():
    if not any(os.path.exists(os.path.join(folder, needed)) for folder in FOUND):
        print(f"lua-{rock} is not installed: it is left out")
        del globals()[f"test_{rock}"]
main(globals())
