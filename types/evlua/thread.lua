---@meta evlua.thread

---Functions that run on another core, in Lua states of their own. Values cross by copy.
---@class evlua.thread
local thread = {}

---Calls f(...) in a new Lua state and returns its results.
---@param f function|string a function, or the name of a module that returns one
---@param ... any
---@return any ...
function thread.run(f, ...) end

---The same as a task.
---@param f function|string
---@param ... any
---@return Task task
function thread.spawn(f, ...) end

---How many threads run Lua.
---@return integer count
function thread.workers() end

---@class Pool
local Pool = {}

---Lua states that are kept from call to call.
---@param size? integer one for each worker
---@return Pool pool
function thread.pool(size) end

---@param f function|string
---@param ... any
---@return any ...
function Pool:run(f, ...) end

---@param f function|string
---@param ... any
---@return Task task
function Pool:spawn(f, ...) end

---@param list any[]
---@param f fun(value: any, index: integer): any
---@return any[] results
function Pool:map(list, f) end

---@return integer states
function Pool:size() end

function Pool:close() end

---@class Channel
---@operator call: any
local Channel = {}

---A queue between tasks of any Lua state.
---@param capacity? integer 0: a send ends when the value has been received
---@return Channel channel
function thread.channel(capacity) end

---@param value any not nil
---@param options? evlua.WaitOptions
---@return true? done
---@return string? message
---@return string? code
function Channel:send(value, options) end

---@param options? evlua.WaitOptions
---@return any value
---@return string? message
---@return string? code
function Channel:receive(options) end

function Channel:close() end

---@return boolean closed
function Channel:closed() end

---@return integer queued
function Channel:size() end

---Waits until one of several channels is ready: a channel, to receive, or {channel, value}, to send.
---@param cases (Channel|{[1]: Channel, [2]: any})[]
---@param options? evlua.WaitOptions
---@return integer? case
---@return any value
---@return string? message
---@return string? code
function thread.select(cases, options) end

return thread
