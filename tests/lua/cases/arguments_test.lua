-- Wrong arguments raise, and the error names the function as those of Lua's own library do: as the caller has called
-- it, or, where it has no name there, in full.
local test = require "evlua.test"
local evlua, fs, net = require "evlua", require "evlua.fs", require "evlua.net"
local shared, sync, thread = require "evlua.shared", require "evlua.sync", require "evlua.thread"
local describe, it, assert = test.describe, test.it, test.assert

local MODULES = {"evlua", "evlua.compat", "evlua.dns", "evlua.encoding", "evlua.fs", "evlua.json", "evlua.net",
                 "evlua.process", "evlua.shared", "evlua.sync", "evlua.thread"}
-- Of no use to any function but these, which take anything, or nothing, or are refused in a test.
local WRONG = coroutine.create(function() end)
local TAKE_ANYTHING = {}
for name in ([[
  evlua.dns.clear_cache evlua.exit evlua.json.is_array evlua.locals evlua.now evlua.process.env evlua.process.pid
  evlua.stats evlua.sync.event evlua.sync.mutex evlua.sync.rwlock evlua.sync.wait_group evlua.tasks
  evlua.thread.workers evlua.time evlua.yield
]]):gmatch("%S+") do TAKE_ANYTHING[name] = true end

local function escaped(text) return (text:gsub("%p", "%%%0")) end

-- What it raises, or "".
local function refusal(f, ...)
  local fine, message = pcall(f, ...)
  return fine and "" or message
end

describe("functions of modules", function()
  for _, module in ipairs(MODULES) do
    it("of " .. module, function()
      local count = 0
      for name, f in pairs(require(module)) do
        local full = module .. "." .. name
        if type(f) == "function" and not TAKE_ANYTHING[full] then
          count = count + 1
          local called = load(("local module, wrong = ... module.%s(wrong, wrong, wrong)"):format(name), "=called")
          assert.match("^called:1: bad argument #%d to '" .. escaped(name) .. "' %(",
            refusal(called, require(module), WRONG))
          assert.match("^bad argument #%d to '" .. escaped(full) .. "' %(", refusal(f, WRONG, WRONG, WRONG))
          assert.no_match("got nil", refusal(f))
          assert.no_match("got no value", refusal(f, nil, nil, nil, nil))
        end
      end
      assert(count > 0)
    end)
  end
end)

local MAKE = {
  channel = function() return sync.channel(1) end,
  counter = function() return shared.counter("arguments_test_counter") end,
  datagram = function() return assert(net.datagram("127.0.0.1:0")) end,
  dict = function() return shared.dict("arguments_test_dict") end,
  event = sync.event,
  file = function() return assert(fs.temp_file()) end,
  limiter = function() return sync.limiter{rate = 1} end,
  listener = function() return assert(net.listen("127.0.0.1:0")) end,
  mutex = sync.mutex,
  pool = function() return thread.pool(1) end,
  rwlock = sync.rwlock,
  semaphore = function() return sync.semaphore(1) end,
  stream = function()
    local listener = assert(net.listen("127.0.0.1:0"))
    return assert(net.connect("127.0.0.1", listener:port()))
  end,
  task = function() return evlua.spawn(function() end) end,
  ["thread channel"] = function() return thread.channel(1) end,
  wait_group = sync.wait_group,
}

-- Those of a dictionary are not in its metatable.
local METHODS = {dict = {get = 1, set = 1, add = 1, replace = 1, incr = 1, cas = 1, update = 1, delete = 1, ttl = 1}}

describe("methods of objects", function()
  for kind, make in pairs(MAKE) do
    it("of a " .. kind, function()
      local refusals = 0
      for name in pairs(METHODS[kind] or debug.getmetatable(make()).__index) do
        local called = load(("local object, wrong = ... object:%s(wrong, wrong)"):format(name), "=called")
        local message = name:find("^__") and "" or refusal(evlua.timeout, 1, called, make(), WRONG)
        assert.no_match("attempt to", message)
        if message:find("argument", 1, true) then
          refusals = refusals + 1
          assert.match("^called:1: bad argument #%d to '" .. escaped(name) .. "' %(", message)
        end
      end
      assert(refusals > 0)
    end)
  end
end)
