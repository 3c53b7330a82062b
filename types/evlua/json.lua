---@meta evlua.json

---JSON (RFC 8259).
---@class evlua.json
---@field null lightuserdata stands for `null`; true in a condition, so compare with it
local json = {}

---@class evlua.JsonDecodeOptions
---@field max_depth? integer how deep arrays and objects may be nested (1000)
---@field big? "float"|"string"|"error" what becomes of an integer beyond 64 bits ("float")

---@class evlua.JsonEncodeOptions
---@field pretty? boolean an element or member per line, indented by two spaces
---@field indent? integer by so many spaces
---@field sort_keys? boolean equal values have equal texts
---@field max_depth? integer how deep tables may be nested (1000)

---"EINVAL" if the text is not JSON, "ELIMIT" if it is nested too deeply.
---@param text string
---@param options? evlua.JsonDecodeOptions
---@return any value
---@return string? message
---@return string? code
function json.decode(text, options) end

---"EINVAL" if the value has no form in JSON, "ELIMIT" if it is nested too deeply.
---@param value any
---@param options? evlua.JsonEncodeOptions
---@return string? text
---@return string? message
---@return string? code
function json.encode(value, options) end

---Marks the table (or a new one) as an array, which the empty table needs.
---@generic T: table
---@param table? T
---@return T
function json.array(table) end

---@param value any
---@return boolean marked
function json.is_array(value) end

return json
