-- popen and execute.
local function show(...) print(select("#", ...), ...) end
show(os.execute()) show(os.execute("true")) show(os.execute("false")) show(os.execute("exit 7")) show(os.execute("kill -9 $$")) show(os.execute("kill -15 $$")) show(os.execute("no-such-command-anywhere 2>/dev/null"))
print("before") os.execute("echo from the shell") print("after")
local p = io.popen("echo hello; echo world") print(io.type(p)) print(p:read("l")) print(p:read("L")) print(p:read("l")) show(p:close())
show(io.popen("exit 3"):close()) show(io.popen("kill -9 $$"):close())
p = io.popen("cat >written", "w") print(p:write("to the command\n") == p) print(p:flush() == p or true) show(p:close())
for line in io.lines("written") do print(line) end
p = io.popen("cat; exit 5", "w") p:write("through cat\n") show(p:close())
p = io.popen("echo a; echo b") for line in p:lines() do print(line) end show(p:close())
print(pcall(io.popen, "true", "rw")) print(pcall(io.popen, "true", "x")) print(pcall(io.popen)) print(pcall(io.popen, {}))
p = io.popen("head -c 1000000 /dev/zero") print(#p:read("a")) p:close()
p = io.popen("wc -c", "w") for _ = 1, 1000 do p:write(("x"):rep(1000)) end p:close()
p = io.popen("true") print(p:seek("cur")) print(p:write("x")) show(p:close()) print(pcall(p.close, p)) print(tostring(p))
p = io.popen("cat", "r") p:close()
p = io.popen("exit 1", "w") os.execute("sleep 0.1")
print((p:close()))
print(#io.popen("echo $0; ls /proc/self/fd | wc -l"):read("a") > 0)
io.popen("cat >collected", "w"):write("left to the collector") collectgarbage() collectgarbage()
