-- What benchmarks/front.py and transfers.py ask for. The page comes from the file that $PAGE names.
local path = os.getenv("PAGE")
local page = path and assert(io.open(path)):read("a")

return function(req, res)
  if req.path == "/page" then return res:header("Content-Type", "text/html"):send(page) end
  if req.path == "/count" then
    local bytes = 0
    for piece in req:chunks() do bytes = bytes + #piece end
    return res:text(bytes .. "\n")
  end
  res:text("Hello, World!")
end
