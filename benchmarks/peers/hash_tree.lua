-- The SHA-256 of a tree: of all files' digests with their paths, sorted. 64 files at a time.
local evlua, fs, digest = require "evlua", require "evlua.fs", require "openssl.digest"
local root = arg[1]
local function sha256(bytes) return digest.new("sha256"):final(bytes) end
local hex = require("evlua.encoding").hex_encode

local paths = {}
for entry in assert(fs.walk(root)) do
  if entry.type == "file" then paths[#paths + 1] = entry.path end
end
local digests = evlua.map(paths, function(path)
  return path:sub(#root + 2) .. " " .. hex(sha256(assert(fs.read(path))))
end, {concurrency = 64})
table.sort(digests)
print(#digests .. " " .. hex(sha256(table.concat(digests, "\n"))))
