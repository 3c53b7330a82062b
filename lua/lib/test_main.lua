-- evlua test: finds files of tests, runs each in a Lua state of its own, and tells what came of them. Returns a
-- function of {files, and lists of what options were given} -> exit code.
local evlua, fs, thread = require "evlua", require "evlua.fs", require "evlua.thread"
local find, report = require "evlua.find_files", require "evlua.test.report"
local shuffler = require("evlua.test.run").shuffler

local END_SECONDS = 2  -- that what a file has begun gets to end

local function refuse(message)
  io.stderr:write("evlua test: ", message, "\n")
  os.exit(2)
end

local function number_option(options, name, otherwise, good, wanted)
  local given = options[name]
  if not given then return otherwise end
  local value = tonumber(given[#given])
  if not value or not good(value) then refuse(("--%s takes %s"):format(name, wanted)) end
  return value
end

local function last(list) return list and list[#list] end

local function settings_of(options)
  local settings = {
    seed = number_option(options, "seed", nil, function(n) return math.type(n) == "integer" and n >= 0 end,
      "an integer, 0 or more"),
    jobs = number_option(options, "jobs", 1, function(n) return math.type(n) == "integer" and n >= 1 and n <= 1024 end,
      "a number from 1 to 1024"),
    timeout = number_option(options, "timeout", 10, function(n) return n > 0 and n < math.huge end,
      "seconds above 0"),
    filter = last(options.filter),
    junit = last(options.junit),
    tap = options.tap ~= nil,
  }
  settings.seed = settings.seed or string.unpack("<I4", evlua.random_bytes(4)) % 1000000 + 1
  local ok, message = pcall(string.find, "", settings.filter or "")
  if not ok then refuse("--filter: " .. message:gsub("^.-: ", "")) end
  return settings
end

-- -- files ------------------------------------------------------------------------------------------------------------

local function find_files(paths)
  local files = {}
  for _, path in ipairs(#paths > 0 and paths or {"."}) do
    if find.is_folder(path) then
      local found, message = find.below(path, "_test%.lua$")
      if not found then refuse(message) end
      table.move(found, 1, #found, #files + 1, files)
    else
      if not fs.stat(path) then refuse(("there is no '%s'"):format(path)) end
      files[#files + 1] = path
    end
  end
  return files
end

-- -- running ----------------------------------------------------------------------------------------------------------

local function run_there(...) return require("evlua.test.run").file(...) end

-- The file's tests, as a list. What ends the whole state is one more that has failed.
local function run_file(path, settings)
  local results, tests, complete = thread.channel(100), {}, false
  local call = evlua.spawn(function()
    local ok, message = pcall(thread.run, run_there, path, settings, results)
    results:close()
    return ok, message
  end)
  for one in results do
    if one == true then
      complete = true
      break
    end
    tests[#tests + 1] = one
  end
  if not call:wait(END_SECONDS) then
    call:cancel()
    call:wait(END_SECONDS)
  end
  if not complete then
    local _, message = call:join(END_SECONDS)
    tests[#tests + 1] = {name = "(the file)", status = "failed", seconds = 0, failures = {tostring(message)}}
  end
  return tests
end

return function(options)
  local settings = settings_of(options)
  local files = find_files(options.files)
  if #files == 0 then refuse("no files end in _test.lua here") end
  local reports = {settings.tap and report.tap(options.native()) or report.plain()}
  if settings.junit then reports[2] = report.junit(settings.junit) end
  for _, one in ipairs(reports) do one:begin(settings) end
  local began, failed, count = evlua.now(), 0, 0
  local passed_on = {seed = settings.seed, timeout = settings.timeout, filter = settings.filter}
  local jobs = {concurrency = settings.jobs}
  evlua.map(shuffler(settings.seed)(files), function(path)
    local file_began = evlua.now()
    local tests = run_file(path, passed_on)
    for _, test in ipairs(tests) do
      count = count + 1
      if test.status == "failed" then failed = failed + 1 end
    end
    for _, one in ipairs(reports) do one:file(path, tests, evlua.now() - file_began) end
  end, jobs)
  local good = true
  for _, one in ipairs(reports) do good = one:finish(evlua.now() - began) ~= false and good end
  if count == 0 then
    refuse(settings.filter and "no test has a name that the filter matches" or "there are no tests in the files")
  end
  return failed == 0 and good and 0 or 1
end
