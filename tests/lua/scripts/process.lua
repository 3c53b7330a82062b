-- evlua.process: programs run to their end, and programs beside us.
-- A script: it looks for children of the whole program, changes its surroundings and its signals.
local evlua, fs, net, process = require "evlua", require "evlua.fs", require "evlua.net", require "evlua.process"

local function eventually(what, condition)
  local deadline = evlua.now() + 20
  while not condition() do
    assert(evlua.now() < deadline, what)
    evlua.sleep(0.002)
  end
end

local function check_failure(pattern, wanted, none, message, code, ...)
  assert(none == nil and code == wanted and message:find(pattern), tostring(message) .. " / " .. tostring(code))
  return ...
end

local function exists(pid) return fs.exists("/proc/" .. pid) end

-- Children of this process that have ended and that nobody has collected.
local function zombies()
  local me, found = process.pid(), {}
  for _, name in ipairs(assert(fs.list("/proc"))) do
    local stat = name:find("^%d+$") and fs.read("/proc/" .. name .. "/stat")
    local state, parent = (stat or ""):match("^%d+ %(.*%) (%a) (%d+)")
    if state == "Z" and tonumber(parent) == me then found[#found + 1] = name end
  end
  return found
end

local tests = {}

-- What a program reads, writes and returns.
function tests.run()
  local got = assert(process.run{"cat", stdin = "line\0with zero\n"})
  assert(got.code == 0 and got.ok and got.signal == nil and got.stdout == "line\0with zero\n" and got.stderr == "")
  got = assert(process.run{"sh", "-c", "echo out; echo err >&2; exit 3"})
  assert(got.code == 3 and not got.ok and got.stdout == "out\n" and got.stderr == "err\n")
  got = assert(process.run{"sh", "-c", "echo out; echo err >&2", stderr = "stdout"})
  assert(got.stdout == "out\nerr\n" and got.stderr == "")
  got = assert(process.run{"sh", "-c", "kill -9 $$"})
  assert(got.signal == "SIGKILL" and got.code == nil and not got.ok)
  got = assert(process.run{"cat"})  -- standard input is empty unless given
  assert(got.ok and got.stdout == "" and got.incomplete == nil)
  got = assert(process.run{"printf", "%s|", "a b", "", "$HOME", 12})
  assert(got.stdout == "a b||$HOME|12|")
  got = assert(process.run{"sh", "-c", "echo out; echo err >&2", stdout = "null", stderr = "null"})
  assert(got.ok and got.stdout == "" and got.stderr == "")
end

-- Environment and folder.
function tests.surroundings()
  local got = assert(process.run{"/usr/bin/env", env = {A = "1", B = "x=y"}})
  assert(got.stdout == "A=1\nB=x=y\n" or got.stdout == "B=x=y\nA=1\n", got.stdout)
  got = assert(process.run{"/usr/bin/env", env = {}})
  assert(got.stdout == "")
  local env = process.env()
  assert(env.PATH == os.getenv("PATH"))
  env.EVLUA_TEST_NAME = "value"
  got = assert(process.run{"sh", "-c", "echo $EVLUA_TEST_NAME", env = env})
  assert(got.stdout == "value\n" and os.getenv("EVLUA_TEST_NAME") == nil)
  got = assert(process.run{"pwd", cwd = "/usr"})
  assert(got.stdout == "/usr\n")
  -- Names are looked for in the PATH that the program gets.
  check_failure("^spawn true: no such file", "ENOENT", process.run{"true", env = {PATH = "/nowhere"}})
end

-- What cannot be started says why.
function tests.failures()
  check_failure("^spawn no%-such%-program: no such file or directory$", "ENOENT", process.run{"no-such-program"})
  check_failure("^spawn /no/such: no such file or directory$", "ENOENT", process.spawn{"/no/such"})
  check_failure("^spawn /etc/passwd: permission denied$", "EACCES", process.run{"/etc/passwd"})
  check_failure("^spawn true: chdir /nowhere: no such file", "ENOENT", process.run{"true", cwd = "/nowhere"})
  check_failure("^spawn true: chdir /etc/passwd: not a directory$", "ENOTDIR", process.run{"true", cwd = "/etc/passwd"})
  check_failure("^spawn true: no such user or group: nobody%-such:$", "EINVAL",
                process.run{"true", user = "nobody-such"})
  check_failure("no such user or group: :none%-such$", "EINVAL", process.run{"true", group = "none-such"})
  check_failure("argument list too long", "E2BIG", process.run{"true", ("x"):rep(4 << 20)})
  check_failure("no such file", "ENOENT", process.run{""})
  local function refused(pattern, ...)
    local ok, message = pcall(...)
    assert(not ok and message:find(pattern), message)
  end
  refused("table expected", process.run, "true")
  refused("program expected", process.run, {})
  refused("unknown option 'tiemout'", process.run, {"true", tiemout = 1})
  refused("unknown option 'timeout'", process.spawn, {"true", timeout = 1})
  refused("unknown option '4'", process.run, {"true", [4] = "hole"})
  refused("element 2: string expected, got table", process.run, {"true", {}})
  refused("element 2 contains a NUL byte", process.run, {"true", "a\0b"})
  refused("option 'env'", process.run, {"true", env = {["A=B"] = "c"}})
  refused("option 'env'", process.run, {"true", env = {"c"}})
  refused("value in option 'env'", process.run, {"true", env = {A = true}})
  refused("option 'cwd'", process.run, {"true", cwd = {}})
  refused("option 'stdin'", process.run, {"true", stdin = true})
  refused("option 'stdout'", process.run, {"true", stdout = "stdout"})
  refused("option 'stderr'", process.spawn, {"true", stderr = "nowhere"})
  refused("option 'limit'", process.run, {"true", limit = -1})
  assert(#zombies() == 0)
end

-- Users and groups, for who may become others.
function tests.accounts()
  local me = assert(process.run{"id", "-u"}).stdout
  local got = assert(process.run{"id", "-u", user = me:match("%d+")})
  assert(got.stdout == me)
  if me == "0\n" then
    got = assert(process.run{"sh", "-c", "id -u; id -g; id -G", user = "nobody"})
    local user, group, groups = got.stdout:match("(%d+)\n(%d+)\n([%d ]+)\n")
    assert(user == assert(process.run{"id", "-u", "nobody"}).stdout:match("%d+"))
    assert(group == assert(process.run{"id", "-g", "nobody"}).stdout:match("%d+") and groups == group, got.stdout)
    got = assert(process.run{"sh", "-c", "id -u; id -g; id -G", user = "1234", group = "daemon"})
    assert(got.stdout == "1234\n1\n1\n", got.stdout)
    got = assert(process.run{"id", "-G", group = 4321})
    assert(got.stdout == "4321\n")
    local closed = os.tmpname() .. ".d"
    assert(fs.mkdir(closed, {permissions = tonumber("700", 8)}))
    check_failure("^spawn true: chdir /", "EACCES", process.run{"true", user = "nobody", cwd = closed})
    assert(fs.rmdir(closed))
  else
    check_failure("become root:", "EPERM", process.run{"true", user = "root"})
  end
end

-- Limits of output and time.
function tests.limits()
  local got = check_failure("^yes: limit exceeded$", "ELIMIT", process.run{"yes", limit = 1000})
  assert(#got.stdout == 1000 and got.signal == "SIGKILL")
  got = assert(process.run{"head", "-c", "1000", "/dev/zero", limit = 1000})
  assert(#got.stdout == 1000 and got.ok)
  got = assert(process.run{"head", "-c", "3000000", "/dev/zero"})
  assert(#got.stdout == 3000000)
  local began = evlua.now()
  got = check_failure("^sh: timed out$", "ETIMEDOUT",
                      process.run{"sh", "-c", "echo before; exec sleep 100", timeout = 0.2})
  assert(got.signal == "SIGTERM" and got.stdout == "before\n", got.stdout)
  -- One that does not listen to SIGTERM. It has said so before it is asked.
  got = check_failure("timed out", "ETIMEDOUT", process.run{
    "sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 0.01; done", timeout = 0.5, grace = 0.1})
  assert(got.signal == "SIGKILL" and got.stdout == "deaf\n")
  assert(evlua.now() - began < 20 and #zombies() == 0)
end

-- Cancelling kills at once and collects.
function tests.cancel()
  local name = os.tmpname()
  local task = evlua.spawn(function()
    return process.run{"sh", "-c", "echo $$ > " .. name .. "; exec sleep 100", grace = 50}
  end)
  local pid
  eventually("no pid", function() pid = (fs.read(name) or ""):match("(%d+)\n") return pid end)
  assert(exists(pid))
  task:cancel()
  local _, _, code = task:join()
  assert(code == "ECANCELED", code)
  assert(not exists(pid) and #zombies() == 0)
  assert(select(3, evlua.timeout(0.05, process.run, {"sleep", "100"})) == "ETIMEDOUT")
  assert(#zombies() == 0)
  fs.remove(name)
end

-- A program may leave its input alone, and close its output before it ends.
function tests.rude_programs()
  local much = ("x"):rep(1 << 20)
  local got = assert(process.run{"true", stdin = much})
  assert(got.ok and got.stdout == "")
  got = assert(process.run{"head", "-c", "10", stdin = much})
  assert(got.ok and #got.stdout == 10)
  got = assert(process.run{"sh", "-c", "exec >&- 2>&-; sleep 0.1; exit 5"})
  assert(got.code == 5)
  assert(#assert(process.run{"cat", stdin = much}).stdout == #much)
  -- Somebody who is left behind holds the output: what the program itself wrote is there, and nobody waits for long.
  local began = evlua.now()
  got = assert(process.run{"sh", "-c", "sleep 100 & echo $!", drain = 0.1})
  assert(got.ok and got.incomplete and evlua.now() - began < 30)
  assert(process.run{"kill", "-9", got.stdout:match("%d+")})
  -- In a group of its own, nobody is left behind.
  got = check_failure("timed out", "ETIMEDOUT", process.run{
    "sh", "-c", "sleep 100 & echo $!; wait", timeout = 0.3, grace = 0.05, new_group = true})
  local left = got.stdout:match("%d+")
  eventually("the grandchild lives", function()
    local stat = fs.read("/proc/" .. left .. "/stat")
    return not stat or stat:find("%) Z")
  end)
end

-- Streams to a program beside us.
function tests.pipes()
  local child = assert(process.spawn{"cat", stdin = "pipe", stdout = "pipe"})
  assert(child.pid > 0 and child.stdin and child.stdout and child.stderr == nil and child:status() == nil)
  assert(tostring(child) == ("process %d cat"):format(child.pid), tostring(child))
  assert(tostring(child.stdin):find("^pipe %d+$"))
  assert(child.stdin:write("one\ntwo\nthe rest"))
  assert(child.stdout:read("l") == "one")
  assert(child.stdout:read_until("\n") == "two\n")
  assert(child.stdout:read_exactly(3) == "the")
  assert(child.stdout:read() == " rest")
  check_failure("read: timed out", "ETIMEDOUT", child.stdout:read("l", {timeout = 0.01}))
  check_failure("bad file descriptor", "EBADF", child.stdout:write("x"))
  check_failure("bad file descriptor", "EBADF", child.stdin:read())
  check_failure("bad file descriptor", "EBADF", child.stdin:shutdown("read"))
  -- Writing while nobody reads waits; more than a pipe holds needs both at once.
  local much = ("0123456789abcdef"):rep(1 << 16)
  local writer = evlua.spawn(function()
    assert(child.stdin:write(much))
    assert(child.stdin:shutdown())
    return true
  end)
  assert(child.stdout:read("a") == much and writer:join())
  check_failure("end of file", "EOF", child.stdout:read())
  local status = assert(child:wait())
  assert(status.ok and status.code == 0 and child:status().code == 0 and child:wait().code == 0)
  assert(tostring(child):find("%(ended%)"))
  check_failure("^kill cat: no such process$", "ESRCH", child:kill())
  check_failure("no such process", "ESRCH", child:kill("KILL"))
  assert(child:close() and child:close())
  check_failure("bad file descriptor", "EBADF", child.stdout:read())
end

-- A reader that waits, and a writer, are ended by close.
function tests.close()
  local child = assert(process.spawn{"sleep", "100", stdin = "pipe", stdout = "pipe"})
  local reader = evlua.spawn(function() return select(3, child.stdout:read()) end)
  local writer = evlua.spawn(function() return select(3, child.stdin:write(("x"):rep(1 << 20))) end)
  local waiter = evlua.spawn(function() return child:wait() end)
  local other = evlua.spawn(function() return child:wait() end)
  eventually("they do not wait", function()
    return reader:status() == "waiting" and writer:status() == "waiting" and waiter:status() == "waiting"
  end)
  check_failure("sleep: timed out", "ETIMEDOUT", child:wait{timeout = 0.01})
  assert(child:close())
  assert(waiter:join().signal == "SIGKILL" and other:join().signal == "SIGKILL")
  local read, wrote = reader:join(), writer:join()
  assert(read == "EOF" or read == "ECANCELED", read)
  assert(wrote == "EPIPE" or wrote == "ECANCELED", wrote)
  assert(not exists(child.pid) and child:status().signal == "SIGKILL")
  -- Also in a task that has been cancelled.
  child = assert(process.spawn{"sleep", "100"})
  local code, closed
  local task = evlua.spawn(function()
    code = select(3, child:wait())
    closed = child:close()
  end)
  eventually("it does not wait", function() return task:status() == "waiting" end)
  task:cancel()
  task:wait()
  assert(code == "ECANCELED" and closed and not exists(child.pid))
end

-- Signals.
function tests.signals()
  local child = assert(process.spawn{"sh", "-c", "trap 'echo usr1' USR1; echo ready; while :; do sleep 0.01; done",
                                     stdout = "pipe"})
  assert(child.stdout:read("l") == "ready")
  assert(child:kill("SIGUSR1"))
  assert(child.stdout:read("l") == "usr1")
  assert(child:kill(0))
  assert(child:stop().signal == "SIGTERM")
  child:close()
  child = assert(process.spawn{"sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.01; done", stdout = "pipe"})
  assert(child.stdout:read("l") == "ready")
  assert(child:stop{grace = 0.05}.signal == "SIGKILL")
  child:close()
  assert(not pcall(child.kill, child, "SIGNONE") and not pcall(child.kill, child, 1000))
  assert(not pcall(child.kill, child, "TERM", {group = true}))
  -- A group of its own.
  child = assert(process.spawn{"sh", "-c", "sleep 100 & echo $!; wait", stdout = "pipe", new_group = true})
  local grandchild = child.stdout:read("l")
  assert(child:kill("KILL", {group = true}))
  assert(child:wait().signal == "SIGKILL")
  eventually("the grandchild lives", function()
    local stat = fs.read("/proc/" .. grandchild .. "/stat")
    return not stat or stat:find("%) Z")
  end)
  child:close()
  -- Also those of it who do not listen to SIGTERM: they would hold the pipe.
  child = assert(process.spawn{"sh", "-c", "(trap '' TERM; echo deaf; while :; do sleep 0.01; done) & exec sleep 100",
                               stdout = "pipe", new_group = true})
  assert(child.stdout:read("l") == "deaf")
  assert(child:stop{grace = 20}.signal == "SIGTERM")
  assert(child.stdout:read("a", {timeout = 20}) == "")
  child:close()
  child = assert(process.spawn{"sh", "-c", "cut -d' ' -f6 /proc/$$/stat", stdout = "pipe", new_session = true})
  assert(child.stdout:read("a"):match("%d+") == tostring(child.pid))
  child:close()
end

-- Files as standard input and output.
function tests.files()
  local name = os.tmpname()
  local file = assert(fs.open(name, "w"))
  local child = assert(process.spawn{"sh", "-c", "echo out; echo err >&2", stdout = file, stderr = "stdout"})
  file:close()
  assert(child:wait().ok and assert(fs.read(name)) == "out\nerr\n")
  file = assert(fs.open(name))
  assert(assert(process.run{"cat", stdin = file}).stdout == "out\nerr\n")
  file:close()
  fs.remove(name)
end

-- Nothing that is open here is open there.
function tests.descriptors()
  local listener = assert(net.listen("127.0.0.1:0"))
  local stream = assert(net.connect("127.0.0.1", listener:port()))
  local file, io_file = assert(fs.open("/etc/passwd")), assert(io.open("/etc/passwd"))
  local other = assert(process.spawn{"cat", stdin = "pipe", stdout = "pipe", stderr = "pipe"})
  for _ = 1, 5 do
    local seen = assert(process.run{"sh", "-c", "echo /proc/$$/fd/*"}).stdout
    local names = {}
    for number in seen:gmatch("/fd/(%d+)") do names[#names + 1] = number end
    -- The shell has 0, 1 and 2, and the folder that it lists.
    assert(#names <= 4 and names[1] == "0" and names[2] == "1" and names[3] == "2", seen)
  end
  other:close() stream:close() listener:close() file:close() io_file:close()
end

-- Many at once, and none stays.
function tests.many()
  local before = #assert(fs.list("/proc/self/fd"))
  local jobs = {}
  for i = 1, 200 do
    jobs[i] = function()
      local got = assert(process.run{"sh", "-c", "cat; exit " .. i % 7, stdin = "job " .. i})
      assert(got.stdout == "job " .. i and got.code == i % 7)
      return true
    end
  end
  assert(evlua.all(jobs))
  assert(#zombies() == 0)
  eventually("descriptors are left", function() return #assert(fs.list("/proc/self/fd")) <= before + 2 end)
end

-- One whose object is forgotten goes on, and is collected when it ends.
function tests.forgotten()
  local first = assert(process.spawn{"sleep", "0.2"}).pid
  local second = assert(process.spawn{"true"}).pid
  collectgarbage() collectgarbage()
  eventually("a zombie stays", function() return not exists(first) and not exists(second) end)
  assert(#zombies() == 0)
end

local names = {}
for name in pairs(tests) do names[#names + 1] = name end
table.sort(names)
for _, name in ipairs(arg[1] and {arg[1]} or names) do
  local ok, message = xpcall(tests[name], debug.traceback)
  if not ok then error(name .. ": " .. message, 0) end
end
