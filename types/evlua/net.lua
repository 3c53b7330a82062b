---@meta evlua.net

---Streams and listeners over TCP and Unix-domain sockets.
---@class evlua.net
local net = {}

---@class evlua.TimeoutOptions
---@field timeout? number seconds for the whole call

---@class evlua.StreamReadOptions
---@field timeout? number seconds for the whole call
---@field limit? integer longest result in bytes, for "l" and "L" (1 MiB) and "a" (2 GiB); more is "ELIMIT"

---@class evlua.ListenOptions
---@field reuse_port? boolean several listeners may share the port (false)
---@field backlog? integer connections that wait to be accepted (1024)

---A connection. One task may read while another one writes.
---@class evlua.Stream
local Stream = {}

---Without arguments or with a number: what is there, up to n bytes (65536), waiting for at least one. "l": a line
---without its end; "L": with it; "a": everything up to the end of the stream.
---End of stream is `nil, "end of file", "EOF"`.
---@param what? integer|"l"|"L"|"a"
---@param options? evlua.StreamReadOptions
---@return string? data
---@return string? message
---@return string? code
function Stream:read(what, options) end

---Exactly n bytes; if the stream ends before, "EOF", and what has come stays readable.
---@param n integer
---@param options? evlua.TimeoutOptions
---@return string? data
---@return string? message
---@return string? code
function Stream:read_exactly(n, options) end

---Up to and with the delimiter; "ELIMIT", and nothing lost, when it does not come within `limit` bytes (1 MiB).
---@param delimiter string
---@param limit? integer
---@param options? evlua.TimeoutOptions
---@return string? data
---@return string? message
---@return string? code
function Stream:read_until(delimiter, limit, options) end

---Lines, until the end of the stream, or another task closes it. Any other failure raises.
---@param format? "l"|"L"
---@return fun(): string? next
function Stream:lines(format) end

---Pieces of at most n bytes (65536), until the end of the stream. Ends and raises as `lines`.
---@param n? integer
---@return fun(): string? next
function Stream:chunks(n) end

---Writes all of it. After a failure a part may have been sent.
---@param data string
---@param options? evlua.TimeoutOptions
---@return true? written
---@return string? message
---@return string? code
function Stream:write(data, options) end

---Does nothing: streams do not buffer what is written.
---@return true
function Stream:flush() end

---Ends one direction ("write") and keeps the other.
---@param how? "write"|"read"|"both"
---@return true? done
---@return string? message
---@return string? code
function Stream:shutdown(how) end

---Ends reads and writes in progress with ECANCELED and closes. May be called twice.
---@return true
function Stream:close() end

---@return string address "127.0.0.1:5123", "[::1]:5123" or "unix:/path"
function Stream:local_address() end

---@return string address "127.0.0.1:5123", "[::1]:5123" or "unix:/path"
function Stream:remote_address() end

---@class evlua.Listener
local Listener = {}

---Waits for a connection.
---@param options? evlua.TimeoutOptions
---@return evlua.Stream? peer
---@return string? message
---@return string? code
function Listener:accept(options) end

---Peers until the listener is closed. A failure raises.
---@return fun(): evlua.Stream? next
function Listener:accept_each() end

---@return string address with the port that the system chose
function Listener:address() end

---@return integer port 0 for a Unix-domain socket
function Listener:port() end

---Ends an accept in progress with ECANCELED and closes. May be called twice.
---@return true
function Listener:close() end

---Connects to a host and port, trying its addresses in turn, or to "unix:/path".
---@param host string
---@param port integer
---@param options? evlua.TimeoutOptions
---@return evlua.Stream? stream
---@return string? message
---@return string? code
---@overload fun(path: string, options?: evlua.TimeoutOptions): evlua.Stream?, string?, string?
function net.connect(host, port, options) end

---Listens on "127.0.0.1:8080", "[::1]:0", "unix:/path" or "unix:@name".
---@param address string
---@param options? evlua.ListenOptions
---@return evlua.Listener? listener
---@return string? message
---@return string? code
function net.listen(address, options) end

return net
