-- The module `evlua.test`: what a file of tests is written with. It collects; lua/lib/test_run.lua runs.
local bad_argument = require "evlua.bad_argument"
local bad_type = require "evlua.bad_type"
local parts = require "evlua.test.assert"
local calls_of = parts.calls_of

local test = {assert = parts.assert}

-- The block whose function runs, while the file is loaded; and what has to be undone after the test that runs.
local state = {block = nil, undo = nil}

local function check_function(position, ...)
  if type((select(position, ...))) ~= "function" then bad_type(position, "function", 2, ...) end
end

local function check_name(...)
  if type((...)) ~= "string" then bad_type(1, "string", 2, ...) end
end

local function block_for(name)
  if state.undo then error(("'%s' cannot be called in a test"):format(name), 3) end
  if not state.block then error(("'%s' is for files that 'evlua test' runs"):format(name), 3) end
  return state.block
end

local function new_block(name)
  return {name = name, children = {}, before_all = {}, after_all = {}, before_each = {}, after_each = {}}
end

function test.describe(...)
  check_name(...)
  check_function(2, ...)
  local name, f = ...
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

function test.it(...)
  check_name(...)
  check_function(2, ...)
  local name, f, options = ...
  if options ~= nil then
    if type(options) ~= "table" then
      bad_argument(3, ("table expected, got %s"):format(type(options)))
    end
    for key in pairs(options) do
      if key ~= "timeout" then bad_argument(3, ("unknown option '%s'"):format(tostring(key))) end
    end
    local seconds = options.timeout
    if seconds ~= nil and (type(seconds) ~= "number" or not (seconds > 0)) then
      bad_argument(3, "option 'timeout': seconds above 0 expected")
    end
  end
  block_for("it")
  add_test(name, f, options)
end

function test.pending(...)
  check_name(...)
  block_for("pending")
  add_test((...))
end

for _, hook in ipairs{"before_all", "after_all", "before_each", "after_each"} do
  test[hook] = function(...)
    check_function(1, ...)
    local list = block_for(hook)[hook]
    list[#list + 1] = ...
  end
end

-- -- spies ------------------------------------------------------------------------------------------------------------

local function keep_results(call, ...)
  call.results = table.pack(...)
  return ...
end

function test.spy(f)
  if f ~= nil then check_function(1, f) end
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

function test.spy_on(...)
  local t, key, f = ...
  if type(t) ~= "table" then bad_type(1, "table", 1, ...) end
  local original = rawget(t, key)
  if f == nil then f = t[key] end
  check_function(3, t, key, f)
  if not state.undo then error("'spy_on' is for tests and what runs before them", 2) end
  local spy = test.spy(f)
  rawset(t, key, spy)
  table.insert(state.undo, function() rawset(t, key, original) end)
  return spy
end

function test.calls_of(spy)
  local calls = type(spy) == "function" and calls_of[spy]
  if not calls then bad_argument(1, "a spy expected") end
  return calls
end

-- What the runner needs, and nobody else sees.
calls_of.state, calls_of.new_block = state, new_block

return test
