---@meta evlua

---Structured concurrency: tasks, deadlines, scopes.
---@class evlua
---@field version string "0.1.0"
local evlua = {}

---A running or finished task.
---@class evlua.Task
local Task = {}

---Waits for the task and returns its results. Its error is raised here. A task that was cancelled gives
---`nil, "cancelled", "ECANCELED"`; a wait that lasted `timeout` seconds gives `nil, "timed out", "ETIMEDOUT"`, and the
---task goes on.
---@param timeout? number seconds
---@return any ...
function Task:join(timeout) end

---Waits for the task without taking its results or raising its error.
---@param timeout? number seconds
---@return true? ended
---@return string? message
---@return string? code
function Task:wait(timeout) end

---Asks the task to stop: the wait it is in returns `nil, "cancelled", "ECANCELED"`, a later wait raises.
---@param reason? "cancelled"|"timeout"
---@return boolean running whether there was anything to cancel
function Task:cancel(reason) end

---@return "running"|"waiting"|"done"|"failed"|"cancelled"|"timed out"
function Task:status() end

---Gives the task a name and returns the task; or returns its name.
---@param new? string
---@return evlua.Task|string|nil
---@overload fun(self: evlua.Task, new: string): evlua.Task
---@overload fun(self: evlua.Task): string?
function Task:name(new) end

---@class evlua.TaskInfo
---@field name string
---@field status "running"|"waiting"
---@field waits_on? string
---@field age number seconds
---@field traceback string
---@field task? evlua.Task

---The tasks of this VM that have not ended, the oldest first.
---@return evlua.TaskInfo[] tasks
function evlua.tasks() end

---A table that belongs to this task; its children begin with a copy.
---@return table locals
function evlua.locals() end

---Calls `f(...)` when this task has ended, however it has; the last one first.
---@param f fun(...)
---@param ... any
function evlua.defer(f, ...) end

---Runs `f(...)` as a task of this VM. Its error surfaces at join, or on standard error if it is never joined.
---@param f fun(...): ...
---@param ... any
---@return evlua.Task
function evlua.spawn(f, ...) end

---Waits that long.
---@param seconds number 0 lets everything that is ready run first
---@return true? slept
---@return string? message
---@return string? code
function evlua.sleep(seconds) end

---Lets the other tasks of this VM run.
---@return true? resumed
---@return string? message
---@return string? code
function evlua.yield() end

---Runs `f(...)` with no other task in between, however long it takes. Waiting in it raises.
---@generic T
---@param f fun(...): T...
---@param ... any
---@return T ...
function evlua.atomic(f, ...) end

---Seconds of the monotonic clock, for measuring.
---@return number
function evlua.now() end

---Seconds since 1970-01-01 UTC.
---@return number
function evlua.time() end

---Bytes from the kernel that nobody can guess.
---@param n integer 0 to 1048576
---@return string
function evlua.random_bytes(n) end

---@class evlua.WorkerStats
---@field runs integer
---@field steals integer
---@field operations integer
---@field parks integer
---@field overruns integer
---@field queued integer
---@field longest_poll_gap number seconds

---@class evlua.Stats
---@field workers evlua.WorkerStats[]
---@field slices_cut_short integer
---@field states integer
---@field tasks integer
---@field memory integer bytes

---What the runtime has counted.
---@return evlua.Stats stats
function evlua.stats() end

---@class evlua.Limits
---@field cpu? number seconds of processor time
---@field time? number seconds

---Returns the results of `f(...)`, or `nil, message, "ELIMIT"` when it has used more processor time, or as
---`evlua.timeout`.
---@param options evlua.Limits
---@param f fun(...): ...
---@param ... any
---@return any ...
function evlua.limit(options, f, ...) end

---Returns the results of `f(...)`, or `nil, "timed out", "ETIMEDOUT"` after `seconds`; then everything `f` waits on was
---cancelled, and `f` has ended. An error of `f` is raised here.
---@param seconds number
---@param f fun(...): ...
---@param ... any
---@return any ...
function evlua.timeout(seconds, f, ...) end

---Tasks that end together.
---@class evlua.Scope
local Scope = {}

---@param f fun(...): ...
---@param ... any
---@return evlua.Task
function Scope:spawn(f, ...) end

---Cancels every task of the scope, and its body.
function Scope:cancel() end

---@return integer count tasks that have not ended
function Scope:size() end

---Runs `body(scope, ...)` and returns its results when it and every task spawned into the scope have ended. The first
---error cancels the rest and is raised here.
---@param body fun(scope: evlua.Scope, ...): ...
---@param ... any
---@return any ...
function evlua.scope(body, ...) end

---Runs the functions concurrently; returns the first result of each, in order. The first error cancels the rest.
---@param functions (fun(): any)[]
---@return any ...
function evlua.all(functions) end

---Returns the results of the first function that ends; the others are cancelled, and have ended.
---@param functions (fun(): any)[]
---@return any ...
function evlua.race(functions) end

---@class evlua.MapOptions
---@field concurrency? integer calls that go on at once (8)

---Calls `f(element, index)` for each element, `concurrency` (8) at a time; returns the results in order.
---@generic T, R
---@param list T[]
---@param f fun(element: T, index: integer): R
---@param options? evlua.MapOptions
---@return R[]? results
---@return string? message
---@return string? code
function evlua.map(list, f, options) end

---@class evlua.PipeOptions
---@field count? integer move at most so many bytes
---@field timeout? number seconds for all of it

---Moves bytes until `from` ends, without copying them where both are streams or regular files. A failure is followed by
---how many have been written; what a stream has given and could not be written is read from it next.
---@param from table|userdata a stream, a file, or an object with `read(n)`
---@param to table|userdata a stream, a file, or an object with `write(data)`
---@param options? evlua.PipeOptions
---@return integer? moved
---@return string? message
---@return string? code
---@return integer? moved_before
---@return string? rest of an object other than a stream or file: the piece that was not written, or only in part
function evlua.pipe(from, to, options) end

---Calls `f` every `seconds`, in a task that runs until it is cancelled.
---@param seconds number
---@param f fun()
---@return evlua.Task
function evlua.every(seconds, f) end

---Calls `f(name)` in a task of its own whenever the process gets the signal; nil restores the default.
---@param name "SIGINT"|"SIGTERM"|"SIGHUP"|"SIGUSR1"|"SIGUSR2"|"SIGWINCH"|"SIGCONT"|"SIGALRM"
---@param f fun(name: string)|nil
function evlua.on_signal(name, f) end

---Ends the process at once, after flushing standard output.
---@param code? integer|boolean 0 to 255, true (0) or false (1)
function evlua.exit(code) end

return evlua
