-- Forms and JSON, as methods of requests: what is built of the primitives of `native`.
local bad_argument = require "evlua.bad_argument"
local native = ...
local methods = native.methods
local fs, encoding, json = require "evlua.fs", require "evlua.encoding", require "evlua.json"
local evlua = require "evlua"
local random_bytes = evlua.random_bytes

local function checked(options, position, known)
  if options == nil then return {} end
  local function refuse(format, ...) bad_argument(position, format:format(...), 3) end
  if type(options) ~= "table" then refuse("options expected, got %s", type(options)) end
  for name, value in pairs(options) do
    if not known[name] then refuse("unknown option '%s'", tostring(name)) end
    if math.type(value) ~= "integer" or value < 0 then refuse("option '%s': an integer from 0 on expected", name) end
  end
  return options
end

-- The next thing that the reader has to say: event and data; or nil, message, code.
local function advance(form)
  while true do
    local event, data = form.reader:next()
    if event == "invalid" then return nil, "multipart form: " .. data, "EPROTO" end
    if event ~= "more" then return event, data end
    local piece, message, code = form.request:read()
    if piece then
      form.reader:feed(piece)
    elseif code == "EOF" then
      form.reader:finish()
    else
      return nil, message, code
    end
  end
end

local function raise(message)
  error(message, 0)
end

-- A generic for over `step`, which returns nil, message, code: failures raise, but the end of file.
local function each(step, subject)
  return function()
    local value, message, code = step(subject)
    if value == nil and code ~= nil and code ~= "EOF" then raise(message) end
    return value
  end
end

local Part = {__name = "evlua.part"}
Part.__index = Part

function Part:read()
  if self.failure then return nil, self.failure[1], self.failure[2] end
  if self.form.part ~= self then
    error("the part is over: read it before the next one is asked for", 2)
  end
  if self.ended then return nil, "end of file", "EOF" end
  local event, data, code = advance(self.form)
  if event == "data" then return data end
  if event == nil then
    self.failure = {data, code}
    return nil, data, code
  end
  self.ended = true
  return nil, "end of file", "EOF"
end

function Part:chunks()
  return each(self.read, self)
end

-- Calls `sink` with every piece; the size, or nil, message, code.
local function pour(part, limit, sink)
  local size = 0
  while true do
    local piece, message, code = part:read()
    if not piece then
      if code == "EOF" then return size end
      return nil, message, code
    end
    size = size + #piece
    if size > limit then return nil, ("the part '%s' is longer than %d bytes"):format(part.name, limit), "ELIMIT" end
    local ok, why, what = sink(piece)
    if not ok then return nil, why, what end
  end
end

function Part:text(limit)
  if limit ~= nil and (math.type(limit) ~= "integer" or limit < 0) then
    bad_argument(1, "bytes expected")
  end
  local pieces = {}
  local size, message, code = pour(self, limit or 1 << 20, function(piece)
    pieces[#pieces + 1] = piece
    return true
  end)
  if not size then return nil, message, code end
  return table.concat(pieces)
end

-- Beside the file, until all of it is there: a handler may be ended at any time.
function Part:save(path, options)
  if type(path) ~= "string" then bad_argument(1, "string expected, got " .. type(path)) end
  local limit = checked(options, 2, {limit = true}).limit or math.maxinteger
  local draft = ("%s.evlua-%s"):format(path:match("^.*/") or "", encoding.hex_encode(random_bytes(12)))
  local file, message, code = fs.open(draft, "wx")
  if not file then return nil, message, code end
  local settled = false
  local function drop()
    if settled then return end
    file:close()
    fs.remove(draft)
    settled = true
  end
  evlua.defer(drop)
  local size, done
  size, message, code = pour(self, limit, function(piece) return file:write(piece) end)
  if size then done, message, code = file:close() end
  if done then done, message, code = fs.rename(draft, path) end
  settled = done
  if done then return size end
  drop()
  return nil, message, code
end

-- A file without a name: it goes with its last handle, whatever happens.
local function open_nameless()
  local folder = os.getenv("TMPDIR") or "/tmp"
  local path = ("%s/evlua-%s"):format(folder, encoding.hex_encode(random_bytes(12)))
  local file, message, code = fs.open(path, "w+x", {permissions = 384})
  if not file then return nil, message, code end
  fs.remove(path)
  return file
end

function Part:spool(options)
  options = checked(options, 1, {memory = true, limit = true})
  local memory, limit = options.memory or 65536, options.limit or 100 << 20
  local pieces, held, file = {}, 0, nil
  local size, message, code = pour(self, limit, function(piece)
    if file then return file:write(piece) end
    pieces[#pieces + 1] = piece
    held = held + #piece
    if held <= memory then return true end
    local why, what
    file, why, what = open_nameless()
    if not file then return nil, why, what end
    native.at_end(self.form.request, file.close, file)
    return file:write(table.concat(pieces))
  end)
  if not size then
    if file then file:close() end
    return nil, message, code
  end
  local upload = {name = self.name, filename = self.filename, type = self.type, size = size}
  if file then
    local ok, why, what = file:seek("set", 0)
    if not ok then return nil, why, what end
    upload.file = file
  else
    upload.data = table.concat(pieces)
  end
  return upload
end

local Form = {__name = "evlua.multipart"}
Form.__index = Form

-- The next part; or nil; or nil, message, code.
function Form:next()
  if self.failure then return nil, self.failure[1], self.failure[2] end
  local event, data, code = advance(self)
  while event == "data" or event == "part_end" do event, data, code = advance(self) end
  if event == "part" then
    self.part = setmetatable(data, Part)
    data.form = self
    return data
  end
  self.part = nil
  if event == "end" then return nil end
  self.failure = {data, code}
  return nil, data, code
end

function Form:__call()
  local part, message = self:next()
  if message then raise(message) end
  return part
end

function methods:multipart()
  local reader = native.multipart(self:header("content-type") or "")
  if not reader then return nil, "not a multipart form", "EINVAL" end
  return setmetatable({request = self, reader = reader}, Form)
end

local function let_go(value)
  if type(value) == "table" and value.file then value.file:close() end
end

-- Fills `fields`; true, or nil, message, code.
local function collect_into(fields, form, options)
  local text_left, file_left = options.limit or 1 << 20, options.file_limit or 100 << 20
  local files_left = options.files or 100
  while true do
    local part, message, code = form:next()
    if not part then return not message or nil, message, code end
    local value
    if part.filename then
      if files_left == 0 then return nil, "the form has too many files", "ELIMIT" end
      files_left = files_left - 1
      value, message, code = part:spool {memory = options.memory, limit = file_left}
      if value then file_left = file_left - value.size end
    else
      value, message, code = part:text(text_left)
      if value then text_left = text_left - #value end
    end
    if value == nil then return nil, message, code end
    if fields[part.name] == nil then fields[part.name] = value else let_go(value) end
  end
end

local function collect(form, options)
  local fields = {}
  local ok, message, code = collect_into(fields, form, options)
  if ok then return fields end
  for _, value in pairs(fields) do let_go(value) end
  return nil, message, code
end

function methods:form(options)
  options = checked(options, 1, {limit = true, memory = true, file_limit = true, files = true})
  local kind = (self:header("content-type") or ""):match("^%s*([^;%s]*)"):lower()
  if kind == "multipart/form-data" then
    local form, message, code = self:multipart()
    if not form then return nil, message, code end
    return collect(form, options)
  end
  if kind ~= "application/x-www-form-urlencoded" then
    return nil, ("not a form: its type is '%s'"):format(kind), "EINVAL"
  end
  local text, message, code = self:body(options.limit or 1 << 20)
  if not text then return nil, message, code end
  return native.parse_form(text), text
end

-- application/json, or a type with the suffix +json, whatever its parameters. Pages of other sites cannot send these
-- unasked; they can send a body of no type at all.
local function is_json(content_type)
  local kind = content_type:match("^%s*([^;%s]*)"):lower()
  return kind == "application/json" or kind:find("^[^/]+/[^/]+%+json$") ~= nil
end

function methods:json(limit)
  if limit ~= nil and (math.type(limit) ~= "integer" or limit < 0) then
    bad_argument(1, "bytes expected")
  end
  local kind = self:header("content-type")
  if not kind then return nil, "not JSON: it has no Content-Type", "EINVAL" end
  if not is_json(kind) then return nil, ("not JSON: its type is '%s'"):format(kind), "EINVAL" end
  local text, message, code = self:body(limit)
  if not text then return nil, message, code end
  return json.decode(text)
end

native.register(Part)
native.register(Form)
