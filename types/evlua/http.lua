---@meta evlua.http

---What a handler gets. Valid until the handler returns.
---@class evlua.Request
---@field method string
---@field path string without the query, not decoded
---@field target string as the client sent it
---@field query_string string
---@field host string
---@field version "1.0"|"1.1"
---@field remote string
---@field local_address string
---@field id integer
---@field tls false
local Request = {}

---@param name string in any case
---@return string?
function Request:header(name) end
---@return table<string, string> headers lower-case names; repeated fields joined by ", "
function Request:headers() end
---@param name string
---@return string? value decoded; the first of that name
---@overload fun(self: evlua.Request): table<string, string>
function Request:query(name) end
---@param name string
---@return string?
function Request:cookie(name) end
---The whole body; "ELIMIT" when it is longer than `limit` (10 MiB).
---@param limit? integer
---@return string? body
---@return string? message
---@return string? code
function Request:body(limit) end
---The next piece of the body; `nil, "end of file", "EOF"` at its end.
---@param n? integer
---@return string? piece
---@return string? message
---@return string? code
function Request:read(n) end
---@return fun(self: evlua.Request): string?
---@return evlua.Request
function Request:chunks() end

---@class evlua.Response
local Response = {}

---@param code integer 200 to 599
---@param reason? string
---@return evlua.Response
function Response:status(code, reason) end
---Replaces the field; nil removes it. Line breaks and zero bytes raise.
---@param name string
---@param value string?
---@return evlua.Response
function Response:header(name, value) end
---@param name string
---@param value string
---@return evlua.Response
function Response:add_header(name, value) end
---@param body string
---@return evlua.Response
function Response:send(body) end
---@param body string
---@return evlua.Response
function Response:text(body) end
---@param body string
---@return evlua.Response
function Response:html(body) end
---@param body string
---@return evlua.Response
function Response:xml(body) end
---@param url string
---@param status? integer 302
---@return evlua.Response
function Response:redirect(url, status) end
---Streams a piece; waits while the client does not take what was written before.
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
---@return true? finished
---@return string? message
---@return string? code
function Response:finish() end
