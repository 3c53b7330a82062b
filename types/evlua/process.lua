---@meta evlua.process

---Other programs: run to their end, or beside this one.
---@class evlua.process
local process = {}

---How a program has ended.
---@class evlua.ProcessStatus
---@field code? integer what it returned; absent when a signal ended it
---@field signal? string the name of that signal: "SIGKILL"
---@field ok boolean it returned 0

---@class evlua.ProcessResult: evlua.ProcessStatus
---@field stdout string what it wrote
---@field stderr string
---@field incomplete? true another process still held an output in the end

---The elements are the program and its arguments.
---@class evlua.ProcessOptions
---@field [integer] string|number
---@field cwd? string the folder to start in
---@field env? table<string, string|number> all variables that it gets
---@field user? string|integer name or number
---@field group? string|integer name or number; without, the user's
---@field new_group? boolean it leads a process group of its own (false)
---@field new_session? boolean it leads a session of its own (false)

---@class evlua.RunOptions: evlua.ProcessOptions
---@field stdin? string|evlua.File what it reads ("")
---@field stdout? "pipe"|"null"|"inherit"|evlua.File "pipe": captured
---@field stderr? "pipe"|"null"|"inherit"|"stdout"|evlua.File "pipe": captured
---@field timeout? number seconds; then SIGTERM
---@field grace? number seconds between SIGTERM and SIGKILL (2)
---@field limit? integer bytes of each output (16 MiB); more is "ELIMIT"
---@field drain? number seconds to wait for others that hold an output in the end (1)

---@class evlua.SpawnOptions: evlua.ProcessOptions
---@field stdin? "inherit"|"pipe"|"null"|evlua.File ("inherit")
---@field stdout? "inherit"|"pipe"|"null"|evlua.File ("inherit")
---@field stderr? "inherit"|"pipe"|"null"|"stdout"|evlua.File ("inherit")

---@class evlua.GraceOptions
---@field grace? number seconds between SIGTERM and SIGKILL (2)

---@class evlua.KillOptions
---@field group? boolean the whole process group, of a child that leads one (false)

---A program beside this one. Goes on when the object is forgotten.
---@class evlua.Child
---@field pid integer its number
---@field stdin evlua.Stream|nil for "pipe": what it reads
---@field stdout evlua.Stream|nil for "pipe": what it writes
---@field stderr evlua.Stream|nil for "pipe": what it writes
local Child = {}

---Waits for its end.
---@param options? evlua.TimeoutOptions
---@return evlua.ProcessStatus? status
---@return string? message
---@return string? code
function Child:wait(options) end

---Nothing while it runs. Does not wait.
---@return evlua.ProcessStatus? status
function Child:status() end

---Sends a signal, by name or number ("SIGTERM"). "ESRCH" when it has ended.
---@param signal? string|integer
---@param options? evlua.KillOptions
---@return true? sent
---@return string? message
---@return string? code
function Child:kill(signal, options) end

---SIGTERM, then SIGKILL; waits for the end.
---@param options? evlua.GraceOptions
---@return evlua.ProcessStatus? status
---@return string? message
---@return string? code
function Child:stop(options) end

---Kills what still runs, collects it, and closes the pipes. May be called twice.
---@return true
function Child:close() end

---Runs a program and returns its status and what it wrote. With "ETIMEDOUT" and "ELIMIT" that is the fourth result.
---@param command evlua.RunOptions
---@return evlua.ProcessResult? result
---@return string? message
---@return string? code
---@return evlua.ProcessResult? partial
function process.run(command) end

---Starts a program.
---@param command evlua.SpawnOptions
---@return evlua.Child? child
---@return string? message
---@return string? code
function process.spawn(command) end

---A new table of all variables of the environment.
---@return table<string, string>
function process.env() end

---The number of this process.
---@return integer
function process.pid() end

return process
