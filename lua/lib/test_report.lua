-- What evlua test tells of its tests: on a terminal, as TAP, as a file in the format of JUnit. Each has `begin`, `file`
-- for each file's tests, and `finish`.
local report = {}

local function write(...) io.stdout:write(...) end

local function complain(message) io.stderr:write("evlua test: cannot write ", message, "\n") end

local function indent(text, by) return (by .. text:gsub("\n", "\n" .. by)) end

local function count_of(tests, status)
  local count = 0
  for _, test in ipairs(tests) do
    if test.status == status then count = count + 1 end
  end
  return count
end

-- -- for people -------------------------------------------------------------------------------------------------------

local Plain = {}
Plain.__index = Plain
function report.plain() return setmetatable({passed = 0, failed = 0, pending = 0}, Plain) end

function Plain:begin(settings) self.seed = settings.seed end

function Plain:file(path, tests, seconds)
  local failed = count_of(tests, "failed")
  for status in pairs{passed = true, failed = true, pending = true} do
    self[status] = self[status] + count_of(tests, status)
  end
  if #tests == 0 then return end  -- none that the filter matches
  write(failed == 0 and "ok    " or "FAIL  ", path)
  write(("  (%d test%s, %.2f s)\n"):format(#tests, #tests == 1 and "" or "s", seconds))
  for _, test in ipairs(tests) do
    if test.status == "failed" then
      write("\n  ", test.name, "\n")
      for _, failure in ipairs(test.failures) do write(indent(failure, "    "), "\n") end
    end
  end
  if failed > 0 then write("\n") end
end

function Plain:finish(seconds)
  local pending = self.pending > 0 and (", %d pending"):format(self.pending) or ""
  local counts = ("%d passed, %d failed%s"):format(self.passed, self.failed, pending)
  write(counts, (" in %.2f s (--seed %d)\n"):format(seconds, self.seed))
end

-- -- TAP --------------------------------------------------------------------------------------------------------------

local Tap = {}
Tap.__index = Tap
-- To a file that nothing but this is written to.
function report.tap(out) return setmetatable({count = 0, out = out}, Tap) end

function Tap:write(...)
  if not self.failure then self.failure = select(2, self.out:write(...)) end
end

-- What is there can be read while the tests go on.
function Tap:flush()
  if not self.failure then self.failure = select(2, self.out:flush()) end
end

function Tap:begin(settings)
  self:write("TAP version 13\n# --seed ", settings.seed, "\n")
  self:flush()
end

function Tap:file(path, tests)
  for _, test in ipairs(tests) do
    self.count = self.count + 1
    local name = (path .. ": " .. test.name):gsub("[\\#]", "\\%0"):gsub("\n", " ")
    self:write(test.status == "failed" and "not ok " or "ok ", self.count, " - ", name,
      test.status == "pending" and " # SKIP pending" or "", "\n")
    if test.status == "failed" then
      self:write("  ---\n  message: |\n", indent(table.concat(test.failures, "\n"), "    "),
        ("\n  seconds: %.3f\n  ...\n"):format(test.seconds))
    end
  end
  self:flush()
end

-- False when it cannot be written.
function Tap:finish()
  self:write("1..", self.count, "\n")
  self:flush()
  if self.failure then complain("TAP: " .. self.failure) end
  return not self.failure
end

-- -- JUnit ------------------------------------------------------------------------------------------------------------

local Junit = {}
Junit.__index = Junit
function report.junit(path) return setmetatable({path = path, parts = {}, tests = 0, failures = 0}, Junit) end

local entities = {["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;", ["\n"] = "&#10;", ["\t"] = "&#9;"}

-- XML has no words for most control characters, nor for what is not UTF-8.
local function xml(text)
  if not utf8.len(text) then text = text:gsub("[\x80-\xff]", "?") end
  return (text:gsub("[\0-\8\11-\31\127]", "?"):gsub('[&<>"\n\t]', entities))
end

function Junit:begin(settings) self.seed = settings.seed end

function Junit:add(...) self.parts[#self.parts + 1] = table.concat{...} end

function Junit:file(path, tests, seconds)
  local failed = count_of(tests, "failed")
  self.tests, self.failures = self.tests + #tests, self.failures + failed
  self:add(('  <testsuite name="%s" tests="%d" failures="%d" errors="0" skipped="%d" time="%.3f">\n'):format(xml(path),
    #tests, failed, count_of(tests, "pending"), seconds))
  for _, test in ipairs(tests) do
    self:add(('    <testcase classname="%s" name="%s" time="%.3f"'):format(xml((path:gsub("%.lua$", ""))),
      xml(test.name), test.seconds))
    if test.status == "passed" then
      self:add("/>\n")
    elseif test.status == "pending" then
      self:add("><skipped/></testcase>\n")
    else
      local text = table.concat(test.failures, "\n")
      self:add(">\n      <failure message=\"", xml(text:match("^[^\n]*")), '">', xml(text))
      self:add("</failure>\n    </testcase>\n")
    end
  end
  self:add("  </testsuite>\n")
end

-- False when the file cannot be written.
function Junit:finish(seconds)
  local file, message = io.open(self.path, "w")
  if file then
    local head = ('<?xml version="1.0" encoding="UTF-8"?>\n'
      .. '<testsuites name="evlua test --seed %d" tests="%d" failures="%d" time="%.3f">\n')
      :format(self.seed, self.tests, self.failures, seconds)
    local ok
    ok, message = file:write(head, table.concat(self.parts), "</testsuites>\n")
    if ok then ok, message = file:close() else file:close() end
    if ok then return true end
  end
  complain(message)
  return false
end

return report
