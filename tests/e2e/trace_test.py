"""--trace: the file is valid Trace Event Format, and shows what the threads did."""
import json
import os
import shutil
import signal
import tempfile

from browser import CHROMIUM, Page
from support import EVLUA, SANITIZED, check, exchange, main, run, serve, temporary

SCRIPT = """
local evlua = require "evlua"
local fs = require "evlua.fs"
for _ = 1, 5 do evlua.sleep(0.001) end
assert(fs.stat("/"))
"""
# The viewer of chrome://tracing, as Debian's golang-1.19-src has it.
VIEWER = "/usr/share/go-1.19/src/cmd/trace/static"
PAGE = """<!DOCTYPE html>
<script src="webcomponents.min.js"></script>
<link rel="import" href="trace_viewer_full.html">
<style>html, body, #viewer { margin: 0; width: 100%; height: 100% }</style>
<body></body>
<script>
document.addEventListener("WebComponentsReady", async () => {
  const container = document.createElement("track-view-container");
  container.id = "track_view_container";
  const viewer = document.createElement("tr-ui-timeline-view");
  viewer.track_view_container = container;
  Polymer.dom(viewer).appendChild(container);
  viewer.id = "viewer";
  viewer.globalMode = true;
  Polymer.dom(document.body).appendChild(viewer);
  const model = new tr.Model();
  const text = await (await fetch("trace.json")).text();
  await new tr.importer.Import(model).importTracesWithProgressDialog([text]);
  viewer.model = model;
  viewer.viewTitle = "trace";
  window.model = model;
});
</script>
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


def test_viewer():
    if SANITIZED or shutil.which(CHROMIUM) is None or not os.path.exists(VIEWER):
        print("  (not looked at: no Chromium, or no viewer, which is in golang-1.19-src; or it would take too long)")
        return
    with tempfile.TemporaryDirectory() as directory:
        for name in ("trace_viewer_full.html", "webcomponents.min.js"):
            shutil.copy(os.path.join(VIEWER, name), directory)
        with open(os.path.join(directory, "index.html"), "w", encoding="utf-8") as f:
            f.write(PAGE)
        got = run("--workers", "2", "--trace", os.path.join(directory, "trace.json"), "-e", SCRIPT)
        check(got.returncode == 0, got)
        program, port = serve(APP, "--static", directory)
        with program, Page(f"http://127.0.0.1:{port}/index.html") as page:
            seen = json.loads(page.wait_for("""window.model && JSON.stringify({
              warnings: model.importWarnings.map((warning) => warning.message),
              processes: model.getAllProcesses().map((process) => [process.pid, process.name]),
              threads: model.getAllThreads().map((thread) => thread.name),
              nested: model.getAllThreads().flatMap((thread) => thread.sliceGroup.slices.flatMap(
                (slice) => slice.subSlices.map((inner) => slice.title + " > " + inner.title))),
              places: model.getAllThreads().flatMap((thread) => thread.sliceGroup.slices.map((slice) => slice.args.at)),
            })"""))
            check(seen["warnings"] == [], seen)
            check(len(seen["processes"]) == 1 and seen["processes"][0][0] > 1, seen)
            check(seen["processes"][0][1] == "evlua", seen)
            check({"worker 0", "worker 1"} <= set(seen["threads"]), seen)
            check({"run > strand", "strand > lua"} <= set(seen["nested"]), seen)
            check("(command line):4" in seen["places"], seen)
            page.wait_for("document.body.innerText.includes('worker 1')")
            with open(os.path.join(os.path.dirname(EVLUA), "trace.png"), "wb") as f:
                f.write(page.screenshot())
            check(len({pixel for row in page.picture() for pixel in row}) > 20, "slices are drawn")


try:
    main(globals())
finally:
    os.unlink(APP)
