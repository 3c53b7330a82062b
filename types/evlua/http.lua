---@meta evlua.http

---What the file of an app may return in place of a handler.
---@class evlua.App
---@field handle evlua.Handler called for every request
---@field start_once? fun() called once in the process, before any `start`
---@field start? fun() called once in each VM, before the server listens
---@field stop? fun() called once in each VM, when the last request has been answered
---@field stop_once? fun() called once in the process, after every `stop`

---@alias evlua.Handler fun(req: evlua.Request, res: evlua.Response)

---@class evlua.TlsSession
---@field version "TLSv1.2"|"TLSv1.3"
---@field cipher string as the IANA names it
---@field alpn? "h2"|"http/1.1"
---@field server_name? string that the client asked for
---@field resumed boolean
---@field peer? evlua.PeerCertificate the client's certificate

---@class evlua.PeerCertificate
---@field subject string "CN=ann,O=Example"
---@field issuer string
---@field serial string hexadecimal
---@field fingerprint string SHA-256, hexadecimal
---@field not_before string "2026-01-31T12:00:00Z"
---@field not_after string
---@field pem string

---@class evlua.Trace
---@field id string 32 hexadecimal digits
---@field span string 16: ours, for this request
---@field parent string? 16: the caller's, if it named one
---@field sampled boolean
---@field traceparent string what to tell whom the handler calls

---What a handler gets. Valid until the handler returns.
---@class evlua.Request
---@field method string "GET", "POST", ...
---@field path string without the query, not decoded
---@field target string as the client sent it
---@field query_string string not decoded; "" if there is none
---@field host string whom the client asked for
---@field scheme "http"|"https"
---@field version "1.0"|"1.1"|"2.0"
---@field remote string the client's address: "127.0.0.1:5123", or "unix:"; of a proxy's client maybe no port
---@field local_address string the address that the client connected to
---@field id integer different for every request of the process
---@field request_id string the same for logs, different for every process; or the client's X-Request-Id
---@field trace evlua.Trace which trace the request is part of
---@field tls false|evlua.TlsSession how the connection is encrypted
local Request = {}

---The first header of that name.
---@param name string in any case
---@return string? value
function Request:header(name) end

---@return table<string, string> headers lower-case names; repeated fields joined by ", "
function Request:headers() end

---The first parameter of that name, decoded; "" for one without a value. Without a name: a table of all.
---@param name string
---@return string? value
---@overload fun(self: evlua.Request): table<string, string>
function Request:query(name) end

---Which of the media types the client likes best (Accept); nil if none.
---@param type string
---@param ... string
---@return string? type
function Request:accepts(type, ...) end

---Which of the languages the client likes best (Accept-Language); nil if none.
---@param language string
---@param ... string
---@return string? language
function Request:accepts_language(language, ...) end

---@param name string
---@return string? value as sent, without quotation marks around it
function Request:cookie(name) end

---The first field of that name that came behind the body; "EAGAIN" before the body was read to its end.
---@param name string in any case
---@return string? value
---@return string? message
---@return string? code
function Request:trailer(name) end

---The fields that came behind the body; "EAGAIN" before it was read to its end, "EPROTO" if that failed.
---@return table<string, string>? trailers lower-case names; repeated fields joined by ", "
---@return string? message
---@return string? code
function Request:trailers() end

---Whether what is read of a body with a Content-Encoding is decoded (true). To be said before reading.
---@param flag boolean
---@return evlua.Request self
function Request:decode(flag) end

---The whole body; "ELIMIT" when it is longer than `limit` (10 MiB), decoded.
---@param limit? integer
---@return string? body
---@return string? message
---@return string? code
function Request:body(limit) end

---The next piece of the body, 1 to n bytes (65536); "EOF" at its end.
---@param n? integer
---@return string? piece
---@return string? message
---@return string? code
function Request:read(n) end

---Pieces of the body of at most n bytes (65536), until its end; a failure raises:
---`for piece in req:chunks() do ... end`
---@param n? integer
---@return fun(): string? next
function Request:chunks(n) end

---All values of that parameter, decoded.
---@param name string
---@return string[] values
function Request:query_list(name) end

---The value of a JSON body; "EINVAL" if it is none, or its Content-Type does not say so.
---@param limit? integer
---@return any value
---@return string? message
---@return string? code
function Request:json(limit) end

---The fields of an urlencoded or multipart form, each with its first value.
---@param options? {limit?: integer, memory?: integer, file_limit?: integer, files?: integer} bytes; number of files
---@return table<string, string|evlua.Upload>? fields
---@return string? message
---@return string? code
function Request:form(options) end

---The parts of a multipart form as they come: `for part in req:multipart() do ... end`
---@return evlua.Multipart? form
---@return string? message
---@return string? code
function Request:multipart() end

---@class evlua.Multipart
---@overload fun(): evlua.Part?
local Multipart = {}

---@return evlua.Part? part nil behind the last one
---@return string? message
---@return string? code
function Multipart:next() end

---@class evlua.Part
---@field name string
---@field filename? string as the client calls the file, without folders
---@field type? string
---@field headers table<string, string>
local Part = {}

---@return string? piece
---@return string? message
---@return string? code
function Part:read() end

---@return fun(): string? next
function Part:chunks() end

---@param limit? integer 1 MiB
---@return string? text
---@return string? message
---@return string? code
function Part:text(limit) end

---@param path string
---@param options? {limit?: integer}
---@return integer? size
---@return string? message
---@return string? code
function Part:save(path, options) end

---@param options? {memory?: integer, limit?: integer}
---@return evlua.Upload? upload
---@return string? message
---@return string? code
function Part:spool(options) end

---@class evlua.Upload
---@field name string
---@field filename? string
---@field type? string
---@field size integer
---@field data? string
---@field file? evlua.File without a name, at its start

---The answer. What sets something returns the response itself; a wrong value, or a response that has begun, raises.
---@class evlua.Response
local Response = {}

---@param code integer 200 to 599
---@param reason? string in place of the usual one
---@return evlua.Response self
function Response:status(code, reason) end

---Replaces the header; nil removes it. Line breaks and zero bytes raise.
---@param name string
---@param value string?
---@return evlua.Response self
function Response:header(name, value) end

---Keeps the headers of that name that are there.
---@param name string
---@param value string
---@return evlua.Response self
function Response:add_header(name, value) end

---Whether this response may be compressed (see --compress).
---@param flag boolean
---@return evlua.Response self
function Response:compress(flag) end

---@class evlua.CookieOptions
---@field path? string "/"
---@field domain? string
---@field max_age? number seconds; 0 or less ends it
---@field expires? number seconds since 1970
---@field secure? boolean true over HTTPS
---@field http_only? boolean true
---@field same_site? "strict"|"lax"|"none"|false "lax"; false leaves it out
---@field partitioned? boolean

---Adds a cookie; nil ends it.
---@param name string
---@param value string?
---@param options? evlua.CookieOptions
---@return evlua.Response self
function Response:cookie(name, value, options) end

---Sets ETag and Last-Modified, and answers 304 or 412 if the request's conditions say so: true then.
---@param tag string quotation marks are put around it unless it has them
---@param modified? integer seconds since 1970
---@return boolean answered
function Response:etag(tag, modified) end

---Begins a stream of server-sent events.
---@return evlua.Events? events
---@return string? message
---@return string? code
function Response:sse() end

---@class evlua.Events
local Events = {}

---@param event string|{data?: any, event?: string, id?: string|integer, retry?: integer}
---@return true? ok
---@return string? message
---@return string? code
function Events:send(event) end

---@return true? ok
---@return string? message
---@return string? code
function Events:ping() end

---@return true? ok
---@return string? message
---@return string? code
function Events:close() end

---The whole response at once. Nothing happens when the client has gone.
---@param body string
---@return evlua.Response self
function Response:send(body) end

---As send, as "text/plain; charset=utf-8" if no Content-Type was set.
---@param body string
---@return evlua.Response self
function Response:text(body) end

---As send, as "text/html; charset=utf-8" if no Content-Type was set.
---@param body string
---@return evlua.Response self
function Response:html(body) end

---As send, as "application/xml" if no Content-Type was set.
---@param body string
---@return evlua.Response self
function Response:xml(body) end

---As send, encoded, as "application/json" if no Content-Type was set. What has no form in JSON raises.
---@param value any
---@param options? evlua.JsonEncodeOptions
---@return evlua.Response self
function Response:json(value, options) end

---@param url string
---@param status? integer 300 to 308 (302)
---@return evlua.Response self
function Response:redirect(url, status) end

---Sends a file as the response. On failure the response has not begun.
---@param path string
---@param options? {root?: string, type?: string, cache?: string, download?: boolean|string}
---@return true? ok
---@return string? message
---@return string? code
function Response:file(path, options) end

---Streams a piece ("EPIPE" of an answer to HEAD); waits while the client does not take what was written before.
---@param chunk string
---@return true? written
---@return string? message
---@return string? code
function Response:write(chunk) end

---Waits until the kernel has taken everything.
---@return true? flushed
---@return string? message
---@return string? code
function Response:flush() end

---Ends the response before the handler returns. May be called twice.
---@return true? finished
---@return string? message
---@return string? code
function Response:finish() end
