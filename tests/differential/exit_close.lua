local f = io.open('out', 'w')
f:write('in a file')
kept = setmetatable({}, {__gc = function() print('finalizer') io.write('and written') end})
os.exit(3, true)
