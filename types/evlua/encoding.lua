---@meta evlua.encoding

---Bytes as text: base64, base64url and hexadecimal (RFC 4648).
---@class evlua.encoding
local encoding = {}

---@class evlua.Base64Options
---@field padding? boolean fill up with "=" (base64: true, base64url: false)

---@param bytes string
---@param options? evlua.Base64Options
---@return string text
function encoding.base64_encode(bytes, options) end

---Padding may be there in full or not at all; anything else that is not valid is "EINVAL".
---@param text string
---@return string? bytes
---@return string? message
---@return string? code
function encoding.base64_decode(text) end

---The alphabet for URLs and file names.
---@param bytes string
---@param options? evlua.Base64Options
---@return string text
function encoding.base64url_encode(bytes, options) end

---Padding may be there in full or not at all; anything else that is not valid is "EINVAL".
---@param text string
---@return string? bytes
---@return string? message
---@return string? code
function encoding.base64url_decode(text) end

---@param bytes string
---@return string text lower-case digits
function encoding.hex_encode(bytes) end

---@param text string digits of either case
---@return string? bytes
---@return string? message
---@return string? code
function encoding.hex_decode(text) end

return encoding
