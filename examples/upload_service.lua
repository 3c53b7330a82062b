-- Uploads that are streamed to disk, can be watched, and can be taken up again where they broke off.
--
--   evluaserver examples/upload_service.lua --listen 127.0.0.1:8080
--
--   curl -T big.iso localhost:8080/files/big.iso                          send a file
--   curl -N localhost:8080/progress/big.iso                               watch that from elsewhere
--   curl -I localhost:8080/files/big.iso                                  Upload-Offset: what is there
--   tail -c +1048577 big.iso | curl -T - -H "Content-Range: bytes 1048576-*/*" localhost:8080/files/big.iso
--                                                                         the rest; with its length if that is known:
--                                                                         bytes 1048576-4194303/4194304
--   curl -F "f=@a.txt" -F "f=@b.txt" localhost:8080/files                 a form, as a browser sends it
--   curl -r 0-99 localhost:8080/files/big.iso                             a part of it
--
-- Files are in $UPLOADS (/tmp/evlua-uploads). What is not whole yet has ".part" behind its name.
local evlua, fs, shared = require "evlua", require "evlua.fs", require "evlua.shared"

local folder = os.getenv("UPLOADS") or "/tmp/evlua-uploads"
local received = shared.dict("upload progress")      -- name -> bytes, seen by all workers

local function path_of(name)
  if name:find("^[%w][%w._-]*$") and not name:find("%.part$") then return folder .. "/" .. name end
end

local function size_of(path)
  local status = fs.stat(path)
  return status and status.size
end

-- What Content-Range says of the body: its first byte, the byte behind its last one (`stop`), and the bytes of the
-- whole file, if it says so. Nil if it is no such field, or not true.
local function range_of(req)
  local field = req:header("content-range")
  if not field then return {first = 0} end
  local function number(text)
    if text ~= "*" then return math.tointeger(text) or false end
  end
  local first, last, total = field:match("^bytes (%d+)%-([%d*]+)/([%d*]+)$")
  first, last, total = number(first), number(last), number(total)
  if not first or last == false or total == false then return nil end
  if first > (last or first) or (last or first) >= (total or math.maxinteger) then return nil end
  local stop, length = last and last + 1 or total, math.tointeger(req:header("content-length"))
  if stop and length and first + length ~= stop then return nil end      -- it cannot be true
  return {first = first, stop = stop, total = total}
end

-- Nobody else writes to the file while f runs; nil when somebody does.
local function alone(name, f, ...)
  local lock = shared.lock("upload " .. name, {timeout = 0})
  if not lock then return nil, "somebody sends this file", 423 end
  evlua.defer(lock.unlock, lock)                           -- should f raise an error
  local result, message, status = f(...)
  lock:unlock()
  return result, message, status
end

-- Writes the body where it belongs. The size of the file now and whether that is all of it; or nil, message, status.
local function receive(req, path, name, range)
  local there = size_of(path .. ".part") or 0
  if range.first > there then return nil, "go on at byte " .. there, 409 end
  local file, message, code = fs.open(path .. ".part", range.first > 0 and "r+" or "w")
  if not file then return nil, message, 500 end
  local size, stop = range.first, range.stop or math.maxinteger
  while true do
    local piece, ok
    piece, message, code = req:read()
    if not piece then break end
    if #piece > stop - size then
      message, code = "more than Content-Range says", "EMSGSIZE"
      break
    end
    ok, message, code = file:write_at(piece, size)
    if not ok then break end
    size = size + #piece
    received:set(name, size)
  end
  if code == "EOF" then file:truncate(size) end            -- more may have come before
  file:close()
  -- What has come stays, to be taken up again.
  if code ~= "EOF" then return nil, message, code == "EMSGSIZE" and 400 or 500 end
  if range.stop and size < stop then return nil, "less than Content-Range says", 400 end
  if size ~= (range.total or range.stop and -1 or size) then return size, false end
  local ok
  ok, message = fs.rename(path .. ".part", path)
  if not ok then return nil, message, 500 end
  received:set(name, "done", {ttl = 60})
  return size, true
end

local function put(req, res, path, name)
  local range = range_of(req)
  if not range then return res:status(400):text("that is no Content-Range, or not that of this body\n") end
  local size, whole, status = alone(name, receive, req, path, name, range)
  if not size then return res:status(status):text(whole .. "\n") end
  if whole then return res:status(201):text(size .. " bytes\n") end
  res:status(202):header("Upload-Offset", tostring(size)):text(size .. " bytes so far\n")
end

local function post(req, res)
  local form, message = req:multipart()
  if not form then return res:status(400):text(message .. "\n") end
  local lines = {}
  for part in form do
    local path = part.filename and path_of(part.filename)
    if path then
      local size, why, status = alone(part.filename, part.save, part, path)
      if not size then return res:status(status == 423 and 423 or 500):text(why .. "\n") end
      received:set(part.filename, "done", {ttl = 60})
      lines[#lines + 1] = ("%s: %d bytes\n"):format(part.filename, size)
    end
  end
  res:status(201):text(table.concat(lines))
end

local function progress(res, path, name)
  local events = assert(res:sse())
  local last, quiet = nil, 0
  repeat
    local now, ok = received:get(name) or (fs.exists(path) and "done" or "nothing yet"), true
    if now ~= last then
      ok, last, quiet = events:send(now), now, 0
    elseif quiet == 10 then
      ok, quiet = events:ping(), 0
    end
    if not ok then return end                              -- the client has gone
    quiet = quiet + 1
    evlua.sleep(0.1)
  until now == "done"
end

return {
  start_once = function() fs.mkdir(folder) end,
  handle = function(req, res)
    local kind, name = req.path:match("^/(%w+)/?([^/]*)$")
    if kind == "files" and name == "" and req.method == "POST" then return post(req, res) end
    local path = name and path_of(name)
    if not path then return res:status(404):text("not found\n") end
    if kind == "progress" then return progress(res, path, name) end
    if kind ~= "files" then return res:status(404):text("not found\n") end
    if req.method == "PUT" then return put(req, res, path, name) end
    if req.method == "HEAD" and not fs.exists(path) then
      return res:header("Upload-Offset", tostring(size_of(path .. ".part") or 0)):send("")
    end
    if not res:file(name, {root = folder, download = true}) then res:status(404):text("not found\n") end
  end,
}
