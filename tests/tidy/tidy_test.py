#!/usr/bin/env python3
"""Each rule of tools/tidy.py finds its mistake, and lets the right form pass."""
import os
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools"))
import clang_tidy  # noqa: E402
import tidy  # noqa: E402

NOTE = "TO" + "DO"
HEADER = "// What it is.\n#pragma once\n"


def findings(files):
    """What tidy finds in a tree of these files, as (path, line, rule)."""
    with tempfile.TemporaryDirectory() as root:
        for path, text in files.items():
            os.makedirs(os.path.dirname(os.path.join(root, path)), exist_ok=True)
            with open(os.path.join(root, path), "w", encoding="utf-8") as file:
                file.write(text)
        return [(path, line, rule) for path, line, rule, _ in tidy.check(root)]


def body(code):
    """What tidy finds in a function body: (line within it, rule)."""
    found = findings({"core/a.cpp": "Task<int> f(int x) {\n" + code + "\n}\n"})
    return [(line - 1, rule) for _, line, rule in found]


class Include(unittest.TestCase):
    def check_pair(self, layer, target):
        other = target + "/b.h"
        files = {other: HEADER, layer + "/a.cpp": f'#include "{other}"\n'}
        if "backends" not in (layer, target):
            files["backends/c.cpp"] = f'#include "{other}"\n' if target == "core" else ""
        return [f for f in findings(files) if f[2] == "include"]

    def test_down_passes(self):
        for layer, target in [("backends", "core"), ("net", "core"), ("fs", "core"), ("lua", "net"), ("lua", "fs"),
                              ("tools", "backends"), ("tools", "lua"), ("tests", "tools"), ("core", "core")]:
            self.assertEqual(self.check_pair(layer, target), [], (layer, target))

    def test_up_or_sideways_is_found(self):
        for layer, target in [("core", "backends"), ("core", "lua"), ("backends", "net"), ("net", "fs"), ("fs", "net"),
                              ("net", "backends"), ("fs", "backends"), ("net", "lua"), ("lua", "backends"),
                              ("lua", "tools"), ("core", "tests")]:
            self.assertEqual(self.check_pair(layer, target), [(layer + "/a.cpp", 1, "include")], (layer, target))

    def test_outside_libraries_stay_in_their_layer(self):
        owners = {"liburing.h": {"backends"}, "ev.h": {"backends"}, "sys/event.h": {"backends"},
                  "lua.h": {"lua", "tools"}, "lauxlib.h": {"lua", "tools"}, "llhttp.h": {"net"},
                  "CLI/CLI.hpp": {"tools"}, "doctest/doctest.h": set(), "vector": set(tidy.LAYERS),
                  "event.h": set(tidy.LAYERS)}
        for header, layers in owners.items():
            for layer in tidy.LAYERS:
                path = layer + "/a.cpp"
                expected = [] if layer in layers else [(path, 1, "include")]
                self.assertEqual(findings({path: f"#include <{header}>\n"}), expected, (header, layer))

    def test_paths_start_at_the_root(self):
        files = {"core/b.h": HEADER, "core/a.cpp": '#include "b.h"\n', "core/c.cpp": '#include "core/b.h"\n'}
        self.assertEqual(findings(files), [("core/a.cpp", 1, "include")])


class Coroutine(unittest.TestCase):
    def test_conditions(self):
        for code in ["if (co_await g(x)) return;", "if (auto r = co_await g(x); r) return;",
                     "while (co_await g(x)) {\n}", "switch (co_await g(x)) {\n}", "for (; co_await g(x);) h();",
                     "if constexpr (co_await g()) h();",
                     "do h(); while (co_await g());", "if (x == 1 &&\n    co_await g(x)) return;"]:
            self.assertEqual(body(code), [(1, "coroutine")], code)

    def test_braces_in_the_operand(self):
        for code in ["auto r = co_await connect({.host = host});", "co_await connect(Options{});", "co_await f({});",
                     "auto r = co_await connect(\n    Options{\n    .port = 1});", "co_return co_await g(A{1});"]:
            self.assertEqual(body(code), [(1, "coroutine")], code)

    def test_a_temporary_string_in_the_operand(self):
        self.assertEqual(body("auto r = co_await open(std::string(path));"), [(1, "coroutine")])

    def test_only_a_whole_initialiser_or_statement(self):
        for code in ["g(co_await h());", "x = 1 + co_await h();", "auto y = (co_await h()).value();",
                     "return_if(co_await h());", "int a = 1, b = *co_await h();", "CHECK(co_await h() == 3);"]:
            self.assertEqual(body(code), [(1, "coroutine")], code)

    def test_capturing_lambda(self):
        for capture in ["&", "=", "this", "x", "&x, y = 1"]:
            for code in [f"auto t = [{capture}]() -> Task<int> {{ co_return 1; }};",
                         f"spawn([{capture}](int n) mutable -> Task<void> {{\n  co_await g(n);\n}});",
                         f"spawn([{capture}] {{ co_yield 1; }}());"]:
                self.assertEqual(body(code), [(1, "coroutine")], code)

    def test_a_coroutine_lambda_inside_a_plain_one(self):
        self.assertEqual(body("run([&] {\n  spawn([](int n) -> Task<void> { co_await g(n); }(1));\n});"), [])
        self.assertEqual(body("run([] {\n  spawn([&](int n) -> Task<void> { co_await g(n); }(1));\n});"),
                         [(2, "coroutine")])

    def test_safe_forms_pass(self):
        for code in ["auto r = co_await g(x);", "co_await g(x);", "r = co_await g(x);", "co_return co_await g(x);",
                     "if (x) co_await g(x);", "else co_await g(x);", "for (int i = 0; i < 3; ++i) co_await g(i);",
                     "for (int i = 0; i < 3; ++i) {\n  const Result<int> r = co_await g(i);\n  if (!r) co_return r;\n}",
                     "case Kind::read: co_await g(x);", "case 3: r = co_await g(x);", "default: co_await g(x);",
                     "auto t = [](int n) -> Task<int> { co_return n; };", "int a[3] = {};\na[x] = f(); co_await g();",
                     "auto r = co_await run(pool, [&] { return h(x); });", "[[maybe_unused]] int y = co_await g();",
                     "// if (co_await g()) is banned", 'log("if (co_await g({}))");', "(void)co_await g(x);",
                     "if (x) {\n  co_await g(1'000);\n} else {\n  co_await g('{');\n}"]:
            self.assertEqual(body(code), [], code)


class Descriptor(unittest.TestCase):
    def test_what_a_child_would_inherit(self):
        for code in ["std::ifstream in(a);", "std::ofstream(path) << 1;", "std::filebuf f;", 'std::fopen(path, "r");',
                     'fopen("e", "w");', "int fd = ::open(path, O_RDONLY);", "::accept(fd, nullptr, 0);", "::dup(1);",
                     "::pipe(ends);", "int s = ::socket(\n    AF_UNIX, SOCK_STREAM, 0);"]:
            self.assertEqual(body(code), [(1, "descriptor")], code)
            self.assertEqual(findings({"tests/core/a_test.cpp": code}), [], code)

    def test_what_no_child_gets(self):
        for code in ["std::istringstream in(text);", 'std::fopen(path, "re");', "::open(path, O_RDONLY | O_CLOEXEC);",
                     "int s = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);", "log.open(path);",
                     "File::open(path);", "state->accept(fd);", "// ::open(path)", 'g("std::ifstream");']:
            self.assertEqual(body(code), [], code)


class Thread(unittest.TestCase):
    def test_what_throws_when_there_is_none(self):
        for code in ["std::thread t([] {});", "t = std::thread(f);", "std::thread{f}.detach();", "std::jthread t(f);",
                     "pthread_create(&t, nullptr, f, nullptr);", "auto x = std::async(f);"]:
            self.assertEqual(body(code), [(1, "thread")], code)

    def test_what_does_not(self):
        for code in ["auto t = start_thread(f);", "std::vector<std::thread> all;", "std::thread t;",
                     "std::thread::id me;"]:
            self.assertEqual(body(code), [], code)


class Looks(unittest.TestCase):
    def test_columns(self):
        self.assertEqual(findings({"core/a.cpp": "//" + "x" * 118 + "\n//" + "x" * 119 + "\n"}),
                         [("core/a.cpp", 2, "columns")])
        self.assertEqual(findings({"core/a.cpp": "//" + "\u00e9" * 118 + "\n"}), [])

    def test_leftover(self):
        self.assertEqual(findings({"lua/lib/a.lua": f"-- {NOTE} later\n", "core/a.cpp": "// mastodon\n"}),
                         [("lua/lib/a.lua", 1, "leftover")])

    def test_headers_open_with_prose_and_pragma_once(self):
        user = {"core/a.cpp": '#include "core/a.h"\n'}
        self.assertEqual(findings({**user, "core/a.h": HEADER}), [])
        for text in ["#pragma once\n", "// What it is.\nint x;\n", "// What it is.\nint x;\n#pragma once\n"]:
            self.assertEqual(findings({**user, "core/a.h": text}), [("core/a.h", 1, "header")], text)

    def test_long_functions(self):
        def rule(start, lines, end="}"):
            code = start + " {\n" + "  f();\n" * (lines - 2) + end + "\n"
            return findings({"core/a.cpp": "namespace a {\n" + code + "}\n"})

        found = [("core/a.cpp", 2, "function")]
        for start in ["int f()", "A::A(int x) noexcept", "template <class T>\n  requires R<T>\nvoid f()",
                      'TEST_CASE("x")', 'extern "C" int f()', "auto f() -> A<int>", "bool operator==(A a, A b)"]:
            self.assertEqual(rule(start, 70 - start.count("\n")), [], start)
            self.assertEqual(rule(start, 71 - start.count("\n")), found, start)
        self.assertEqual(rule("A::A() : a_{1}, b_(2)", 90)[:1], found)

    def test_types_and_tables_may_be_long(self):
        lines = "  int f() { return 1; }\n" * 80
        for start, end in [("class A : public B", "};"), ("template <class T>\nstruct A", "};"), ("enum class E", "};"),
                           ("namespace b", "}"), ("const int table[] =", "};"), ("union U", "};")]:
            self.assertEqual(findings({"core/a.cpp": start + " {\n" + lines + end + "\n"}), [], start)

    def test_tables_in_a_function_do_not_count(self):
        table = "  static const int t[] = {\n" + "    1,\n" * 90 + "  };\n"
        self.assertEqual(findings({"core/a.cpp": "int f() {\n" + table + "  g();\n" * 67 + "}\n"}), [])
        self.assertEqual(findings({"core/a.cpp": "int f() {\n" + table + "  g();\n" * 68 + "}\n"}),
                         [("core/a.cpp", 1, "function")])

    def test_long_member_functions(self):
        code = "class A {\n public:\n  void f() {\n" + "    g();\n" * 70 + "  }\n};\n"
        self.assertEqual(findings({"core/a.cpp": code}), [("core/a.cpp", 3, "function")])


class Dead(unittest.TestCase):
    def test_a_header_nobody_includes(self):
        self.assertEqual(findings({"core/a.h": HEADER}), [("core/a.h", 1, "dead")])

    def test_a_source_no_target_compiles(self):
        for path in ["tests/a_test.cpp", "benchmarks/peers/a.cpp", "tests/core/deep/a_test.cpp", "tests/fuzz/a.cpp"]:
            self.assertEqual(findings({path: ""}), [(path, 1, "dead")])
        for path in ["core/deep/a.cpp", "tests/core/a_test.cpp", "tests/support/main.cpp", "tests/fuzz/a_fuzz.cpp",
                     "benchmarks/micro/a.cpp", "benchmarks/a.cpp", "tools/evlua.cpp"]:
            self.assertEqual(findings({path: ""}), [])


class ClangTidyKey(unittest.TestCase):
    """What was clean counts as clean as long as nothing has changed that clang-tidy looks at."""
    FILES = {"tests/a.cpp": '#include "core/a.h"\nint a;  // as it is\n', "core/a.h": "#define A(x) (x)  // as it is\n",
             ".clang-tidy": "Checks: a\n"}

    def key(self, flags="", changed=None):
        files = self.FILES | (changed or {})
        before = os.getcwd()
        with tempfile.TemporaryDirectory() as root:
            for path, text in files.items():
                os.makedirs(os.path.dirname(os.path.join(root, path)), exist_ok=True)
                with open(os.path.join(root, path), "w", encoding="utf-8") as file:
                    file.write(text)
            os.chdir(root)
            try:
                root = os.getcwd()
                return clang_tidy.key_of("tests/a.cpp", f"c++ -I{root} {flags} -o a.o -c {root}/tests/a.cpp", b"1")
            finally:
                os.chdir(before)

    def test_what_changes_is_looked_at_again(self):
        keys = {self.key(), self.key("-DB"), self.key("-Wall"), self.key("-std=c++20"),
                self.key(changed={"core/a.h": "#define A(x) x  // as it is\n"}),
                self.key(changed={"core/a.h": "#define A(x) (x)  // NOLINT\n"}),
                self.key(changed={"tests/a.cpp": '#include "core/a.h"\nint a;  // NOLINT\n'}),
                self.key(changed={".clang-tidy": "Checks: b\n"}),
                self.key(changed={"tests/.clang-tidy": "Checks: -a\n"})}
        self.assertEqual(len(keys), 9)

    def test_where_it_lies_makes_no_difference(self):
        self.assertEqual(self.key(), self.key())
        self.assertEqual(self.key(), self.key(changed={"tests/b.cpp": "int b;\n"}))


if __name__ == "__main__":
    unittest.main()
