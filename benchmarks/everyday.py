"""Everyday work beside what others do it with: copies, lines, hashing a tree, timers, datagrams. Part of e2e.py.

The programs run in turn, round after round. A ratio is the median of those within the rounds, so that what else the
machine does meets all of them. CPU time is user and system time of a program with all of its threads.
"""
import ctypes
import fcntl
import filecmp
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from process import BACKENDS, HERE, PEERS, connections_max, environment

SIZE = 1 << 30
FICLONE = 0x40049409  # of ioctl(2): share the blocks
UNSUPPORTED = 95  # EOPNOTSUPP
COPY = 'local from, to = table.unpack(arg) assert(require("evlua.fs").copy(from, to))'
LINES = "local count, bytes = 0, 0 for line in %s do count, bytes = count + 1, bytes + #line end print(count, bytes)"
IO_LINES = LINES % "io.lines(arg[1])"
FS_LINES = LINES % 'assert(require("evlua.fs").open(arg[1])):lines()'


class Argument(ctypes.Structure):
    _fields_ = [("index", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


def without_kernel_copies():
    """For this process and those it becomes: neither copy_file_range nor sharing blocks, as on other file systems."""
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(0x7FFF0000))
    refuse = 0x50000 | UNSUPPORTED
    for name, arguments in ((b"copy_file_range", []), (b"ioctl", [Argument(1, 4, FICLONE, 0)])):
        number = library.seccomp_syscall_resolve_name(name)
        array = (Argument * len(arguments))(*arguments)
        if library.seccomp_rule_add_array(context, refuse, number, len(arguments), array) != 0:
            raise OSError("seccomp_rule_add_array")
    if library.seccomp_load(context) != 0:
        raise OSError("seccomp_load")


def run(command, env=None, setup=None):
    """Seconds, processor seconds, what it printed."""
    began = time.perf_counter()
    with subprocess.Popen(command, env=env, preexec_fn=setup, stdout=subprocess.PIPE, text=True) as process:
        text = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - began
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: ended with {process.returncode}")
    return seconds, usage.ru_utime + usage.ru_stime, text.strip()


def in_turn(options, commands, before=None, setup=None):
    """`commands`: name -> command and environment. Name -> what `run` gave, for each round."""
    samples = {name: [] for name in commands}
    for _ in range(options.rounds):
        for name, (command, env) in commands.items():
            if before is not None:
                before()
            samples[name].append(run(command, env, setup))
    return samples


def with_ratios(section, samples, peer, results, more=None):
    """A row for each program, the last columns being multiples of the peer's; `more(texts)` gives columns between."""
    for name, rows in samples.items():
        wall, cpu, texts = zip(*rows)
        row = {"wall_s": round(statistics.median(wall), 3), "cpu_s": round(statistics.median(cpu), 3)}
        row.update(more(texts) if more else {})
        for column, kind in enumerate(("wall_ratio", "cpu_ratio") if peer in samples else ()):
            row[kind] = round(statistics.median(mine[column] / theirs[column]
                                                for mine, theirs in zip(rows, samples[peer])), 2)
        results[f"{section}: {name}"] = row


def same_output(samples):
    texts = {text for rows in samples.values() for _, _, text in rows}
    if len(texts) != 1:
        raise SystemExit(f"the programs do not agree: {texts}")


def ours(options, *arguments):
    command = [os.path.join(options.build, "evlua"), "--workers", "1", *arguments]
    return {f"evlua {backend}": (command, environment(backend)) for backend in BACKENDS}


def with_node(commands, *arguments):
    """Adds it, and gives the name under which it ran; None where it is not installed."""
    if shutil.which("node") is None:
        print("left out, not installed: Node.js", file=sys.stderr)
        return None
    commands["Node.js"] = (["node", *arguments], None)
    return "Node.js"


def make_text(path):
    """Lines of words, of 1 GiB."""
    source = random.Random(6)
    words = ["".join(source.choices("abcdefghijklmnopqrstuvwxyz", k=source.randint(2, 12))) for _ in range(2000)]
    lines = (" ".join(source.choices(words, k=source.randint(0, 20))) + "\n" for _ in range(100000))
    piece = "".join(lines).encode()
    with open(path, "wb") as f:
        while f.tell() + len(piece) < SIZE:
            f.write(piece)
        f.write(piece[:SIZE - f.tell()])


def way_to_copy(path):
    """What the file system offers."""
    with open(path, "rb") as source, open(path + ".probe", "wb") as target:
        try:
            fcntl.ioctl(target.fileno(), FICLONE, source.fileno())
            way = "blocks are shared"
        except OSError:
            try:
                os.copy_file_range(source.fileno(), target.fileno(), 1 << 20)
                way = "copy_file_range"
            except OSError:
                way = "read and write"
    os.unlink(path + ".probe")
    told = subprocess.run(["df", "--output=fstype", path], capture_output=True, text=True, check=True).stdout
    return f"{way}, {told.split()[-1]}"


def copies(options, results, path):
    copy = path + ".copy"

    def before():
        if os.path.exists(copy):
            os.unlink(copy)
        os.sync()

    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(COPY)
        script.flush()
        commands = ours(options, script.name, path, copy)
        commands["cp"] = (["cp", path, copy], None)
        for section, setup in (("copy of 1 GiB", None), ("copy of 1 GiB by hand", without_kernel_copies)):
            way = way_to_copy(path) if setup is None else "read and write"
            samples = in_turn(options, commands, before, setup)
            with_ratios(section, samples, "cp", results, lambda _, way=way: {"way": way})
            for name, (command, env) in commands.items():
                before()
                run(command, env, setup)
                if not filecmp.cmp(path, copy, shallow=False):
                    raise SystemExit(f"{name} does not copy what is there")
    os.unlink(copy)


def lines(options, results, path):
    commands = {}
    with tempfile.TemporaryDirectory() as directory:
        for name, code in (("io.lines", IO_LINES), ("file:lines of evlua.fs", FS_LINES)):
            script = os.path.join(directory, name.split()[0] + ".lua")
            with open(script, "w", encoding="utf-8") as f:
                f.write(code)
            for program, command in ours(options, script, path).items():
                commands[f"{name}, {program}"] = command
            if code is IO_LINES:
                stock = (["lua5.3", script, path], None)
        commands["io.lines, lua5.3"] = stock
        samples = in_turn(options, commands)
    same_output(samples)
    with_ratios("lines of 1 GiB", samples, "io.lines, lua5.3", results)


def large_files(options, results):
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "text")
        make_text(path)
        copies(options, results, path)
        lines(options, results, path)


def make_tree(root):
    """100 folders of 100 files of up to 8 KB."""
    source = random.Random(6)
    for folder in range(100):
        os.mkdir(f"{root}/{folder:02}")
        for name in range(100):
            with open(f"{root}/{folder:02}/{name:02}", "wb") as f:
                f.write(source.randbytes(source.randint(100, 8000)))


def tree(options, results):
    with tempfile.TemporaryDirectory() as root:
        make_tree(root)
        commands = ours(options, f"{PEERS}/hash_tree.lua", root)
        peer = with_node(commands, f"{PEERS}/node_hash_tree.js", root)
        samples = in_turn(options, commands)
    same_output(samples)
    with_ratios("SHA-256 of a tree of 10,000 files", samples, peer, results)


def columns_of(texts, names):
    """Medians of the numbers that were printed."""
    numbers = zip(*([float(word) for word in text.split()] for text in texts))
    return {name: round(statistics.median(column)) for name, column in zip(names, numbers)}


def timers(options, results):
    commands = ours(options, f"{PEERS}/timers.lua")
    peer = with_node(commands, f"{PEERS}/node_timers.js")
    samples = in_turn(options, commands)
    with_ratios("10,000 timers at once", samples, peer, results,
                lambda texts: columns_of(texts, ("late_p50_us", "late_p99_us")))


def datagrams(options, results):
    count = min(10000, connections_max() - 100)
    samples = in_turn(options, ours(options, f"{HERE}/datagrams.lua", str(count), "10", "clients"))
    with_ratios(f"{count:,} UDP echo clients at once", samples, None, results,
                lambda texts: columns_of(texts, ("echoes_per_s", "sent_again")))


def bench_everyday(options, results):
    for bench in (large_files, tree, timers, datagrams):
        bench(options, results)
