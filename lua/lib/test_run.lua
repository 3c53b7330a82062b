-- evlua test, in the Lua state of one file: loads it, runs its tests, and sends what became of them.
local task = require "evlua.task"
package.loaded["evlua.task"] = nil
local evlua, inspect, test = require "evlua", require "evlua.inspect", require "evlua.test"
local inner = require("evlua.test.assert").calls_of
local state, new_block = inner.state, inner.new_block

local END_SECONDS = 0.1  -- that tasks get to end by themselves behind a test
local STOP_SECONDS = 1   -- and when they have been cancelled

-- -- text -------------------------------------------------------------------------------------------------------------

-- Without what is the runner's own.
local function user_lines(trace)
  local lines = {}
  for line in trace:gmatch("\n\t([^\n]*)") do
    if line:find("[evlua", 1, true) then
      if line:find("spawned at", 1, true) then break end
    elseif not line:find("^%[C%]: in function 'error'") and not line:find("^%[C%]: in function 'x?pcall'") then
      lines[#lines + 1] = "\t" .. line
    end
  end
  while lines[#lines] and lines[#lines]:find("^\t%[C%]: in") do lines[#lines] = nil end
  return lines
end

local function with_trace(message, trace)
  local lines = user_lines(trace)
  local position = message:match("^[^\n]-:%d+:")
  local told = #lines == 1 and position and lines[1]:sub(2, #position + 1) == position
  if #lines == 0 or told then return message end
  return message .. "\nstack traceback:\n" .. table.concat(lines, "\n")
end

local function describe_error(value)
  local message = type(value) == "string" and value or inspect.value(value)
  return with_trace(message, debug.traceback("", 2))
end

-- -- one function -----------------------------------------------------------------------------------------------------

local function entry_of(handle)
  for _, entry in ipairs(task.tasks()) do
    if entry.task == handle then return entry end
  end
end

-- Runs f in a task of its own. Nil if all went well, else what went wrong.
local function guard(f, seconds)
  local over, failure = false, nil
  local main = task.spawn(function()
    local ok, text = xpcall(f, describe_error)
    over, failure = true, not ok and text or nil
  end)
  main:name("test")
  task.limit_time(main, seconds + END_SECONDS)  -- where it computes
  if main:wait(seconds) then
    if over then return failure end
    return "the test was cancelled"
  end
  local entry = entry_of(main)
  local where = entry and with_trace(entry.waits_on and ", waiting for " .. entry.waits_on or "", entry.traceback) or ""
  main:cancel("timeout")
  main:wait(STOP_SECONDS)
  return ("timed out after %g s"):format(seconds) .. where
end

-- -- tasks that are left ----------------------------------------------------------------------------------------------

local function known_tasks()
  local known = {}
  for _, entry in ipairs(task.tasks()) do
    if entry.task then known[entry.task] = true end
  end
  return known
end

local function new_tasks(known)
  local list = {}
  for _, entry in ipairs(task.tasks()) do
    if entry.task and not known[entry.task] then list[#list + 1] = entry end
  end
  return list
end

-- Ends what was begun since, and appends what there is to say of it.
local function end_tasks(known, failures)
  local deadline = task.now() + END_SECONDS
  while #new_tasks(known) > 0 and task.now() < deadline do task.sleep(0.001) end
  local left = new_tasks(known)
  for _, entry in ipairs(left) do
    local waits = entry.waits_on and " which waits for " .. entry.waits_on or ""
    failures[#failures + 1] = with_trace(("left a task behind: %s%s"):format(entry.name, waits), entry.traceback)
    entry.task:cancel()
  end
  for _, entry in ipairs(left) do
    if not entry.task:wait(STOP_SECONDS) then known[entry.task] = true end
  end
  for _, text in ipairs(task.take_errors()) do
    failures[#failures + 1] = with_trace("error in a task that nobody joined: " .. text:match("^[^\n]*"), text)
  end
end

local function undo(list)
  for i = #list, 1, -1 do list[i]() end
end

-- -- tests and blocks -------------------------------------------------------------------------------------------------

local Run = {}
Run.__index = Run

function Run:report(name, status, seconds, failures)
  self.results:send{name = name, status = status, seconds = seconds, failures = failures}
end

local function full_name(outer, name) return outer == "" and name or outer .. " " .. name end

function Run:wants(name) return not self.filter or name:find(self.filter) ~= nil end

-- The number of tests that are wanted.
function Run:count(block, name)
  local count = 0
  for _, child in ipairs(block.children) do
    local its = full_name(name, child.name)
    if child.children then
      count = count + self:count(child, its)
    elseif self:wants(its) then
      count = count + 1
    end
  end
  return count
end

function Run:hooks(list, failures)
  for _, hook in ipairs(list) do
    failures[#failures + 1] = guard(hook, self.timeout)
  end
end

function Run:test(one, name, blocks)
  if not one.f then return self:report(name, "pending", 0, {}) end
  local began, known, failures, outer_undo = task.now(), known_tasks(), {}, state.undo
  state.undo = {}
  for _, block in ipairs(blocks) do
    if #failures == 0 then self:hooks(block.before_each, failures) end
  end
  if #failures == 0 then failures[1] = guard(one.f, one.timeout or self.timeout) end
  for i = #blocks, 1, -1 do self:hooks(blocks[i].after_each, failures) end
  undo(state.undo)
  state.undo = outer_undo
  end_tasks(known, failures)
  self:report(name, #failures == 0 and "passed" or "failed", task.now() - began, failures)
end

function Run:fail_all(block, name, failures)
  for _, child in ipairs(block.children) do
    local its = full_name(name, child.name)
    if child.children then
      self:fail_all(child, its, failures)
    elseif self:wants(its) then
      self:report(its, child.f and "failed" or "pending", 0, child.f and failures or {})
    end
  end
end

function Run:block(block, name, blocks)
  if self:count(block, name) == 0 then return end
  blocks = table.move(blocks, 1, #blocks, 1, {})
  blocks[#blocks + 1] = block
  local known, failures, outer_undo = known_tasks(), {}, state.undo
  state.undo = {}
  self:hooks(block.before_all, failures)
  if #failures > 0 then
    self:fail_all(block, name, failures)
    failures = {}
  else
    for _, child in ipairs(self.shuffled(block.children)) do
      local its = full_name(name, child.name)
      if child.children then
        self:block(child, its, blocks)
      elseif self:wants(its) then
        self:test(child, its, blocks)
      end
    end
  end
  self:hooks(block.after_all, failures)
  undo(state.undo)
  state.undo = outer_undo
  end_tasks(known, failures)
  if #failures > 0 then self:report(full_name(name, "(behind the tests)"), "failed", 0, failures) end
end

-- -- the file ---------------------------------------------------------------------------------------------------------

local NAMES = {"describe", "it", "pending", "before_all", "after_all", "before_each", "after_each", "spy", "spy_on",
               "calls_of", "assert"}

local function define_globals()
  for _, name in ipairs(NAMES) do _G[name] = test[name] end
  local function leave() error("a test must not end the process", 2) end
  os.exit, evlua.exit = leave, leave
end

-- A function that gives the list in an order that the seed decides. (Numbers: splitmix64.)
local function shuffler(seed)
  local counter = seed
  local function below(n)
    counter = counter + 0x9E3779B97F4A7C15
    local z = counter
    z = (z ~ (z >> 30)) * 0xBF58476D1CE4E5B9
    z = (z ~ (z >> 27)) * 0x94D049BB133111EB
    return ((z ~ (z >> 31)) >> 1) % n
  end
  return function(list)
    local copy = table.move(list, 1, #list, 1, {})
    if seed == 0 then return copy end
    for i = #copy, 2, -1 do
      local j = below(i) + 1
      copy[i], copy[j] = copy[j], copy[i]
    end
    return copy
  end
end

-- Loads the file: its tests as a block, or what went wrong.
local function load_file(path, seconds)
  local root = new_block("")
  local chunk, message = loadfile(path)
  if not chunk then return nil, message end
  state.block = root
  local failure = guard(function() chunk(path) end, seconds)
  state.block = nil
  return not failure and root or nil, failure
end

-- Sends {name, status, seconds, failures} for each test, and `true` at the end.
local function run_file(path, options, results)
  task.take_errors()
  define_globals()
  math.randomseed(options.seed)
  local run = setmetatable({results = results, filter = options.filter, timeout = options.timeout,
                            shuffled = shuffler(options.seed)}, Run)
  local known = known_tasks()
  local root, failure = load_file(path, options.timeout)
  if root then
    run:block(root, "", {})
  else
    run:report("(loading the file)", "failed", 0, {failure})
  end
  local failures = {}
  end_tasks(known, failures)
  if #failures > 0 then run:report("(behind the tests)", "failed", 0, failures) end
  results:send(true)
end

return {file = run_file, shuffler = shuffler, names = NAMES}
