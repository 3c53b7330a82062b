#!/usr/bin/env python3
"""Ordinary Lua under evlua and under lua5.3: the same output, errors and exit code.

Each NAME.lua of this folder is run by both, in an empty folder, with NAME.stdin as its standard input if that is there
(and more lines, for it to be longer than a buffer): from a pipe and from a file. What names the program itself,
addresses and the folder are made alike before comparing.
"""
import difflib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
EVLUA = os.environ["EVLUA"]
STOCK = shutil.which("lua5.3")
MORE_LINES = b"tail line\n" * 5000
TIMEOUT = 300 if os.environ.get("EVLUA_SANITIZE") else 60


def alike(data, folder):
    """The text without what may differ."""
    text = data.decode("latin-1").replace(folder, "FOLDER")
    text = re.sub(r"(?m)^\S*(evlua|lua5\.3): ", "PROGRAM: ", text)
    text = re.sub(r"(?m)^PROGRAM: error in __gc: .*\n(\t.*\n)*", "", text)  # nobody else is told, so we say it
    text = re.sub(r"0x[0-9a-f]{6,}", "ADDRESS", text)
    text = re.sub(r"/tmp/lua_\w{6}", "TEMPORARY", text)
    # Tracebacks tell of the functions around the script, too, and we print more of them.
    return re.sub(r"(?m)^stack traceback:\n(\t.*\n?)*", "", text)


def run(program, script, stdin, folder):
    """Output, errors and exit code of the script."""
    work = Path(folder) / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    environment = dict(os.environ, LUA_PATH=f"{HERE}/?.lua;;", PROGRAM=program)
    done = subprocess.run([program, str(script), "first", "second"], cwd=work, env=environment, timeout=TIMEOUT,
                          capture_output=True, check=False, **stdin)
    return [alike(done.stdout, str(work)), alike(done.stderr, str(work)), str(done.returncode)]


def as_file(content):
    file = tempfile.TemporaryFile()
    file.write(content)
    file.seek(0)
    return file


def compare(script, how, stdin):
    """True if both programs say the same."""
    with tempfile.TemporaryDirectory() as folder:
        wanted = run(STOCK, script, stdin(), folder)
        got = run(EVLUA, script, stdin(), folder)
    for what, left, right in zip(["stdout", "stderr", "exit code"], wanted, got):
        if left == right:
            continue
        print(f"{script.name}, standard input {how}: {what} differs")
        sys.stdout.writelines(line + "\n" for line in difflib.unified_diff(
            left.splitlines(), right.splitlines(), "lua5.3", "evlua", lineterm="", n=2))
    return wanted == got


def main():
    """Runs all scripts, or those named."""
    if STOCK is None:
        print("lua5.3 is not installed")
        sys.exit(77)
    names = sys.argv[1:]
    scripts = [path for path in sorted(HERE.glob("*.lua")) if not names or path.stem in names]
    scripts = [path for path in scripts if not path.stem.endswith("_module")]
    same = True
    for script in scripts:
        data = script.with_suffix(".stdin")
        content = data.read_bytes() + MORE_LINES if data.exists() else b""
        same &= compare(script, "from a pipe", lambda content=content: {"input": content})
        if content:
            same &= compare(script, "from a file", lambda content=content: {"stdin": as_file(content)})
    print(f"{len(scripts)} scripts compared")
    sys.exit(0 if same and scripts else 1)


if __name__ == "__main__":
    main()
