"""Names that a file of hosts knows, and names that nobody can tell anything about."""
import os
import subprocess
import tempfile

from support import EVLUA, LIMIT, check, main

HOSTS = """# comment
192.0.2.20 first.test  alias.test
2001:db8::20\tFIRST.test
"""

SCRIPT = """
local evlua, dns, net = require "evlua", require "evlua.dns", require "evlua.net"
-- A server that would say something else.
local server = assert(net.datagram("127.0.0.1:0"))
local asked = 0
evlua.spawn(function()
  for query, from in server:receive_each() do
    asked = asked + 1
    server:send(query:sub(1, 2) .. string.pack(">I2I2I2I2I2", 0x8183, 1, 0, 0, 0) .. query:sub(13), from)
  end
end)
local options = {servers = server:local_address(), search = false}
local found = assert(dns.lookup("first.test", options))
table.sort(found)
print(table.concat(found, " "), dns.lookup("ALIAS.test", options)[1], asked)
print(select(3, dns.lookup("other.test", options)), asked > 0)
server:close()
"""


def run(code, **environment):
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "script.lua")
        with open(path, "w", encoding="utf-8") as f:
            f.write(code)
        hosts = os.path.join(directory, "hosts")
        with open(hosts, "w", encoding="utf-8") as f:
            f.write(HOSTS)
        return subprocess.run([EVLUA, path], env={**os.environ, "CARES_HOSTS": hosts, **environment},
                              capture_output=True, text=True, timeout=LIMIT, check=False)


def test_hosts_file():
    got = run(SCRIPT)
    check(got.returncode == 0, got)
    check(got.stdout == "192.0.2.20 2001:db8::20\t192.0.2.20\t0\nEAI_NONAME\ttrue\n", got)


def test_no_hosts_file():
    # localhost is this machine all the same, and nobody is asked.
    got = run("""
        local found = assert(require("evlua.dns").lookup("localhost", {timeout = 5}))
        for _, address in ipairs(found) do assert(address == "127.0.0.1" or address == "::1") end
        print(#found)
    """, CARES_HOSTS="/nonexistent/hosts")
    check(got.returncode == 0 and got.stdout == "2\n", got)


def test_exit_while_names_are_looked_up():
    got = run("""
        local evlua, dns, net = require "evlua", require "evlua.dns", require "evlua.net"
        local silent = assert(net.datagram("127.0.0.1:0"))
        for i = 1, 300 do
          evlua.spawn(function() dns.lookup("x" .. i .. ".test", {servers = silent:local_address()}) end)
        end
        evlua.yield()
        evlua.sleep(0.02)
        os.exit(3, true)
    """)
    check(got.returncode == 3 and got.stderr == "", got)


main(globals())
