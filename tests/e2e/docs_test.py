"""The documentation: its examples run, its links lead somewhere, and what Lua can see is all in it."""
import os
import re
import shlex
import shutil
import subprocess
import tempfile

from support import EVLUA, EVLUASERVER, LIMIT, SOURCE, THREAD_SANITIZER, Program, check, main

REFERENCE = os.path.join(SOURCE, "docs", "reference")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.S | re.M)
HEADING = re.compile(r"^#+ (.+)$", re.M)
# An example that is a file for evluaserver.
APP = re.compile(r"^return (function\(req, res\)|\{$)", re.M)
# An example for evlua test.
TESTS = re.compile(r"^(describe|it)\(", re.M)
# "-- curl [options] localhost:8080/path  -> 200 words of the answer"; with https:// the server has a certificate.
REQUEST = re.compile(r"^-- (curl .*?)\s+-> (\d{3})(?: (.+))?$", re.M)

# Layers below the documented modules, for their use only.
INTERNAL = {"evlua.task", "evlua.task_group", "evlua.shared.native", "evlua.thread.native",
            "evlua.sync.native", "evlua.fs.native", "evlua.find_files", "evlua.inspect", "evlua.complete",
            "evlua.test.assert",
            "evlua.test.run", "evlua.test.report",
            "evlua.multipart_reader",
            # LuaSocket's interface, which is in its own manual; tests/compat compares it with the original.
            "evlua.compat.socket", "evlua.compat.core", "evlua.compat.object", "evlua.compat.stream",
            "evlua.compat.tcp", "evlua.compat.udp", "evlua.compat.unix", "evlua.compat.names", "evlua.compat.native"}
# Registered type: name in the documentation, its page, its class in types/.
TYPES = {
    "evlua.stream": ("stream", "net", "Stream"),
    "evlua.listener": ("listener", "net", "Listener"),
    "evlua.datagram": ("datagram", "net", "Datagram"),
    "evlua.file": ("file", "fs", "File"),
    "evlua.watcher": ("watcher", "fs", "Watcher"),
    "evlua.child": ("child", "process", "Child"),
    "evlua.scope": ("scope", "evlua", "Scope"),
    "evlua.request": ("req", "http", "Request"),
    "evlua.response": ("res", "http", "Response"),
    "evlua.multipart": ("form", "http", "Multipart"),
    "evlua.part": ("part", "http", "Part"),
    "evlua.events": ("events", "http", "Events"),
    "evlua.dict": ("dict", "shared", "Dict"),
    "evlua.watch": ("watch", "shared", "Watch"),
    "evlua.lock": ("lock", "shared", "Lock"),
    "evlua.counter": ("counter", "shared", "Counter"),
    "evlua.histogram": ("histogram", "shared", "Histogram"),
    "evlua.channel": ("channel", "thread", "Channel"),
    "evlua.sync_channel": ("channel", "sync", "Channel"),
    "evlua.event": ("event", "sync", "Event"),
    "evlua.wait_group": ("wait_group", "sync", "WaitGroup"),
    "evlua.mutex": ("mutex", "sync", "Mutex"),
    "evlua.rwlock": ("rwlock", "sync", "Rwlock"),
    "evlua.semaphore": ("semaphore", "sync", "Semaphore"),
    "evlua.limiter": ("limiter", "sync", "Limiter"),
    "evlua.thread_pool": ("pool", "thread", "Pool"),
}
# One registry name is both a module and the type of tasks.
TASKS = ("task", "evlua", "Task")

# Slices that nothing ends, and programs (TSan makes a fork of vfork: cmake/Scripts.cmake).
BEYOND_TSAN = re.compile(r"while true do (end|pcall)|no-such-program|process[.]spawn")

# Prints a line for everything that is registered: kind, owner, name.
ENUMERATE = """
local function list(kind, owner, names)
  for name in pairs(names) do
    if type(name) == "string" and not name:find("^__") then print(kind, owner, name) end
  end
end
local modules = {}
for name in pairs(package.preload) do modules[#modules + 1] = name end
for _, name in ipairs(modules) do
  local exports = name:find("^evlua") and require(name)
  if type(exports) == "table" then list("function", name, exports) end
end
local function list_type(owner, index)
  if type(index) == "table" then return list("method", owner, index) end
  local _, methods = debug.getupvalue(index, 1)
  local _, properties = debug.getupvalue(index, 2)
  list("method", owner, methods)
  list("property", owner, properties)
end
for owner, meta in pairs(debug.getregistry()) do
  if type(owner) == "string" and owner:find("^evlua%.") and meta.__index then list_type(owner, meta.__index) end
end
require("evlua").scope(function(scope)
  local meta = getmetatable(scope)
  list_type("evlua.scope", meta.__index)
end)
local pool = getmetatable(require("evlua.thread").pool(1))
list_type("evlua.thread_pool", pool.__index)
list("method", "evlua.dict", require("evlua.shared").dict("enumerated"))  -- its methods are its own fields
os.exit(0)
"""


def text_of(*path):
    with open(os.path.join(SOURCE, *path), encoding="utf-8") as f:
        return f.read()


def pages():
    found = []
    for directory, _, names in os.walk(os.path.join(SOURCE, "docs")):
        found += [os.path.relpath(os.path.join(directory, name), SOURCE) for name in names if name.endswith(".md")]
    return ["README.md"] + sorted(found)


def examples():
    """(page, line, code), the code moved down so that Lua's line numbers are the page's."""
    for page in pages():
        if page != "README.md" and not page.startswith("docs/reference/"):
            continue
        text = text_of(page)
        for match in FENCE.finditer(text):
            if match[1] == "lua":
                line = text.count("\n", 0, match.start()) + 1
                yield page, line, "\n" * line + match[2]


def run_script(directory, name, code):
    command = [EVLUA, "test", name] if TESTS.search(code) else [EVLUA, name]
    got = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=LIMIT, check=False)
    check(got.returncode == 0 and "traceback" not in got.stderr, got.returncode, got.stdout, got.stderr)


def ask(port, command, status, words):
    arguments = shlex.split(command)
    got = subprocess.run([arguments[0], "-si", "--max-time", str(LIMIT), "--connect-to",
                          f"localhost:8080:127.0.0.1:{port}", *arguments[1:]],
                         capture_output=True, text=True, timeout=2 * LIMIT, check=False)
    check(got.returncode == 0, command, got)
    check(re.match(r"HTTP/(1\.1|2) " + status, got.stdout), f"{command}: not {status}: {got.stdout}")
    check(words in got.stdout, f"{command}: no {words!r} in {got.stdout}")


def run_app(directory, name, code):
    requests = REQUEST.findall(code)
    if not requests:  # in the README
        requests = [("curl localhost:8080/", "2", ""), ("curl -d text localhost:8080/", "2", "")]
    path = os.path.join(directory, name)
    encrypted = ["--tls-auto-dev"] if any("https://" in command for command, _, _ in requests) else []
    with Program(EVLUASERVER, path, "--listen", "127.0.0.1:0", "--workers", "1", *encrypted) as program:
        port = program.word_after("https://127.0.0.1:" if encrypted else "http://127.0.0.1:")
        for command, status, words in requests:
            ask(port, command, status, words)
        check(program.stop() == 0, program.text)
        # What goes wrong after the response was sent shows here only.
        wanted = sum(status == "500" for _, status, _ in requests)
        check(program.text.count("stack traceback") == wanted, program.text)


def test_examples():
    failures, count = [], 0
    for page, line, code in examples():
        count += 1
        if THREAD_SANITIZER and BEYOND_TSAN.search(code):
            continue
        is_app = APP.search(code) is not None
        with tempfile.TemporaryDirectory() as directory:
            name = os.path.basename(page)
            with open(os.path.join(directory, name), "w", encoding="utf-8") as f:
                f.write(code)
            try:
                check(is_app == (page.endswith("http.md") or "(req, res)" in code), "is this an app?")
                check(not is_app or page == "README.md" or REQUEST.search(code), "an app without '-- curl ... -> ...'")
                (run_app if is_app else run_script)(directory, name, code)
            except (AssertionError, subprocess.TimeoutExpired) as error:
                failures.append(f"{page}:{line}: {error}")
    check(count > 100, "the examples were not found")
    check(not failures, "\n".join(failures))


def registered():
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "enumerate.lua")
        with open(path, "w", encoding="utf-8") as f:
            f.write(ENUMERATE)
        # The server's, since it has everything: modules, their types, and the request and response.
        got = subprocess.run([EVLUASERVER, path, "--listen", "127.0.0.1:0", "--workers", "1"], capture_output=True,
                             text=True, timeout=LIMIT, check=False)
    check(got.returncode == 0, got)
    return [line.split("\t") for line in got.stdout.splitlines()]


def place_of(kind, owner):
    """Name in the documentation, page, annotations, their class; None for what is internal."""
    if kind == "function":
        if owner in INTERNAL:
            return None
        name = owner.rsplit(".", 1)[-1]
        types = "types/evlua.lua" if owner == "evlua" else f"types/evlua/{name}.lua"
        return name, f"docs/reference/{name}.md", types, name
    if owner in INTERNAL and owner != "evlua.task":
        return None
    name, page, kind_name = TASKS if owner == "evlua.task" else TYPES[owner]
    types = "types/evlua.lua" if page == "evlua" else f"types/evlua/{page}.lua"
    return name, f"docs/reference/{page}.md", types, kind_name


def test_everything_is_in_an_example():
    """Every function and method is called by an example of its page; what a handler gets, by the name it has there."""
    code = {}
    for page, _, text in examples():
        code[page] = code.get(page, "") + text
    for other in ("https", "files", "observe"):
        code["docs/reference/http.md"] += code[f"docs/reference/{other}.md"]
    missing = []
    for kind, owner, name in registered():
        place = place_of(kind, owner)
        if place is None:
            continue
        shown, page, _, _ = place
        separator = r"\." if kind == "property" else r"[.:]"
        used = rf"\b{name}\b"
        if page.endswith("/http.md"):
            used = rf"^(?!--).*\b{shown}\b.*{separator}{name}\b"     # calls may be chained
        if not re.search(used, code[page], re.M):
            missing.append(f"{page}: no example with {shown} and its {name}")
    check(not missing, "\n".join(missing))


def test_nothing_is_missing():
    missing, documented, annotated = [], set(), set()
    everything = registered()
    owners = {owner for _, owner, _ in everything}
    modules = {"evlua", "evlua.net", "evlua.dns", "evlua.fs", "evlua.process", "evlua.encoding", "evlua.json",
               "evlua.shared", "evlua.sync", "evlua.thread", "evlua.task", "evlua.test", "evlua.compat"}
    check(owners >= set(TYPES) | modules, owners)
    for kind, owner, name in everything:
        if kind != "function":
            check(owner in INTERNAL or owner in TYPES, f"the type {owner} is new: where is it documented?")
        place = place_of(kind, owner)
        if place is None:
            continue
        shown, page, types, class_name = place
        separator = "." if kind == "function" else ":"
        documented.add(shown + separator + name)
        annotated.add(class_name + separator + name)
        heading, annotation = rf"^#+ {shown}{separator}{name}\(", rf"^function {class_name}{separator}{name}\("
        if kind == "property" or (kind == "function" and name in ("version", "null")):
            heading, annotation = rf"^\| `{shown}\.{name}` \|", rf"^---@field {name} "
        if not re.search(heading, text_of(page), re.M):
            missing.append(f"{page}: nothing about {shown}{separator}{name}")
        if not re.search(annotation, text_of(types), re.M):
            missing.append(f"{types}: nothing about {shown}{separator}{name}")
    # And nothing is described that is not there.
    for page in pages():
        for heading in re.findall(r"^#+ (\w+[.:]\w+)\(", FENCE.sub("", text_of(page)), re.M):
            if heading not in documented:
                missing.append(f"{page}: {heading} does not exist")
    for name in ["evlua.lua"] + ["evlua/" + name for name in os.listdir(os.path.join(SOURCE, "types", "evlua"))]:
        for function in re.findall(r"^function (\w+[.:]\w+)\(", text_of("types", name), re.M):
            if function not in annotated:
                missing.append(f"types/{name}: {function} does not exist")
    check(not missing, "\n".join(missing))


def documented_parameters(signature):
    """[(name, whether it may be left out)] of "path, data [, options]"."""
    depth, found = 0, []
    for token in re.findall(r"[\[\]]|\.\.\.|\w+", signature):
        if token in "[]":
            depth += 1 if token == "[" else -1
        else:
            found.append((token, depth > 0 and token != "..."))
    return found


def annotated_parameters(names, comments):
    """The same of a function of types/, and what its comments say of parameters that it does not have."""
    said = dict(re.findall(r"^---@param ([\w.]+)(\??)", comments, re.M))
    names = re.findall(r"\.\.\.|\w+", names)
    overloads = [set(re.findall(r"(\w+|\.\.\.)\??:", text)) - {"self"}
                 for text in re.findall(r"^---@overload fun\((.*?)\)", comments, re.M)]
    shorter = [known for known in overloads if known < set(names)]
    optional = {name for name in names if said.get(name) == "?" or any(name not in known for known in shorter)}
    unexplained = set(names) ^ set(said)
    return [(name, name in optional) for name in names], sorted(unexplained)


def test_signatures():
    """Parameters have the same names, in the same order, in the reference and in the annotations, and may be left out
    in both or in neither; each has its line."""
    different, count = [], 0
    for kind, owner, name in registered():
        place = place_of(kind, owner)
        if place is None or kind == "property":
            continue
        shown, page, types, class_name = place
        separator = "." if kind == "function" else ":"
        heading = re.search(rf"^#+ {shown}{separator}{name}\((.*)\)$", text_of(page), re.M)
        annotation = re.search(rf"((?:^---.*\n)*)^function {class_name}{separator}{name}\((.*?)\) end", text_of(types),
                               re.M)
        if heading is None or annotation is None:
            continue  # a field; see test_nothing_is_missing
        count += 1
        wanted = documented_parameters(heading[1])
        got, unexplained = annotated_parameters(annotation[2], annotation[1])
        if wanted != got:
            different.append(f"{shown}{separator}{name}: {page} has {wanted}, {types} has {got}")
        if unexplained:
            different.append(f"{types}: {class_name}{separator}{name}: no parameter, or no line for it: {unexplained}")
    check(count > 200, count)
    check(not different, "\n".join(different))


def test_options():
    page = text_of("docs", "reference", "programs.md")
    option = re.compile(r"(?<![\w-])--?[A-Za-z][a-z-]*")
    for program, path in (("evlua", EVLUA), ("evluaserver", EVLUASERVER)):
        said = subprocess.run([path, "--help"], capture_output=True, text=True, timeout=LIMIT, check=True).stdout
        section = re.search(rf"^## {program}\n(.*?)(?=^## |\Z)", page, re.S | re.M)[1]
        rows = "\n".join(re.findall(r"^\| (`-.*?) \|", section, re.M))
        check(set(option.findall(said)) == set(option.findall(rows)), program, "has", set(option.findall(said)),
              "and programs.md", set(option.findall(rows)))


def test_manual_pages():
    option = re.compile(r"(?<![\w-])--?[A-Za-z][a-z-]*")
    for program, path in (("evlua", EVLUA), ("evluaserver", EVLUASERVER)):
        said = subprocess.run([path, "--help"], capture_output=True, text=True, timeout=LIMIT, check=True).stdout
        page = text_of("docs", "man", f"{program}.1")
        items = re.findall(r"^\.It (Fl .*)", page, re.M)
        described = {"-" + name for item in items for name in re.findall(r"Fl ([A-Za-z-]+)", item)}
        check(set(option.findall(said)) == described, program, "has", set(option.findall(said)),
              "and its manual page", described)
        if shutil.which("mandoc"):
            lint = subprocess.run(["mandoc", "-Tlint", "-W", "warning"], input=page, capture_output=True, text=True,
                                  timeout=LIMIT, check=False)
            check(lint.returncode == 0, lint.stdout)


def anchors(page):
    found = set()
    for heading in HEADING.findall(FENCE.sub("", text_of(page))):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        number, unique = 0, slug
        while unique in found:
            number += 1
            unique = f"{slug}-{number}"
        found.add(unique)
    return found


def test_links():
    broken = []
    for page in pages():
        for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", text_of(page))):
            if re.match(r"\w+:", target):
                continue
            path, _, anchor = target.partition("#")
            file = os.path.normpath(os.path.join(os.path.dirname(page), path)) if path else page
            if not os.path.exists(os.path.join(SOURCE, file)):
                broken.append(f"{page}: {target}: no such file")
            elif anchor and anchor not in anchors(file):
                broken.append(f"{page}: {target}: no such heading")
    check(not broken, "\n".join(broken))


main(globals())
