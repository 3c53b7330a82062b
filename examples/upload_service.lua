-- Uploads that are streamed to disk, can be watched, and can be taken up again where they broke off.
--
--   evluaserver examples/upload_service.lua --listen 127.0.0.1:8080
--
--   curl -T big.iso localhost:8080/files/big.iso                          send a file
--   curl -N localhost:8080/progress/big.iso                               watch that from elsewhere
--   curl -I localhost:8080/files/big.iso                                  Upload-Offset: what is there
--   tail -c +1048577 big.iso | curl -T - -H "Content-Range: bytes 1048576-*/*" localhost:8080/files/big.iso
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

-- Writes the body behind the first `offset` bytes of the file.
local function receive(req, path, name, offset)
  local file, message, code = fs.open(path .. ".part", offset > 0 and "r+" or "w")
  if not file then return nil, message, code end
  local size = offset
  while true do
    local piece
    piece, message, code = req:read()
    if not piece then break end
    local ok
    ok, message, code = file:write_at(piece, size)
    if not ok then break end
    size = size + #piece
    received:set(name, size)
  end
  if code == "EOF" then file:truncate(size) end            -- more may have come before
  file:close()
  if code ~= "EOF" then return nil, message, code end      -- what has come stays, to be taken up again
  assert(fs.rename(path .. ".part", path))
  received:set(name, "done", {ttl = 60})
  return size
end

local function put(req, res, path, name)
  local offset = tonumber((req:header("content-range") or "bytes 0-"):match("^bytes (%d+)%-") or "0")
  local lock = shared.lock("upload " .. name, {timeout = 0})
  if not lock then return res:status(423):text("somebody sends this file\n") end
  local there = size_of(path .. ".part") or 0
  if offset > there then
    lock:unlock()
    return res:status(409):header("Upload-Offset", tostring(there)):text("go on at byte " .. there .. "\n")
  end
  local size, message = receive(req, path, name, math.tointeger(offset))
  lock:unlock()
  if not size then return res:status(500):text(message .. "\n") end
  res:status(201):text(size .. " bytes\n")
end

local function post(req, res)
  local form, message = req:multipart()
  if not form then return res:status(400):text(message .. "\n") end
  local lines = {}
  for part in form do
    local path = part.filename and path_of(part.filename)
    if path then
      local size = assert(part:save(path .. ".part"))
      assert(fs.rename(path .. ".part", path))
      lines[#lines + 1] = ("%s: %d bytes\n"):format(part.filename, size)
    end
  end
  res:status(201):text(table.concat(lines))
end

local function progress(res, path, name)
  local events = assert(res:sse())
  local last
  repeat
    local now = received:get(name) or (fs.exists(path) and "done" or "nothing yet")
    if now ~= last then
      if not events:send(now) then return end                       -- the client has gone
      last = now
    end
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
