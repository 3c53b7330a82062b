"""evlua --check: errors of syntax and undefined globals, without running anything."""
import os
import tempfile

from support import check, main, run


def checked(text, *options, name="file.lua"):
    """Exit code, and what is said of each line."""
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, name)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        got = run("--check", *options, path)
        check(got.stderr == "", got)
        lines = got.stdout.splitlines()
        check(all(line.startswith(path + ":") for line in lines), got)
        return got.returncode, [line[len(path) + 1:] for line in lines]


def test_good_files():
    for text in ("", "print(_G, _VERSION, arg, require 'evlua')", "#!/usr/bin/env evlua\nlocal x = 1 return x",
                 "\xef\xbb\xbfreturn 1".encode("latin-1").decode("utf-8"),
                 "local t = {} t.field = 1 return t.other, ('x'):rep(3)",
                 "os.exit(7)", "error 'is not run'", "while true do end",
                 "local function f(...) goto done ::done:: return ... end return f"):
        check(checked(text) == (0, []), text, checked(text))


def test_undefined_globals():
    code, lines = checked("""local function f()
  count = (count or 0) + 1
  return function() return prnit("x"), prnit("y") end
end
return f, table.insert, missing.field, _G.anything
""")
    check(code == 1 and lines == ["2: undefined global 'count'", "2: assignment to undefined global 'count'",
                                  "3: undefined global 'prnit'", "5: undefined global 'missing'"], lines)
    check(checked("function helper() end\n\nhelper()") == (
        1, ["1: assignment to undefined global 'helper'", "3: undefined global 'helper'"]))
    # An environment of the file's own holds no globals.
    check(checked("local _ENV = {} x = 1 return function() return y end") == (0, []))
    check(checked("return function(_ENV) x = 1 return function() return y end end") == (0, []))
    check(checked("local print = print local _ENV = {} x = 1\nreturn _ENV") == (0, []))
    check(checked("do local _ENV = {} x = 1 end\ny = 2") == (1, ["2: assignment to undefined global 'y'"]))


def test_many_constants():
    """Names that are not among the first 256 constants of their function."""
    numbers = ", ".join(f"{i}.5" for i in range(400))
    code, lines = checked(f"local t = {{{numbers}}}\nfar = t\nlocal x = {{away(far, 1000.5)}}\nfar = away(x) + 2000.5")
    check(code == 1 and lines == ["2: assignment to undefined global 'far'", "3: undefined global 'away'",
                                  "3: undefined global 'far'", "4: undefined global 'away'",
                                  "4: assignment to undefined global 'far'"], lines)


def test_allowed_names():
    text = "use(config)\nngx = 1"
    said = ["1: undefined global 'use'", "1: undefined global 'config'", "2: assignment to undefined global 'ngx'"]
    check(checked(text) == (1, said))
    check(checked("-- globals: use, config ngx\n" + text) == (0, []))
    check(checked(text + "\n--[[ globals: use ]] --globals:config") == (1, said[2:]))
    test = "describe('x', function() it('y', function() spy() undefined() end) end)"
    check(checked(test, name="x_test.lua") == (1, ["1: undefined global 'undefined'"]))
    check(len(checked(test)[1]) == 4)
    check(checked(text, "--globals", "use,config", "--globals=ngx") == (0, []))
    check(checked(text, "--globals", "use") == (1, said[1:]))


def test_errors_of_syntax():
    check(checked("local x = 1\nlocal y = = 2\nz = 3") == (1, ["2: unexpected symbol near '='"]))
    check(checked("if true then\n") == (1, ["2: 'end' expected (to close 'if' at line 1) near <eof>"]))
    check(checked("goto nowhere") == (1, ["1: no visible label 'nowhere' for <goto> at line 1"]))
    long = "directory" * 20 + ".lua"
    check(checked("x =", name=long) == (1, ["1: unexpected symbol near <eof>"]))
    check(checked("\x1bLua") [0] == 1)


def test_several_files():
    with tempfile.TemporaryDirectory() as directory:
        paths = [os.path.join(directory, f"{i}.lua") for i in range(3)]
        for path, text in zip(paths, ("first()", "return 1", "x = = 1")):
            with open(path, "w", encoding="utf-8") as f:
                f.write(text)
        got = run("--check", *paths)
        check(got.returncode == 1 and got.stdout == f"{paths[0]}:1: undefined global 'first'\n"
              f"{paths[2]}:1: unexpected symbol near '='\n", got)
        got = run("--check", os.path.join(directory, "none.lua"), paths[1])
        check(got.returncode == 1 and "none.lua: No such file" in got.stdout and got.stdout.count("\n") == 1, got)
        check(run(paths[1], "--check").returncode == 0, "an argument of the script")
    got = run("--check", "-", stdin="\n\nfrom_stdin()")
    check(got.returncode == 1 and got.stdout == "stdin:3: undefined global 'from_stdin'\n", got)


def test_folders():
    with tempfile.TemporaryDirectory() as directory:
        def write(name, text):
            path = os.path.join(directory, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as f:
                f.write(text)

        for name in ("b.lua", "a/z.lua", "a/y_test.lua", "c/deep/er.lua"):
            write(name, f"it(undefined)\n-- {name}\n")
        for name in (".hidden/x.lua", "a/.git/x.lua", "notes.txt", "b.lua.orig"):
            write(name, "x = = 1")
        wrong = [("a/y_test.lua", "undefined"), ("a/z.lua", "it"), ("a/z.lua", "undefined"), ("b.lua", "it"),
                 ("b.lua", "undefined"), ("c/deep/er.lua", "it"), ("c/deep/er.lua", "undefined")]
        for folder in (directory, directory + "//"):
            got = run("--check", folder)
            check(got.returncode == 1 and got.stderr == "" and got.stdout.splitlines() == [
                f"{directory}/{name}:1: undefined global '{what}'" for name, what in wrong], got)
        check(run("--check", "--globals", "it,undefined", directory).returncode == 0)
        # Together with files, and one that is hidden when it is named.
        got = run("--check", os.path.join(directory, "c"), os.path.join(directory, ".hidden"),
                  os.path.join(directory, "b.lua.orig"))
        check(got.returncode == 1 and [line.rsplit("/", 1)[1].split(":")[0] for line in got.stdout.splitlines()] ==
              ["er.lua", "er.lua", "x.lua", "b.lua.orig"], got)
        os.mkdir(os.path.join(directory, "empty"))
        got = run("--check", os.path.join(directory, "empty"))
        check(got.returncode == 1 and got.stdout == f"{directory}/empty: no file here, nor below, ends in .lua\n", got)
        got = run("--check", os.path.join(directory, "nowhere"))
        check(got.returncode == 1 and "No such file" in got.stdout, got)


def test_wrong_usage():
    for arguments in (["--check"], ["--check", "-e", "x", "-"], ["--globals", "x", "-e", ""], ["--globals"]):
        got = run(*arguments, stdin="")
        check(got.returncode == 2 and got.stderr.startswith("evlua: "), arguments, got)


main(globals())
