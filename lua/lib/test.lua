-- The module `evlua.test`: what a file of tests is written with. It collects; lua/lib/test_run.lua runs.
local parts = require "evlua.test.assert"
local calls_of = parts.calls_of

local test = {assert = parts.assert}

-- The block whose function runs, while the file is loaded; and what has to be undone after the test that runs.
local state = {block = nil, undo = nil}

local function check_function(value, position, name)
  if type(value) ~= "function" then
    error(("bad argument #%d to '%s' (function expected, got %s)"):format(position, name, type(value)), 3)
  end
end

local function check_name(value, name)
  if type(value) ~= "string" then
    error(("bad argument #1 to '%s' (string expected, got %s)"):format(name, type(value)), 3)
  end
end

local function block_for(name)
  if state.undo then error(("'%s' cannot be called in a test"):format(name), 3) end
  if not state.block then error(("'%s' is for files that 'evlua test' runs"):format(name), 3) end
  return state.block
end

local function new_block(name)
  return {name = name, children = {}, before_all = {}, after_all = {}, before_each = {}, after_each = {}}
end

function test.describe(name, f)
  check_name(name, "describe")
  check_function(f, 2, "describe")
  local outer = block_for("describe")
  local block = new_block(name)
  outer.children[#outer.children + 1] = block
  state.block = block
  f()
  state.block = outer
end

local function add_test(name, f, options)
  local block = state.block
  block.children[#block.children + 1] = {name = name, f = f, timeout = options and options.timeout}
end

function test.it(name, f, options)
  check_name(name, "it")
  check_function(f, 2, "it")
  if options ~= nil then
    if type(options) ~= "table" then
      error(("bad argument #3 to 'it' (table expected, got %s)"):format(type(options)), 2)
    end
    for key in pairs(options) do
      if key ~= "timeout" then error(("bad argument #3 to 'it' (unknown option '%s')"):format(tostring(key)), 2) end
    end
    local seconds = options.timeout
    if seconds ~= nil and (type(seconds) ~= "number" or not (seconds > 0)) then
      error("bad argument #3 to 'it' (option 'timeout': seconds above 0 expected)", 2)
    end
  end
  block_for("it")
  add_test(name, f, options)
end

function test.pending(name)
  check_name(name, "pending")
  block_for("pending")
  add_test(name)
end

for _, hook in ipairs{"before_all", "after_all", "before_each", "after_each"} do
  test[hook] = function(f)
    check_function(f, 1, hook)
    local list = block_for(hook)[hook]
    list[#list + 1] = f
  end
end

-- -- spies ------------------------------------------------------------------------------------------------------------

local function keep_results(call, ...)
  call.results = table.pack(...)
  return ...
end

function test.spy(f)
  if f ~= nil then check_function(f, 1, "spy") end
  local calls = {}
  local function spy(...)
    local call = table.pack(...)
    calls[#calls + 1] = call
    if f then return keep_results(call, f(...)) end
    call.results = {n = 0}
  end
  calls_of[spy] = calls
  return spy
end

function test.spy_on(t, key, f)
  if type(t) ~= "table" then
    error(("bad argument #1 to 'spy_on' (table expected, got %s)"):format(type(t)), 2)
  end
  local original = rawget(t, key)
  if f == nil then f = t[key] end
  check_function(f, 3, "spy_on")
  if not state.undo then error("'spy_on' is for tests and what runs before them", 2) end
  local spy = test.spy(f)
  rawset(t, key, spy)
  table.insert(state.undo, function() rawset(t, key, original) end)
  return spy
end

function test.calls_of(spy)
  local calls = type(spy) == "function" and calls_of[spy]
  if not calls then error("bad argument #1 to 'calls_of' (a spy expected)", 2) end
  return calls
end

-- What the runner needs, and nobody else sees.
calls_of.state, calls_of.new_block = state, new_block

return test
