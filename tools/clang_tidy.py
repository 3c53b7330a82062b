#!/usr/bin/env python3
"""clang-tidy over FILE..., for `tools/dev lint`. What was clean once is not looked at again as long as it, what it
includes, the compiler's flags, the checks and clang-tidy stay the same: ~/.cache/evlua/lint remembers."""
import hashlib
import json
import os
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

BUILD = "build/asan"  # clang's own flags
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "evlua/lint"


def output_of(command):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout


def all_that_is_read(command):
    """The file, what it includes, and what they define, with comments: they may hold NOLINT. No lines' numbers."""
    command = shlex.split(command)
    return output_of([part for part in command[:command.index("-o")] if part != "-c"] +
                     ["-E", "-P", "-CC", "-dD", command[-1]])


def checks_of(file):
    """Each folder may have its own, beside those of the folders above."""
    settings = (folder / ".clang-tidy" for folder in Path(file).parents)
    return b"".join(path.read_bytes() for path in settings if path.exists())


def key_of(file, command, version):
    """Of all that the answer depends on. Where the tree lies is not of it, so that clones share their answers."""
    key = hashlib.sha256()
    for part in (version, checks_of(file), command.encode(), all_that_is_read(command)):
        key.update(hashlib.sha256(part.replace(os.getcwd().encode(), b".")).digest())
    return key.hexdigest()


def main(files):
    version = output_of(["clang-tidy", "--version"])
    commands = {os.path.relpath(entry["file"]): entry["command"]
                for entry in json.loads(Path(BUILD, "compile_commands.json").read_bytes())}
    CACHE.mkdir(parents=True, exist_ok=True)

    def is_clean(file):
        known = None
        if file in commands:
            known = CACHE / key_of(file, commands[file], version)
            if known.exists():
                return True
        found = subprocess.run(["clang-tidy", "--quiet", "-p", BUILD, file], capture_output=True, text=True)
        print(found.stdout, end="", flush=True)
        if found.returncode == 0 and known:
            known.touch()
        return found.returncode == 0

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return 0 if all(list(pool.map(is_clean, files))) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
