---@meta evlua.sync

---What tasks of one Lua state need to work together. Values are passed as they are.
---@class evlua.sync
local sync = {}

---@class evlua.sync.Channel
---@operator call: any
local Channel = {}

---A queue between tasks.
---@param capacity? integer 0: a send ends when the value has been received
---@return evlua.sync.Channel channel
function sync.channel(capacity) end

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

---@alias evlua.sync.Send {[1]: evlua.sync.Channel, [2]: any}
---@alias evlua.sync.Case evlua.sync.Channel|evlua.sync.Send|evlua.sync.Event|number|evlua.Stream|evlua.Listener

---Waits until one of several cases comes true, and does just that one: a channel (to receive), {channel, value} (to
---send), an event, seconds, a stream that can be read, a listener with a connection.
---@param cases evlua.sync.Case[]
---@param options? evlua.WaitOptions
---@return integer? case
---@return any value
---@return string? message
---@return string? code
function sync.select(cases, options) end

---@class evlua.sync.Mutex
local Mutex = {}

---What one task at a time has.
---@return evlua.sync.Mutex mutex
function sync.mutex() end

---@param options? evlua.WaitOptions
---@return true? done
---@return string? message
---@return string? code
function Mutex:lock(options) end

---@return boolean taken
function Mutex:try_lock() end

function Mutex:unlock() end

---Runs f(...) while it has the mutex.
---@param f fun(...): ...
---@param ... any
---@return any ...
function Mutex:with(f, ...) end

---@return boolean locked
function Mutex:locked() end

---@class evlua.sync.Rwlock
local Rwlock = {}

---Many tasks may have it for reading, or one for writing.
---@return evlua.sync.Rwlock lock
function sync.rwlock() end

---@param options? evlua.WaitOptions
---@return true? done
---@return string? message
---@return string? code
function Rwlock:lock_read(options) end

---@param options? evlua.WaitOptions
---@return true? done
---@return string? message
---@return string? code
function Rwlock:lock_write(options) end

---@return boolean taken
function Rwlock:try_lock_read() end

---@return boolean taken
function Rwlock:try_lock_write() end

function Rwlock:unlock_read() end

function Rwlock:unlock_write() end

---@param f fun(...): ...
---@param ... any
---@return any ...
function Rwlock:with_read(f, ...) end

---@param f fun(...): ...
---@param ... any
---@return any ...
function Rwlock:with_write(f, ...) end

---@class evlua.sync.Semaphore
local Semaphore = {}

---So many permits.
---@param n integer
---@return evlua.sync.Semaphore semaphore
function sync.semaphore(n) end

---@overload fun(self: evlua.sync.Semaphore, options: evlua.WaitOptions): true?, string?, string?
---@param n? integer 1
---@param options? evlua.WaitOptions
---@return true? done
---@return string? message
---@return string? code
function Semaphore:acquire(n, options) end

---@param n? integer 1
---@return boolean taken
function Semaphore:try(n) end

---@param n? integer 1
function Semaphore:release(n) end

---@param f fun(...): ...
---@param ... any
---@return any ...
function Semaphore:with(f, ...) end

---@return integer permits
function Semaphore:available() end

---@class evlua.sync.Event
local Event = {}

---Something that has happened, or not yet.
---@return evlua.sync.Event event
function sync.event() end

function Event:set() end

function Event:clear() end

---@return boolean set
function Event:is_set() end

---@param options? evlua.WaitOptions
---@return true? done
---@return string? message
---@return string? code
function Event:wait(options) end

---@class evlua.sync.WaitGroup
local WaitGroup = {}

---Counts what is still to be done.
---@return evlua.sync.WaitGroup group
function sync.wait_group() end

---@param n? integer 1
function WaitGroup:add(n) end

function WaitGroup:done() end

---@return integer left
function WaitGroup:count() end

---@param options? evlua.WaitOptions
---@return true? done
---@return string? message
---@return string? code
function WaitGroup:wait(options) end

---A function that calls f the first time, and returns its results ever after. Errors are not remembered.
---@generic F: function
---@param f F
---@return F once
function sync.once(f) end

---@class evlua.sync.LimiterOptions
---@field rate number tokens a second
---@field burst? number the most that there can be (1)

---@class evlua.sync.Limiter
local Limiter = {}

---Lets so many through in a second.
---@param options evlua.sync.LimiterOptions
---@return evlua.sync.Limiter limiter
function sync.limiter(options) end

---@overload fun(self: evlua.sync.Limiter, options: evlua.WaitOptions): true?, string?, string?
---@param n? number 1
---@param options? evlua.WaitOptions
---@return true? done
---@return string? message
---@return string? code
function Limiter:wait(n, options) end

---@param n? number 1
---@return boolean taken
function Limiter:try(n) end

return sync
