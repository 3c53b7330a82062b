#!/usr/bin/env python3
"""End-to-end benchmarks against peers, in one run on one machine.

Servers are pinned to one core and the load to another; every peer is checked for the same answer, then all are measured
in turn, several rounds, and the medians are reported: CPU time per request (user + system of all server processes),
requests per second, p99 latency. Peers that are not installed are left out, by name.

usage: e2e.py [--build DIR] [--seconds S] [--rounds N] [--out FILE.json] [--markdown FILE.md]
              [--only http|front|transfers|fairness|monitor|states|sharing|threads|files|everyday|lua|process|operating]
              [--section WORDS]
"""
import argparse
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import tempfile
import time

from everyday import bench_everyday
from front import bench_front
from operating import bench_operating
from process import bench_process
from report import markdown
from servers import HERE, PEERS, SERVER_CORE
from serving import bench_fairness, bench_http, bench_sharing
from states import bench_monitor, bench_states
from threads import bench_threads
from transfers import bench_transfers


def output_of(command, env=None):
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ, **(env or {})))
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: {done.stderr}")
    return done.stdout


def bench_files(options, results):
    evlua = os.path.join(options.build, "evlua")
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "data")
        with open(path, "wb") as f:
            for _ in range(64):
                f.write(os.urandom(1 << 20))
        pin = ["taskset", "-c", SERVER_CORE]
        seconds = str(options.seconds)
        commands = {
            "evlua io_uring": (pin + [evlua, "--workers", "1", f"{PEERS}/read.lua", path, seconds],
                               {"EVLUA_BACKEND": "io_uring"}),
            "evlua libev": (pin + [evlua, "--workers", "1", f"{PEERS}/read.lua", path, seconds],
                            {"EVLUA_BACKEND": "libev"}),
        }
        if shutil.which("node"):
            commands["Node.js fs/promises"] = (pin + ["node", f"{PEERS}/node_read.js", path, seconds], {})
        samples = {name: [] for name in commands}
        if shutil.which("fio"):
            samples["fio io_uring"] = []
        for _ in range(options.rounds):
            for name, (command, env) in commands.items():
                samples[name].append(int(output_of(command, env)))
            if "fio io_uring" in samples:
                text = output_of(pin + ["fio", "--name=r", f"--filename={path}", "--rw=randread", "--bs=4k",
                                        "--size=64m", "--ioengine=io_uring", "--iodepth=64", "--time_based",
                                        f"--runtime={seconds}",
                                        "--output-format=json", "--invalidate=0"])
                samples["fio io_uring"].append(int(json.loads(text)["jobs"][0]["read"]["iops"]))
        for name, rows in samples.items():
            median = statistics.median(rows)
            results[f"file 4 KiB random read: {name}"] = {
                "operations_per_s": round(median), "spread": round((max(rows) - min(rows)) / median, 3)}


METAMETHODS = ("local store = {} for i = 1, 80 do store[i] = i end local proxy = setmetatable({}, {"
               "__index = function(_, key) return store[key] end, __len = function() return 80 end, "
               "__newindex = function(_, key, value) store[key] = value end}) ")

LUA_CASES = {
    "recursion": "local function fib(n) if n < 2 then return n end return fib(n-1) + fib(n-2) end fib(32)",
    "tables": "local t = {} for r = 1, 20 do for i = 1, 200000 do t[i] = i end local s = 0 "
              "for i = 1, #t do s = s + t[i] end end",
    "strings": "local n = 0 for i = 1, 400000 do local s = ('%d:%s'):format(i, 'x') n = n + #s:upper() end",
    "generator": "local g = coroutine.wrap(function() for i = 1, 4000000 do coroutine.yield(i) end end) "
                 "local s = 0 for i = 1, 4000000 do s = s + g() end",
    # What is our own so that it can wait, where nothing waits.
    "sort": "for r = 1, 300 do local t = {} for i = 1, 3000 do t[i] = i * 7919 % 100003 end table.sort(t) end",
    "sort by a function": "local function less(a, b) return a < b end for r = 1, 200 do local t = {} "
                          "for i = 1, 3000 do t[i] = i * 7919 % 100003 end table.sort(t, less) end",
    "string.match": "local n = 0 for i = 1, 400000 do "
                    "n = n + #('key' .. i .. ' = value'):match('^(%w+)%s*=%s*(.-)$') end",
    "gsub by a function": "local text = ('some words, '):rep(100) for i = 1, 2000 do "
                          "text:gsub('%w+', function(word) return word end) end",
    "tostring": "local t = setmetatable({}, {__tostring = function() return 'x' end}) "
                "for i = 1, 4000000 do tostring(t) end",
    "insert and remove": "local t = {} for r = 1, 20 do for i = 1, 200000 do table.insert(t, i) end "
                         "for i = 1, 200000 do table.remove(t) end end",
    "pairs": "local t = {} for i = 1, 100 do t[i] = i end "
             "for r = 1, 200000 do for _ in pairs(t) do end end",
    "string.find": "local text = 'some words here, and there' for i = 1, 300000 do "
                   "text:find('[a-z]+') text:find('^%s*$') text:find('words') text:find('.', 5) end",
    "load of a function's pieces": "for r = 1, 20000 do local i = 0 load(function() i = i + 1 "
                                   "return i <= 20 and 'local a = 1 + 2 ' or nil end) end",
    # The same where it calls metamethods that are functions.
    "table.unpack by __index": METAMETHODS + "for i = 1, 40000 do table.unpack(proxy, 1, 40) end",
    "table.concat by __index": METAMETHODS + "for i = 1, 40000 do table.concat(proxy, ',', 1, 40) end",
    "table.insert by metamethods": METAMETHODS + "for i = 1, 20000 do table.insert(proxy, 60, i) end",
    "table.remove by metamethods": METAMETHODS + "for i = 1, 20000 do table.remove(proxy, 60) end",
    "table.insert at the end": METAMETHODS + "for i = 1, 1000000 do table.insert(proxy, i) end",
    "table.move by metamethods": METAMETHODS + "for i = 1, 20000 do table.move(proxy, 1, 40, 41) end",
    "table.move by __eq": "local at = {__eq = function() return true end} local a = setmetatable({1, 2, 3}, at) "
                          "local b = setmetatable({1, 2, 3}, at) for i = 1, 1000000 do table.move(a, 1, 10, 2, b) end",
    "ipairs by __index": METAMETHODS + "for i = 1, 20000 do for _ in ipairs(proxy) do end end",
    "sort by __lt": "local at = {__lt = function(a, b) return a[1] < b[1] end} for r = 1, 100 do local t = {} "
                    "for i = 1, 1000 do t[i] = setmetatable({i * 7919 % 10007}, at) end table.sort(t) end",
}


def bench_lua(options, results):
    evlua = os.path.join(options.build, "evlua")
    pin = ["taskset", "-c", SERVER_CORE]
    for name, code in LUA_CASES.items():
        timed = "local began = os.clock() " + code + " print(os.clock() - began)"
        ratios, times = [], []
        for _ in range(options.rounds):
            mine = float(output_of(pin + [evlua, "--workers", "1", "-e", timed]))
            stock = float(output_of(pin + ["lua5.3", "-e", timed]))
            ratios.append(mine / stock)
            times.append(mine)
        results[f"Lua CPU time, evlua / lua5.3: {name}"] = {"ratio": round(statistics.median(ratios), 3),
                                                  "spread": round(max(ratios) - min(ratios), 3)}


def machine():
    with open("/proc/cpuinfo") as f:
        model = re.search(r"model name\s*:\s*(.*)", f.read())
    return {"cpu": model.group(1) if model else platform.machine(), "cores": os.cpu_count(),
            "kernel": platform.release().split("-")[0], "date": time.strftime("%Y-%m-%d")}


BENCHES = {"http": bench_http, "front": bench_front, "transfers": bench_transfers, "fairness": bench_fairness,
           "monitor": bench_monitor, "states": bench_states, "sharing": bench_sharing, "threads": bench_threads,
           "files": bench_files, "everyday": bench_everyday, "lua": bench_lua, "process": bench_process,
           "operating": bench_operating}


def main():
    parser = argparse.ArgumentParser(description="End-to-end benchmarks against peers")
    parser.add_argument("--build", default=os.path.join(HERE, "..", "build", "release"))
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out")
    parser.add_argument("--markdown")
    parser.add_argument("--only", choices=BENCHES)
    parser.add_argument("--section", help="of front: only those with these words in their names")
    options = parser.parse_args()
    results = {}
    for name, bench in BENCHES.items():
        if options.only in (None, name):
            bench(options, results)
    report = {"machine": machine(), "seconds": options.seconds, "rounds": options.rounds, "results": results}
    text = markdown(report)
    print(text)
    if options.out:
        with open(options.out, "w") as f:
            json.dump(report, f, indent=1)
    if options.markdown:
        with open(options.markdown, "w") as f:
            f.write(text)


if __name__ == "__main__":
    main()
