"""--trace: the file is valid Trace Event Format, and shows what the threads did."""
import json
import os
import signal
import tempfile

from support import check, exchange, main, run, serve, temporary

SCRIPT = """
local evlua = require "evlua"
local fs = require "evlua.fs"
for _ = 1, 5 do evlua.sleep(0.001) end
assert(fs.stat("/"))
"""
APP = temporary("""return function(req, res) res:text("Hello\\n") end""")


def spans_of(path):
    with open(path, encoding="utf-8") as f:
        events = json.load(f)["traceEvents"]
    names = {event["args"]["name"] for event in events if event["ph"] == "M"}
    spans = [event for event in events if event["ph"] == "X"]
    check(len(names) + len(spans) == len(events), "other events")
    check(any(name.startswith("worker ") for name in names), names)
    check(all(span["dur"] >= 0 and span["ts"] >= 0 for span in spans), spans)
    # On one thread a span lies within another or beside it: a viewer stacks them.
    for thread in {span["tid"] for span in spans}:
        open_until = []
        mine = [span for span in spans if span["tid"] == thread]
        for span in sorted(mine, key=lambda s: (s["ts"], -s["dur"])):
            end = span["ts"] + span["dur"]
            while open_until and open_until[-1] <= span["ts"]:
                open_until.pop()
            check(not open_until or end <= open_until[-1] + 0.002, "overlap", span)
            open_until.append(end)
    return spans


def test_script():
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "trace.json")
        for script in (SCRIPT, SCRIPT + "os.exit(0)"):
            got = run("--trace", path, "-e", script)
            check(got.returncode == 0, got)
            spans = spans_of(path)
            check({"lua", "park", "run"} <= {span["name"] for span in spans}, spans)
            places = {span["args"]["at"] for span in spans if span["name"] == "lua" and "args" in span}
            check("(command line):4" in places, places)
        got = run("--trace", "/nowhere/trace", "-e", "print(1)")
        check(got.returncode == 2 and "cannot write the trace '/nowhere/trace'" in got.stderr, got)


def test_server():
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "trace.json")
        program, port = serve(APP, "--workers", "2", "--trace", path, "--stats")
        with program:
            for _ in range(20):
                exchange(port, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            check(program.stop(signal.SIGTERM) == 0, program.text)
        check("\nworker 1  " in program.text and "\nLua states: 2 made, at most 2" in program.text, program.text)
        name = os.path.basename(APP)
        places = [span.get("args", {}).get("at", "") for span in spans_of(path) if span["name"] == "lua"]
        handlers = [place for place in places if name in place]
        check(len(handlers) >= 20, handlers)


try:
    main(globals())
finally:
    os.unlink(APP)
