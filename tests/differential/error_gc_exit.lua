kept = setmetatable({}, {__gc = function() print("at the exit") error("in a finalizer") end}) os.exit(3, true)
