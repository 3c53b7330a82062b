return function(req, res)
  res:text("Hello, World!")
end
