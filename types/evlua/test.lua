---@meta evlua.test

---What files of tests are written with. In these its functions are globals.
---@class evlua.test
---@field assert evlua.Assert
local test = {}

---A block of tests.
---@param name string
---@param f fun()
function test.describe(name, f) end

---@class evlua.TestOptions
---@field timeout? number seconds

---A test.
---@param name string
---@param f fun()
---@param options? evlua.TestOptions
function test.it(name, f, options) end

---A test that is still to be written.
---@param name string
function test.pending(name) end

---@param f fun()
function test.before_all(f) end

---@param f fun()
function test.after_all(f) end

---@param f fun()
function test.before_each(f) end

---@param f fun()
function test.after_each(f) end

---@class evlua.Call
---@field n integer
---@field results { n: integer, [integer]: any }
---@field [integer] any

---A function that notes what it is called with.
---@param f? function
---@return function spy
function test.spy(f) end

---Puts a spy into the table until the test is over.
---@param t table
---@param key any
---@param f? function
---@return function spy
function test.spy_on(t, key, f) end

---@param spy function
---@return evlua.Call[] calls
function test.calls_of(spy) end

---As `assert` anywhere.
---@param value any
---@param message? any
---@param ... any
---@return any ...
function test.assert(value, message, ...) end

---@class evlua.Assert
---@overload fun(value: any, message?: any, ...: any): any ...
---@field equal fun(expected: any, actual: any, message?: any): any
---@field not_equal fun(unexpected: any, actual: any, message?: any): any
---@field same fun(expected: any, actual: any, message?: any): any
---@field not_same fun(unexpected: any, actual: any, message?: any): any
---@field near fun(expected: number, actual: number, tolerance: number, message?: any): number
---@field truthy fun(value: any, message?: any): any
---@field falsy fun(value: any, message?: any): any
---@field is_nil fun(value: any, message?: any)
---@field is_type fun(name: string, value: any, message?: any): any
---@field match fun(pattern: string, text: string, message?: any): string
---@field no_match fun(pattern: string, text: string, message?: any): string
---@field contains fun(part: any, whole: string|table, message?: any): any
---@field error fun(f: function, expected?: any, message?: any): any
---@field no_error fun(f: function, message?: any): any ...
---@field fails fun(code: string, value: any, message?: string, got?: string): string
---@field called fun(spy: function, times?: integer, message?: any): evlua.Call[]
---@field called_with fun(spy: function, ...: any): evlua.Call

return test
