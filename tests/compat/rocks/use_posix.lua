-- lua-posix: processes, files, time, environment.
local posix = require "posix"
local unistd, stdlib, stat = require "posix.unistd", require "posix.stdlib", require "posix.sys.stat"
local errno, fcntl, time = require "posix.errno", require "posix.fcntl", require "posix.time"
assert(unistd.getpid() > 1 and unistd.getppid() >= 0 and posix.getpid("pid") == unistd.getpid())
local folder = assert(stdlib.mkdtemp((os.getenv("TMPDIR") or "/tmp") .. "/evlua_posix_XXXXXX"))
local path = folder .. "/file"
local fd = assert(fcntl.open(path, fcntl.O_CREAT | fcntl.O_RDWR, tonumber("600", 8)))
assert(unistd.write(fd, "0123456789") == 10)
assert(unistd.lseek(fd, 2, unistd.SEEK_SET) == 2 and unistd.read(fd, 3) == "234")
assert(unistd.close(fd) == 0)
local info = assert(stat.stat(path))
assert(info.st_size == 10 and stat.S_ISREG(info.st_mode) ~= 0 and stat.S_ISDIR(info.st_mode) == 0)
assert(unistd.link(path, folder .. "/link", true) == 0)
assert(unistd.readlink(folder .. "/link") == path)
local names = {}
for name in require("posix.dirent").files(folder) do names[#names + 1] = name end
table.sort(names)
assert(table.concat(names, " ") == ". .. file link", table.concat(names, " "))
local none, message, code = unistd.access(folder .. "/none", "r")
assert(none == nil and code == errno.ENOENT and message:find("No such file"), message)
-- Pipes, with what evlua itself thinks of such descriptors out of the way.
local from, to = unistd.pipe()
assert(unistd.write(to, "through") == 7 and unistd.read(from, 100) == "through")
local poll = require "posix.poll"
assert(poll.rpoll(from, 0) == 0 and unistd.write(to, "x") == 1 and poll.rpoll(from, 1000) == 1)
unistd.close(from)
unistd.close(to)
if others_ended then  -- setenv(3) and getenv(3) are no calls for two threads at once
  stdlib.setenv("EVLUA_ROCK", "yes", true)
  assert(stdlib.getenv("EVLUA_ROCK") == "yes" and os.getenv("EVLUA_ROCK") == "yes")
end
local now = time.clock_gettime(time.CLOCK_REALTIME)
assert(math.abs(now.tv_sec - os.time()) <= 2)
assert(require("posix.fnmatch").fnmatch("*.lua", "x.lua") == 0)
assert(#assert(require("posix.glob").glob(folder .. "/f*")) == 1)
unistd.unlink(folder .. "/link")
unistd.unlink(path)
assert(unistd.rmdir(folder) == 0)
return "posix"
