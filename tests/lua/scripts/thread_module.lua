-- Not a test by itself: a module for thread.lua.
if not ... then print "ok" return end
return function(a, b) return a * b, package.loaded.thread_module ~= nil end
