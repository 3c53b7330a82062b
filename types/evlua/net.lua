---@meta evlua.net

---Streams and listeners over TCP and Unix-domain sockets.
---@class evlua.net
local net = {}

---@class evlua.Stream
local Stream = {}

---Without arguments or with a number: what is there, up to n bytes (65536), waiting for at least one. "l": a line
---without its end; "L": with it; "a": everything up to the end of the stream.
---End of stream is `nil, "end of file", "EOF"`.
---@param what? integer|"l"|"L"|"a"
---@param options? {timeout?: number, limit?: integer}
---@return string? data
---@return string? message
---@return string? code
function Stream:read(what, options) end

---Exactly n bytes; if the stream ends before, "EOF", and what has come stays readable.
---@param n integer
---@param options? {timeout?: number}
---@return string? data
---@return string? message
---@return string? code
function Stream:read_exactly(n, options) end

---Up to and with the delimiter; "ELIMIT", and nothing lost, when it does not come within `limit` bytes (1 MiB).
---@param delimiter string
---@param limit? integer
---@param options? {timeout?: number}
---@return string? data
---@return string? message
---@return string? code
function Stream:read_until(delimiter, limit, options) end

---@param format? "l"|"L"
---@return fun(): string?
function Stream:lines(format) end

---@param n? integer
---@return fun(): string?
function Stream:chunks(n) end

---Writes all of it.
---@param data string
---@param options? {timeout?: number}
---@return true? written
---@return string? message
---@return string? code
function Stream:write(data, options) end

---@return true
function Stream:flush() end

---@param how? "write"|"read"|"both"
---@return true? done
---@return string? message
---@return string? code
function Stream:shutdown(how) end

---Ends reads and writes in progress with ECANCELED and closes. May be called twice.
---@return true
function Stream:close() end

---@return string
function Stream:local_address() end
---@return string
function Stream:remote_address() end

---@class evlua.Listener
local Listener = {}

---@param options? {timeout?: number}
---@return evlua.Stream? peer
---@return string? message
---@return string? code
function Listener:accept(options) end

---Peers until the listener is closed.
---@return fun(): evlua.Stream?
function Listener:accept_each() end

---@return string
function Listener:address() end
---@return integer
function Listener:port() end
---@return true
function Listener:close() end

---Connects to a host and port, trying its addresses in turn, or to "unix:/path".
---@param host string
---@param port integer
---@param options? {timeout?: number}
---@return evlua.Stream? stream
---@return string? message
---@return string? code
---@overload fun(path: string, options?: {timeout?: number}): evlua.Stream?, string?, string?
function net.connect(host, port, options) end

---Listens on "127.0.0.1:8080", "[::1]:0" or "unix:/path".
---@param address string
---@param options? {reuse_port?: boolean, backlog?: integer}
---@return evlua.Listener? listener
---@return string? message
---@return string? code
function net.listen(address, options) end

return net
