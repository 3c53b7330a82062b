---@meta evlua.shared

---What all Lua states of a process see: dictionaries, locks, counters and histograms, by name.
---@class evlua.shared
local shared = {}

---@alias evlua.SharedValue string|number|boolean

---@class evlua.DictOptions
---@field bytes? integer how much it may hold (10 MiB), overhead included
---@field evict? boolean make room by removing what was not used for longest (true), or refuse (false)

---@class evlua.DictSetOptions
---@field ttl? number seconds until the entry vanishes

---@class evlua.DictIncrOptions : evlua.DictSetOptions
---@field init? number|false what a missing key counts as (0); false: it is a failure

---@class evlua.DictInfo
---@field entries integer
---@field bytes integer
---@field capacity integer
---@field evictions integer

---@class Dict
local Dict = {}

---The dictionary of this name.
---@param name string
---@param options? evlua.DictOptions
---@return Dict dict
function shared.dict(name, options) end

---@param key string
---@return evlua.SharedValue? value
function Dict:get(key) end

---@param key string
---@param value evlua.SharedValue? nil removes the key
---@param options? evlua.DictSetOptions
---@return true? done
---@return string? message
---@return string? code
function Dict:set(key, value, options) end

---Stores if there is no such key; else "EEXIST".
---@param key string
---@param value evlua.SharedValue
---@param options? evlua.DictSetOptions
---@return true? done
---@return string? message
---@return string? code
function Dict:add(key, value, options) end

---Stores if there is such a key; else "ENOENT".
---@param key string
---@param value evlua.SharedValue?
---@param options? evlua.DictSetOptions
---@return true? done
---@return string? message
---@return string? code
function Dict:replace(key, value, options) end

---@param key string
---@param by? number 1
---@param options? evlua.DictIncrOptions
---@return number? sum
---@return string? message
---@return string? code
function Dict:incr(key, by, options) end

---Stores if the present value equals `expected`.
---@param key string
---@param expected evlua.SharedValue?
---@param value evlua.SharedValue?
---@param options? evlua.DictSetOptions
---@return boolean? done
---@return any present the present value if not done; or a message
---@return string? code
function Dict:cas(key, expected, value, options) end

---Stores what `f(present)` returns; calls it again when the value has changed meanwhile.
---@param key string
---@param f fun(present: evlua.SharedValue?): evlua.SharedValue?
---@param options? evlua.DictSetOptions
---@return evlua.SharedValue? value
---@return string? message
---@return string? code
function Dict:update(key, f, options) end

---@param key string
---@return boolean was_there
function Dict:delete(key) end

---@param key string
---@param seconds? number nil: it stays
---@return boolean is_there
function Dict:expire(key, seconds) end

---@param key string
---@return number? seconds math.huge when it does not expire
---@return string? message
---@return string? code
function Dict:ttl(key) end

---@param count? integer 1024
---@return string[] keys
function Dict:keys(count) end

function Dict:flush() end

---@return evlua.DictInfo info
function Dict:info() end

---Tells which keys change from now on, or when `key` does.
---@param key? string
---@return Watch watch
function Dict:watch(key) end

---@class Watch
local Watch = {}

---@class evlua.WaitOptions
---@field timeout? number seconds

---@param options? evlua.WaitOptions
---@return string? key
---@return string? message
---@return string? code
function Watch:next(options) end

---@return fun(): string? iterator
function Watch:changes() end

function Watch:close() end

---@class Lock
local Lock = {}

---Waits until nobody else holds the lock, and takes it.
---@param name string
---@param options? evlua.WaitOptions
---@return Lock? lock
---@return string? message
---@return string? code
function shared.lock(name, options) end

---@return boolean was_held
function Lock:unlock() end

---@param name string
---@param f function
---@param ... any
---@return any ... the results of f
function shared.with_lock(name, f, ...) end

---The result of f, which is called at most once in the process.
---@param name string
---@param f fun(...): evlua.SharedValue?
---@param ... any
---@return evlua.SharedValue result
function shared.once(name, f, ...) end

---@class Counter
local Counter = {}

---@param name string
---@return Counter counter
function shared.counter(name) end

---@param amount? number 1
function Counter:add(amount) end

---@return number value
function Counter:value() end

---@class evlua.HistogramOptions
---@field buckets? number[] upper bounds, rising

---@class evlua.HistogramBucket
---@field le number upper bound
---@field count integer values up to it

---@class evlua.HistogramSnapshot
---@field count integer
---@field sum number
---@field buckets evlua.HistogramBucket[]

---@class Histogram
local Histogram = {}

---@param name string
---@param options? evlua.HistogramOptions
---@return Histogram histogram
function shared.histogram(name, options) end

---@param value number
function Histogram:observe(value) end

---@param q number from 0 to 1
---@return number? value
function Histogram:quantile(q) end

---@return evlua.HistogramSnapshot snapshot
function Histogram:snapshot() end

return shared
