"""evlua test: finding files, running tests, what is reported of them."""
import os
import re
import shutil
import subprocess
import tempfile
import xml.etree.ElementTree

from support import EVLUA, LIMIT, check, main, run


class Folder(tempfile.TemporaryDirectory):
    """Files of tests, by their names."""

    def __init__(self, **files):
        super().__init__()
        for name, text in files.items():
            path = os.path.join(self.name, name.replace("__", "/") + ".lua")
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as f:
                f.write(text)


def tested(text, *options, code=None):
    """The output for one file, whose path is left out."""
    with Folder(one_test=text) as folder:
        got = run("test", *options, folder)
        check(code is None or got.returncode == code, got.returncode, got.stdout, got.stderr)
        check("stack traceback" not in got.stderr, got.stderr)
        return (got.stdout + got.stderr).replace(folder + "/", "")


def names_in(text):
    return re.findall(r"^(?:not )?ok \d+ - one_test\.lua: (.*)$", text, re.M)


def test_what_passes():
    text = tested("""
local evlua = require "evlua"
describe("outer", function()
  local log = {}
  before_all(function() log[#log + 1] = "all" end)
  before_each(function() evlua.sleep(0.001) log[#log + 1] = "each" end)
  after_each(function() log[#log + 1] = "behind" end)
  describe("inner", function()
    before_each(function() log[#log + 1] = "inner each" end)
    after_each(function() log[#log + 1] = "inner behind" end)
    it("waits", function() evlua.sleep(0.01) log[#log + 1] = "test" end)
  end)
  after_all(function()
    assert.same({"all", "each", "inner each", "test", "inner behind", "behind"}, log)
  end)
end)
it("joins its tasks", function() assert(evlua.spawn(function() evlua.sleep(0.01) return 7 end):join() == 7) end)
it("catches errors of tasks", function()
  local task = evlua.spawn(error, "x") assert.error(function() task:join() end, "x") end)
it("works as a plain assert", function()
  assert(select("#", assert(1, 2, nil)) == 3 and select(2, assert(1, 2)) == 2)
  local ok, message = pcall(assert, false) assert(not ok and message == "assertion failed!")
  ok, message = pcall(assert, nil, {1}) assert(not ok and message[1] == 1)
end)
it("runs functions elsewhere", function()
  assert.equal(3, require("evlua.thread").run(function(a) return a + #tostring("xx") end, 1))
end)
pending("later")
""", code=0)
    check("ok    one_test.lua  (6 tests, " in text and "5 passed, 0 failed, 1 pending in " in text, text)


def test_what_fails():
    text = tested("""
describe("block", function()
  it("differs", function()
    assert.same({1, {x = {"a", "b"}}, y = 1}, {1, {x = {"a", "c"}}, z = 2}, "a message")
  end)
  it("raises", function() local function deep() error("deep down") end deep() end)
  it("raises a table", function() error({code = 7}) end)
end)
""", "--seed", "0", code=1)
    for words in ("FAIL  one_test.lua  (3 tests",
                  "  block differs\n    one_test.lua:4: a message\n    the values differ:\n",
                  '      at [2].x[2]: expected "b", got "c"\n', "      at .y: expected 1, got nil\n",
                  "      at .z: expected nil, got 2\n", "  block raises\n    one_test.lua:6: deep down\n",
                  "one_test.lua:6: in local 'deep'", "{code = 7}", "0 passed, 3 failed"):
        check(words in text.replace("upvalue 'deep'", "local 'deep'"), words, text)
    check("[evlua" not in text, text)


def test_assertions():
    cases = {
        "assert.equal(1, 2)": "expected 1, got 2",
        "assert.equal({}, {})": "compare contents with assert.same",
        "assert.equal('1', 1)": 'expected "1", got 1',
        "assert.not_equal(1, 1)": "anything but 1",
        "assert.same({a = {b = {1}}}, {a = {b = {2}}})": "at .a.b[1]: expected 1, got 2",
        "assert.same({['x y'] = 1}, {})": 'at ["x y"]: expected 1, got nil',
        "local t, u = {}, {} t.t, u.t, u.x = t, u, 1 assert.same(t, u)": "at .x: expected nil, got 1",
        "assert.same({}, 5)": "expected {}, got 5",
        "assert.not_same({1}, {1})": "anything but {1}",
        "assert.same(('x'):rep(100) .. 'y', ('x'):rep(100) .. 'z')": "from byte 101: expected",
        "assert.same('one\\ntwo\\nthree', 'one\\ntwx\\nthree')": 'line 2: expected "two", got "twx"',
        "assert.near(1, 1.5, 0.1)": "expected 1, give or take 0.1, got 1.5",
        "assert.truthy(nil)": "true value, got nil",
        "assert.falsy(0)": "expected false or nil, got 0",
        "assert.is_nil(false)": "expected nil, got false",
        "assert.is_type('string', 1)": "expected a string, got 1",
        "assert.match('^b', 'abc')": 'nothing matches "^b" in "abc"',
        "assert.no_match('b', 'abc')": 'something matches "b" in "abc"',
        "assert.contains('x', 'abc')": 'to find "x" in "abc"',
        "assert.contains({2}, {{1}, {3}})": "to find {2} in {{1}, {3}}",
        "assert.error(print)": "expected an error",
        "assert.error(function() error('this') end, 'that')": 'expected an error with "that", got "one_test.lua',
        "assert.error(function() error{1} end, {2})":
            "another error than expected: the values differ:\n      at [1]: ",
        "assert.no_error(function() error('oh') end)": 'unexpected error: "one_test.lua',
        "assert.fails('ENOENT', nil, 'text', 'EIO')": 'expected the code "ENOENT", got "EIO": text',
        "assert.fails('ENOENT', 'content')": 'a failure with "ENOENT", got "content"',
        "assert.called(spy())": "expected a call, there was none",
        "local s = spy() s() assert.called(s, 2)": "there were 1",
        "local s = spy() s(1, nil, {x = 1}) assert.called_with(s, 2)": "call 1: (1, nil, {x = 1})",
        "assert.called(print)": "a spy expected",
        "assert.equals(1, 1)": "there is no assertion 'equals'",
        "assert(false, 'told')": "told",
        "assert(nil)": "assertion failed!",
        "assert.equal(1, 2, 'why')": ": why\n    expected 1",
        "os.exit(0)": "a test must not end the process",
        "require'evlua'.exit(0)": "a test must not end the process",
        "it('x', print)": "'it' cannot be called in a test",
    }
    with Folder(**{f"case{i}_test": f"it('fails', function() {code} end)\n".replace("one_test", f"case{i}_test")
                   for i, code in enumerate(cases)}) as folder:
        got = run("test", "--jobs", "2", folder)
        check(got.returncode == 1 and f"0 passed, {len(cases)} failed" in got.stdout, got)
        for i, (code, words) in enumerate(cases.items()):
            part = got.stdout.split(f"case{i}_test.lua  (1 test", 1)[1].split("FAIL  ", 1)[0]
            check(words.replace("one_test.lua", folder) in part, code, "does not tell", words, "but", part)


def test_spies():
    tested("""
local t = setmetatable({}, {__index = {inherited = function() return "original" end}})
function t.own(x) return x + 1 end
local own = t.own
it("watches", function()
  local calls = calls_of(spy_on(t, "own"))
  assert(t.own(1) == 2 and #calls == 1 and calls[1].results[1] == 2)
  spy_on(t, "own", function() return "replaced" end)
  assert(t.own(1) == "replaced" and #calls == 1)
  local inherited = spy_on(t, "inherited")
  assert(t.inherited(nil, nil) == "original" and calls_of(inherited)[1].n == 2)
  assert.called_with(inherited, nil, nil)
end)
it("is as before", function() assert(t.own == own and rawget(t, "inherited") == nil) end)
""", "--seed", "0", code=0)


def test_timeouts():
    text = tested("""
local evlua = require "evlua"
it("sleeps", function() evlua.sleep(100) end)
it("has time", function() evlua.sleep(0.3) end, {timeout = 20})
describe("hooks", function()
  after_each(function() evlua.sleep(100) end)
  it("passes", function() end)
end)
it("waits for itself", function() require("evlua.sync").channel():receive() end)
""", "--timeout", "0.2", "--seed", "0", code=1)
    check("1 passed, 3 failed" in text, text)
    for words in ("timed out after 0.2 s, waiting for sleep\n", "one_test.lua:3: in ", "waiting for channel:receive"):
        check(words in text, words, text)


def test_loops_without_end():
    if os.environ.get("EVLUA_SANITIZE") == "thread":
        return  # no slice of Lua can be ended there
    text = tested("""
it("computes", function() while true do end end)
it("computes in pcall", function() while true do pcall(function() while true do end end) end end)
it("passes", function() end)
""", "--timeout", "0.2", "--seed", "0", code=1)
    check("1 passed, 2 failed" in text and text.count("timed out after 0.2 s\n") == 2, text)
    check("in function <one_test.lua:2>" in text and "in function <one_test.lua:3>" in text, text)


def test_tasks_left_behind():
    text = tested("""
local evlua = require "evlua"
it("leaves one", function() evlua.spawn(function() evlua.sleep(1000) end) end)
it("lost an error", function() evlua.spawn(function() error("lost") end) evlua.sleep(0.01) end)
it("leaves one that fails later", function() evlua.spawn(function() evlua.sleep(0.02) error("later") end) end)
it("leaves one that ends", function() evlua.spawn(function() evlua.sleep(0.02) end) end)
it("leaves one that does not obey", function()
  evlua.spawn(function() while true do pcall(evlua.sleep, 0.01) evlua.yield() end end)
end)
it("passes", function() end)
describe("block", function()
  local task
  before_all(function() task = evlua.spawn(evlua.sleep, 1000) end)
  it("may have tasks of its own", function() assert.equal("waiting", task:status()) end)
  after_all(function() task:cancel() end)
end)
""", "--seed", "0", code=1)
    check("3 passed, 4 failed" in text, text)
    for words in ("left a task behind: task from one_test.lua:3 which waits for sleep\n", "[spawned at one_test.lua:3]",
                  "  lost an error\n    error in a task that nobody joined: one_test.lua:4: lost\n",
                  "  leaves one that fails later\n    error in a task that nobody joined: one_test.lua:5: later\n"):
        check(words in text, words, text)


def test_hooks_that_fail():
    text = tested("""
describe("a", function()
  before_all(function() error("no start") end)
  it("one", print)
  describe("b", function() it("two", print) end)
end)
describe("c", function()
  before_each(function() error("not ready") end)
  it("three", function() error("is not run") end)
end)
describe("d", function()
  after_all(function() error("no end") end)
  it("four", function() end)
end)
""", code=1)
    check("1 passed, 4 failed" in text and text.count("no start") == 2 and "is not run" not in text, text)
    check("  d (behind the tests)\n" in text and "  c three\n" in text and "  a b two\n" in text, text)


def test_order():
    text = "".join(f"it('t{i}', function() assert.equal(last, {i - 1 if i else 'nil'}) last = {i} end)\n"
                   for i in range(30))
    check("30 passed" in tested(text, "--seed", "0", code=0))
    orders = [names_in(tested("".join(f"it('t{i}', print)\n" for i in range(30)), "--tap", "--seed", str(seed), code=0))
              for seed in (5, 5, 6)]
    check(orders[0] == orders[1] != orders[2] and sorted(orders[0]) == sorted(orders[2]), orders)
    # The seed that is told gives the same again.
    text = "it('a', function() assert.equal(0, math.random(1 << 40)) end)"
    told = tested(text, code=1)
    seed = re.search(r"--seed (\d+)", told)[1]
    check(re.search("got (\\d+)", told)[1] == re.search("got (\\d+)", tested(text, "--seed", seed))[1], told)


def test_filter():
    text = "describe('a', function() it('one', print) it('two', error) end) it('three', error)"
    check("1 passed, 0 failed" in tested(text, "--filter", "^a o", code=0))
    check("no test has a name" in tested(text, "--filter", "four", code=2))
    check("malformed pattern" in tested(text, "--filter", "[", code=2))


def test_files():
    good, bad = "it('passes', function() end)", "it('fails', error)"
    with Folder(a_test=good, b__c_test=good, b__d=bad, _x__e_test=good) as folder:
        os.rename(os.path.join(folder, "_x"), os.path.join(folder, ".x"))
        got = run("test", folder)
        check(got.returncode == 0 and "2 passed" in got.stdout and f"{folder}/b/c_test.lua" in got.stdout, got)
        got = run("test", os.path.join(folder, "b", "d.lua"), os.path.join(folder, "a_test.lua"), "--jobs=2")
        check(got.returncode == 1 and "1 passed, 1 failed" in got.stdout, got)
        check(run("test", os.path.join(folder, ".x", "none")).returncode == 2)
        os.makedirs(os.path.join(folder, "empty"))
        check(run("test", os.path.join(folder, "empty")).returncode == 2)
    text = tested("local x = = 1", code=1)
    check("(loading the file)" in text and "one_test.lua:1: unexpected symbol" in text, text)
    text = tested("describe('a', function() error('in a block') end)", code=1)
    check("one_test.lua:1: in a block" in text, text)
    # Each file has a state of its own.
    mark = "it('is alone', function() assert(marked == nil) marked = true end)"
    with Folder(a_test=mark, b_test=mark) as folder:
        check(run("test", folder).returncode == 0)


def test_reports():
    text = "it('a <b> & \\1', function() error('x < y & \\1 \"z\"') end) it('fine', os.time) pending('p # q')"
    with Folder(one_test=text) as folder:
        path = os.path.join(folder, "report.xml")
        got = run("test", "--tap", "--junit", path, "--seed", "0", folder)
        check(got.returncode == 1, got)
        lines = got.stdout.splitlines()
        check(lines[0] == "TAP version 13" and lines[-1] == "1..3", got.stdout)
        check(f"not ok 1 - {folder}/one_test.lua: a <b> & \1" in lines, got.stdout)
        check(f"ok 3 - {folder}/one_test.lua: p \\# q # SKIP pending" in lines, got.stdout)
        root = xml.etree.ElementTree.parse(path).getroot()
        check(root.get("tests") == "3" and root.get("failures") == "1", root.attrib)
        cases = root.findall("testsuite/testcase")
        check([c.get("name") for c in cases] == ["a <b> & ?", "fine", "p # q"], cases)
        check('x < y & ? "z"' in cases[0].find("failure").text and cases[2].find("skipped") is not None)
        got = run("test", "--junit", "/no/such/folder/report.xml", folder)
        check(got.returncode == 1 and "cannot write" in got.stderr, got)


def test_tap_is_alone_in_its_output():
    text = """
local evlua = require "evlua"
it("prints", function()
  print("ok 1 - printed")
  io.write("not ok 2 - half a line")
  io.stdout:write("\\nBail out!\\n")
  os.execute("echo 1..7")
  io.stderr:write("to standard error\\n")
end)
print("TAP version 14")
"""
    with Folder(one_test=text, two_test=text) as folder:
        got = run("test", "--tap", "--jobs", "2", folder)
        lines = sorted(got.stdout.splitlines())
        check(got.returncode == 0 and [re.sub("seed.*", "seed", line) for line in lines] == [
            "# --seed", "1..2", "TAP version 13", lines[3], lines[4]], got)
        check(all(line.startswith("ok ") and line.endswith("_test.lua: prints") for line in lines[3:]), lines)
        for words in ("ok 1 - printed", "half a line\nBail out!", "1..7", "TAP version 14", "to standard error"):
            check(got.stderr.count(words) == 2, words, got.stderr)
        # Without it, and where a report goes to a file, everything stays where it was.
        got = run("test", folder)
        check(got.stdout.count("Bail out!") == 2 and got.stderr.count("\n") == 2, got)
        if shutil.which("prove"):
            got = subprocess.run(["prove", "--exec", f"{EVLUA} test --tap", os.path.join(folder, "one_test.lua")],
                                 capture_output=True, text=True, timeout=LIMIT, check=False)
            check(got.returncode == 0 and "All tests successful." in got.stdout, got)
        with open("/dev/full", "w", encoding="utf-8") as full:
            got = subprocess.run([EVLUA, "test", "--tap", folder], stdout=full, stderr=subprocess.PIPE, text=True,
                                 timeout=LIMIT, check=False)
        check(got.returncode == 1 and "evlua test: cannot write TAP: No space left on device" in got.stderr, got)


def test_tap_beside_other_output():
    """Where all goes to the same file, nothing overwrites anything."""
    files, tests, lines = 24, 20, 100
    text = f"""
for i = 1, {tests} do
  it("test " .. i, function()
    for _ = 1, {lines} do io.stdout:write("a line of a test\\n") io.stdout:flush() end
  end)
end
"""
    with Folder(**{f"file{i}_test": text for i in range(files)}) as folder, tempfile.TemporaryFile("w+") as log:
        got = subprocess.run([EVLUA, "test", "--tap", "--jobs", "4", folder], stdout=log, stderr=subprocess.STDOUT,
                             timeout=LIMIT, check=False)
        log.seek(0)
        written = log.read()
        counts = [len(re.findall(line, written, re.M)) for line in (r"^ok \d+ - ", "^a line of a test$", "^1[.][.]")]
        check(got.returncode == 0 and counts == [files * tests, files * tests * lines, 1], counts)


def test_wrong_usage():
    for arguments in (["--seed", "x"], ["--jobs", "0"], ["--timeout", "-1"], ["--nonsense"], ["--globals", "x"]):
        got = run("test", *arguments)
        check(got.returncode == 2 and got.stderr.startswith("evlua"), arguments, got)
    got = run("-e", "require('evlua.test').it('x', print)")
    check(got.returncode == 1 and "is for files that 'evlua test' runs" in got.stderr, got)
    for code in ("describe('x')", "it(1, print)", "it('x', print, {time = 1})", "before_each()", "spy(1)",
                 "it('x', print, {timeout = 0})"):
        text = tested(code, code=1)
        check("one_test.lua:1: bad argument #" in text, code, text)


main(globals())
