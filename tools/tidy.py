#!/usr/bin/env python3
"""Checks of the source tree that compilers do not make.

    tools/tidy.py [ROOT]

Prints `file:line: rule: message` for each finding and exits with 1 if there is one. The rules:

    include     includes point down only, and each outside library is known to one layer
    columns     lines of at most 120 characters
    function    functions of at most 70 lines, not counting tables in them
    coroutine   shapes that g++ 12 miscompiles or that outlive their captures
    descriptor  what opens a descriptor keeps child processes from inheriting it
    thread      threads are started by core/start_thread.h, which tells when there is none to be had
    header      headers open with prose and `#pragma once`
    leftover    no notes to oneself
    dead        headers that nobody includes, sources that no target compiles

tests/tidy/tidy_test.py feeds each rule bad and good snippets.
"""
import os
import re
import sys

COLUMNS_MAX = 120
FUNCTION_LINES_MAX = 70

LAYERS = {
    "core": {"core"},
    "backends": {"core", "backends"},
    "net": {"core", "net"},
    "fs": {"core", "fs"},
    "lua": {"core", "net", "fs", "lua"},
    "tools": {"core", "backends", "net", "fs", "lua", "tools"},
}
FOLDERS = [*LAYERS, "tests", "benchmarks", "examples", "types", "docs", "cmake", ".ci", "packaging"]
EVERYWHERE = {"tests", "benchmarks"}  # may include any layer and any library

# Outside headers, and the layers that may know them.
LIBRARIES = [
    (re.compile(r"liburing(\.h|/)|linux/io_uring\.h|ev(\+\+)?\.h$|sys/event\.h"), {"backends"}),
    (re.compile(r"sys/epoll\.h$"), {"backends", "net"}),  # net gathers descriptors in one, and waits for that elsewhere
    (re.compile(r"ares\.h$"), {"net"}),
    (re.compile(r"(lua5\.3/)?(lua|lauxlib|lualib|luaconf)\.h(pp)?$"), {"lua", "tools"}),
    (re.compile(r"llhttp\.h$"), {"net"}),
    (re.compile(r"simdjson\.h$"), {"lua"}),
    (re.compile(r"CLI/|toml\+\+/"), {"tools"}),
    (re.compile(r"(doctest|benchmark)/|seccomp\.h$"), set()),
]

COMPILED = re.compile(
    r"((core|backends|net|fs|lua|tools)/.*|tests/(core|backends|net|fs|lua|tools|sim|support)/[^/]*"
    r"|tests/fuzz/[^/]*_fuzz|benchmarks/(micro/)?[^/]*)\.cpp$")
TEXT = (".h", ".hpp", ".cpp", ".c", ".py", ".lua", ".sh", ".cmake", ".txt")
LEFTOVER = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X"]) + r")\b")

TOKEN = re.compile(
    r"//(?:\\\n|[^\n])*|/\*.*?\*/|R\"([^()\\ ]{0,16})\(.*?\)\1\"|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])+'", re.S)


def blank(text):
    """The text with comments and the insides of literals turned to spaces; offsets and lines stay."""

    def spaces(match):
        found = match.group()
        hidden = re.sub(r"[^\n]", " ", found)
        return hidden if found[0] == "/" else '"' + hidden[1:-1] + '"'

    without_separators = re.sub(r"(?<=[0-9a-fA-F])'(?=[0-9a-fA-F])", "_", text)
    return TOKEN.sub(spaces, without_separators)


def line_of(text, offset):
    return text.count("\n", 0, offset) + 1


def closing(text, start):
    """The offset of the bracket that closes the one at `start`, or the end of the text."""
    depth = 0
    for i in range(start, len(text)):
        if text[i] in "([{":
            depth += 1
        elif text[i] in ")]}":
            depth -= 1
            if depth == 0:
                return i
    return len(text)


class Tree:
    def __init__(self, root):
        self.root = root
        self.findings = []
        self.files = {}
        for folder in FOLDERS:
            for place, folders, names in os.walk(os.path.join(root, folder)):
                folders[:] = sorted(f for f in folders if f not in ("__pycache__", "build", "results"))
                for name in sorted(names):
                    if name.endswith(TEXT):
                        self.read(os.path.join(place, name))
        if os.path.exists(os.path.join(root, "CMakeLists.txt")):
            self.read(os.path.join(root, "CMakeLists.txt"))

    def read(self, path):
        with open(path, encoding="utf-8", errors="replace") as file:
            self.files[os.path.relpath(path, self.root)] = file.read()

    def find(self, path, line, rule, message):
        self.findings.append((path, line, rule, message))


def check_include(tree, path, line, quoted, name):
    layer = path.split("/")[0]
    if layer in EVERYWHERE:
        if quoted and name not in tree.files:
            tree.find(path, line, "include", f"{name} is not in the tree (write the path from the root)")
        return
    for pattern, layers in LIBRARIES:
        if pattern.match(name) and not (quoted and name in tree.files) and layer not in layers:
            owners = " and ".join(sorted(layers)) or "tests"
            tree.find(path, line, "include", f"{name} belongs to {owners}, not {layer}")
    if not quoted:
        return
    if name not in tree.files:
        tree.find(path, line, "include", f"{name} is not in the tree (write the path from the root)")
    elif name.split("/")[0] not in LAYERS[layer]:
        tree.find(path, line, "include", f"{layer} must not include {name}")


def check_includes(tree):
    included = set()
    pattern = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.M)
    for path, text in tree.files.items():
        if not path.endswith((".h", ".cpp")) or path.split("/")[0] not in (*LAYERS, *EVERYWHERE):
            continue
        for match in pattern.finditer(text):
            name = match.group(2)
            included.add(name)
            check_include(tree, path, line_of(text, match.start()), match.group(1) == '"', name)
    for path in tree.files:
        if path.endswith(".h") and path not in included:
            tree.find(path, 1, "dead", "nobody includes this header")
        if path.endswith(".cpp") and not path.startswith("examples/") and not COMPILED.match(path):
            tree.find(path, 1, "dead", "no target compiles this file")


def check_lines(tree, path, text):
    for number, line in enumerate(text.split("\n"), 1):
        if len(line) > COLUMNS_MAX:
            tree.find(path, number, "columns", f"{len(line)} characters, at most {COLUMNS_MAX}")
        if LEFTOVER.search(line):
            tree.find(path, number, "leftover", "file an issue, or do it")


def check_header(tree, path, text):
    if not text.startswith("//"):
        tree.find(path, 1, "header", "open with prose: what this is, who may call it, who owns what")
    if not re.search(r"\A\s*#[ \t]*pragma once\b", blank(text)):
        tree.find(path, 1, "header", "#pragma once comes first")


# What opens a descriptor: by streams and calls that cannot say close-on-exec, or by those that can.
OPENS = re.compile(r"\bstd::w?(?P<stream>[io]?fstream|filebuf)\b"
                   r"|(?<![\w>])::(?P<plain>accept|creat|dup|epoll_create|inotify_init|pipe|popen)\s*\("
                   r"|(?<![\w>])::(?P<flagged>accept4|epoll_create1|eventfd|inotify_init1|memfd_create|mkostemp|open"
                   r"|openat|pipe2|socket|socketpair)\s*\("
                   r"|\b(?P<mode>fopen)\s*\(")


def check_descriptors(tree, path, text, code):
    for match in OPENS.finditer(code):
        arguments = text[match.end():closing(code, match.end() - 1)]
        kept = match["flagged"] and "CLOEXEC" in arguments
        kept = kept or match["mode"] and re.search(r'"[^"]*e[^"]*"\s*$', arguments)
        if not kept:
            tree.find(path, line_of(code, match.start()), "descriptor",
                      f"{match.group().rstrip('( ')} without close-on-exec: a child would inherit it")


STARTS_THREAD = re.compile(r"\bstd::jthread\b|\bstd::async\b|\bpthread_create\b|\bstd::thread\s*\w*\s*[({]")


def check_threads(tree, path, code):
    for match in STARTS_THREAD.finditer(code):
        if path != "core/start_thread.h":
            tree.find(path, line_of(code, match.start()), "thread", "core/start_thread.h tells when there is none")


SCOPE = re.compile(r'^\s*(template\s*<.*>\s*)?(requires\b.*\s)?(export\s+)?'
                   r'((inline\s+)?namespace|class|struct|union|enum|extern\s*"\s*")(?!\w)', re.S)


def is_scope(head):
    match = SCOPE.match(head)
    return bool(match) and not (match.group(4).startswith("extern") and "(" in head)


def table_lines(code, start, end):
    """How many lines of a function's body hold the rows of tables: `name = { ... };` over several lines."""
    lines = 0
    while match := re.compile(r"=\s*\{").search(code, start, end):
        start = closing(code, match.end() - 1)
        lines += code.count("\n", match.end(), start)
    return lines


def check_functions(tree, path, code):
    """A block that is neither namespace, type nor data, outside of any other: a function's body."""
    scopes, i, head = 0, 0, 0
    code = re.sub(r"^[ \t]*#(?:\\\n|[^\n])*", lambda m: re.sub(r"[^\n]", " ", m.group()), code, flags=re.M)
    while i < len(code):
        if code[i] in ";":
            head = i + 1
        elif code[i] == "}":
            scopes, head = scopes - 1, i + 1
        elif code[i] == "{":
            words = re.sub(r"^\s*(public|private|protected)\s*:", "", code[head:i]).lstrip()
            if is_scope(words):
                scopes, head = scopes + 1, i + 1
            else:
                end = closing(code, i)
                start = i - len(words)
                lines = line_of(code, end) - line_of(code, start) + 1 - table_lines(code, i + 1, end)
                if lines > FUNCTION_LINES_MAX and not re.search(r"=\s*$", words):
                    tree.find(path, line_of(code, start), "function",
                              f"{lines} lines, at most {FUNCTION_LINES_MAX}: split it")
                i, head = end, end + 1
        i += 1


LAMBDA = re.compile(r"(?<![\w)\]\[])\s*\[(?!\[)([^\[\]]*)\]")
LAMBDA_REST = re.compile(r"\s*((mutable|noexcept|constexpr|static)\s*|->\s*[\w:<>,*& ]+)*\{")


def lambdas(code):
    """Yields (offset of `[`, captures, body start, body end) of each lambda, outer ones first."""
    for match in LAMBDA.finditer(code):
        after = match.end()
        while after < len(code) and code[after].isspace():
            after += 1
        if after < len(code) and code[after] == "<":
            after = code.find(">", after) + 1
        if after < len(code) and code[after] == "(":
            after = closing(code, after) + 1
        rest = LAMBDA_REST.match(code, after)
        if rest:
            start = rest.end() - 1
            yield code.index("[", match.start()), match.group(1).strip(), start, closing(code, start)


def without_lambda_bodies(code):
    chars = list(code)
    for _, _, start, end in lambdas(code):
        for i in range(start, min(end + 1, len(chars))):
            chars[i] = " " if chars[i] != "\n" else "\n"
    return "".join(chars)


def check_lambda_coroutines(tree, path, code):
    for offset, captures, start, end in lambdas(code):
        body = without_lambda_bodies(code[start + 1:end])
        if captures and re.search(r"\bco_(await|return|yield)\b", body):
            tree.find(path, line_of(code, offset), "coroutine",
                      "a capturing lambda is no coroutine: its captures die before the frame; pass parameters")


def check_conditions(tree, path, code):
    for match in re.finditer(r"\b(if|while|switch|for)\b\s*(constexpr\s*)?\(", code):
        inside = without_lambda_bodies(code[match.end() - 1:closing(code, match.end() - 1)])
        if re.search(r"\bco_await\b", inside):
            tree.find(path, line_of(code, match.start()), "coroutine",
                      f"co_await in the condition of `{match.group(1)}`: name its result first")


def statement_start(code, offset):
    """The text of the statement before `offset`, without labels, `else` and leading conditions."""
    start, depth = offset, 0
    while start > 0 and not (depth <= 0 and code[start - 1] in ";{}"):
        start -= 1
        depth += {")": 1, "(": -1}.get(code[start], 0)
    before = code[start:offset]
    while True:
        before = before.lstrip()
        match = re.match(r"(else|do)\b|(case\b[^:]*(::[^:]*)*|default\s*|[A-Za-z_]\w*\s*):(?!:)", before)
        if match:
            before = before[match.end():]
            continue
        match = re.match(r"(if|while|for|switch)\b\s*(constexpr\s*)?\(", before)
        if not match:
            return before.rstrip()
        before = before[closing(before, match.end() - 1) + 1:]


def statement_end(code, offset):
    depth = 0
    for i in range(offset, len(code)):
        if code[i] in "([{":
            depth += 1
        elif code[i] in ")]}":
            depth -= 1
        if depth < 0 or (depth == 0 and code[i] == ";"):
            return i
    return len(code)


def check_awaits(tree, path, code):
    for match in re.finditer(r"(?<!operator )\bco_await\b", code):
        line = line_of(code, match.start())
        before = statement_start(code, match.start())
        whole = before in ("", "co_return", "(void)") or re.search(r"(?<![=!<>])=$", before)
        if not whole or before.count("(") != before.count(")"):
            if not re.search(r"\b(if|while|switch|for)\s*\(", before):  # said by check_conditions
                tree.find(path, line, "coroutine", "co_await only as a whole initialiser or statement")
        operand = without_lambda_bodies(code[match.end():statement_end(code, match.end())])
        if "{" in operand:
            tree.find(path, line, "coroutine", "braces in the operand of co_await: name the object first")
        if re.search(r"\bstd::(\w+::)*string\s*\(", operand):
            tree.find(path, line, "coroutine", "a temporary string in the operand of co_await: name it first")


def check(root):
    """All findings of the tree at `root`, sorted."""
    tree = Tree(root)
    check_includes(tree)
    for path, text in tree.files.items():
        check_lines(tree, path, text)
        if path.endswith(".h"):
            check_header(tree, path, text)
        if path.endswith((".h", ".cpp")):
            code = blank(text)
            check_functions(tree, path, code)
            if path.split("/")[0] in LAYERS:
                check_descriptors(tree, path, text, code)
                check_threads(tree, path, code)
            check_lambda_coroutines(tree, path, code)
            check_conditions(tree, path, code)
            check_awaits(tree, path, code)
    return sorted(set(tree.findings))


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    findings = check(root)
    for path, line, rule, message in findings:
        print(f"{path}:{line}: {rule}: {message}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
