---@meta evlua.net

---Streams and listeners over TCP and Unix-domain sockets, and datagrams over UDP and Unix-domain sockets.
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

---Sends what is open to the other end of a Unix-domain stream, with 1 to 4096 bytes ("\0"). It stays open here.
---@param what evlua.Stream|evlua.Listener|evlua.Datagram|evlua.File
---@param data? string
---@param options? evlua.TimeoutOptions
---@return true? sent
---@return string? message
---@return string? code
function Stream:send_handle(what, data, options) end

---Waits for the next bytes, and the descriptor that comes with them.
---@param options? evlua.TimeoutOptions
---@return evlua.Stream|evlua.Listener|evlua.Datagram|evlua.File|nil handle
---@return string data or the message
---@return string? code
function Stream:receive_handle(options) end

---Ends one direction ("write") and keeps the other.
---@param how? "write"|"read"|"both"
---@return true? done
---@return string? message
---@return string? code
function Stream:shutdown(how) end

---Ends reads and writes in progress with ECANCELED and closes. May be called twice.
---@return true
function Stream:close() end

---@class evlua.StreamSettings
---@field no_delay? boolean small pieces are sent at once (true)
---@field keep_alive? boolean a silent peer is asked whether it is there (false)
---@field keep_alive_idle? integer seconds of silence before the first question
---@field keep_alive_interval? integer seconds between two questions
---@field keep_alive_count? integer questions without an answer that end the connection
---@field user_timeout? integer seconds after which bytes that are not acknowledged end it
---@field ttl? integer routers that a packet may pass, 1 to 255
---@field traffic_class? integer the byte of that name, 0 to 255
---@field receive_buffer? integer bytes that the system keeps
---@field send_buffer? integer bytes that the system keeps

---@param options evlua.StreamSettings
---@return true? done
---@return string? message
---@return string? code
function Stream:set(options) end

---What an option is now.
---@param name string
---@return boolean|number? value
---@return string? message
---@return string? code
function Stream:get(name) end

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

---@class evlua.ReceiveOptions
---@field timeout? number seconds
---@field size? integer longest result in bytes (65536); the rest of a longer datagram is lost

---@class evlua.DatagramSettings
---@field broadcast? boolean may send to broadcast addresses (false)
---@field errors? boolean if not connected: receives tell what became of datagrams that were sent (false)
---@field ttl? integer routers that a datagram may pass, 1 to 255
---@field traffic_class? integer the byte of that name, 0 to 255
---@field multicast_ttl? integer as `ttl`, for multicasts (1)
---@field multicast_loop? boolean this machine gets its own multicasts (true)
---@field multicast_interface? string the interface by which multicasts leave
---@field receive_buffer? integer bytes that the system keeps
---@field send_buffer? integer bytes that the system keeps

---@class evlua.DatagramOptions: evlua.DatagramSettings
---@field connect? string the one address to send to and to hear from
---@field reuse_address? boolean several sockets may receive the same multicasts (false)
---@field reuse_port? boolean several sockets may share the port (false)
---@field only_v6? boolean a socket bound to "[::]" gets no IPv4 datagrams

---A socket for datagrams. One task may receive at a time; any number may send.
---@class evlua.Datagram
local Datagram = {}

---Sends one datagram; without an address to whom the socket is connected.
---@param data string
---@param address? string
---@param options? evlua.TimeoutOptions
---@return true? sent
---@return string? message
---@return string? code
function Datagram:send(data, address, options) end

---Sends up to 1024: strings (on a connected socket) or {string, address}. What fails after the first is told by the
---next call.
---@param list (string|[string, string])[]
---@param options? evlua.TimeoutOptions
---@return integer? sent
---@return string? message
---@return string? code
---@return integer? sent_before
function Datagram:send_many(list, options) end

---Waits for a datagram. The fourth result of a failure is the address it is about, if that is known.
---@param options? evlua.ReceiveOptions
---@return string? data
---@return string address or the message
---@return boolean|string truncated or the code
---@return string? about
function Datagram:receive(options) end

---Datagrams until the socket is closed. A failure raises.
---@return fun(): string?, string, boolean next data, address, truncated
function Datagram:receive_each() end

---From now on it sends to, and receives from, that address only.
---@param address string
---@return true? connected
---@return string? message
---@return string? code
function Datagram:connect(address) end

---Takes `connect` back.
---@return true? done
---@return string? message
---@return string? code
function Datagram:disconnect() end

---From now on it gets what is sent to that multicast address and its own port.
---@param group string without a port
---@param interface? string name of a network interface
---@return true? joined
---@return string? message
---@return string? code
function Datagram:join(group, interface) end

---Takes `join` back.
---@param group string without a port
---@param interface? string name of a network interface
---@return true? left
---@return string? message
---@return string? code
function Datagram:leave(group, interface) end

---@param options evlua.DatagramSettings
---@return true? done
---@return string? message
---@return string? code
function Datagram:set(options) end

---What an option is now.
---@param name string not "multicast_interface"
---@return boolean|number? value
---@return string? message
---@return string? code
function Datagram:get(name) end

---@return string address with the port that the system chose
function Datagram:local_address() end

---@return string? address nil when it is not connected
function Datagram:remote_address() end

---@return integer port 0 for a Unix-domain socket
function Datagram:port() end

---Ends what waits on it with ECANCELED and closes. May be called twice.
---@return true
function Datagram:close() end

---Opens a socket for datagrams on "127.0.0.1:53", "[::1]:0", "unix:/path" or "unix:@name"; without an address on any
---free port.
---@param address? string
---@param options? evlua.DatagramOptions
---@return evlua.Datagram? socket
---@return string? message
---@return string? code
function net.datagram(address, options) end

---@class evlua.ConnectOptions: evlua.TimeoutOptions
---@field dns? evlua.DnsServerOptions how the host is looked up

---Connects to a host and port, or to "unix:/path". Of a host's addresses the first to connect wins.
---@param host string
---@param port integer
---@param options? evlua.ConnectOptions
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
