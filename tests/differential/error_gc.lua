kept = setmetatable({}, {__gc = function() print('at the end') end}) io.write('unfinished line')
