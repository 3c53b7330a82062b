return function(req, res)
  if req.path ~= "/burn" then return res:text("Hello, World!") end
  local began = os.clock()
  repeat for _ = 1, 1000 do end until os.clock() - began > 0.2
  res:text("burnt")
end
