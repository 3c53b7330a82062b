-- lua-lpeg: a grammar with captures, re, and functions called while it matches.
local lpeg, re = require "lpeg", require "re"
local P, R, S, V, C, Ct, Cf, Cg = lpeg.P, lpeg.R, lpeg.S, lpeg.V, lpeg.C, lpeg.Ct, lpeg.Cf, lpeg.Cg
local space = S(" \t") ^ 0
local number = C(P("-") ^ -1 * R("09") ^ 1) / tonumber * space
local operators = {
  ["+"] = function(a, b) return a + b end, ["-"] = function(a, b) return a - b end,
  ["*"] = function(a, b) return a * b end, ["/"] = function(a, b) return a // b end,
}
local function apply(a, operator, b) return operators[operator](a, b) end
local grammar = P{
  "sum",
  sum = Cf(V"product" * Cg(C(S"+-") * space * V"product") ^ 0, apply),
  product = Cf(V"atom" * Cg(C(S"*/") * space * V"atom") ^ 0, apply),
  atom = number + "(" * space * V"sum" * ")" * space,
} * -1
assert(grammar:match("2 * (3 + 4) - 10 / 5") == 12)
assert(grammar:match("2 * (3 + ") == nil)
local fields = Ct((C((1 - P",") ^ 0) * ("," * C((1 - P",") ^ 0)) ^ 0))
assert(table.concat(fields:match("a,b,,c"), "|") == "a|b||c")
assert(re.match("name = value", "{ %w+ } ' = ' { %w+ }") == "name")
assert(re.gsub("hello world", "[aeiou]", "*") == "h*ll* w*rld")
local count = 0
local pattern = lpeg.Cmt(R"az" ^ 1, function(_, at) count = count + 1 return at end) * (P" " ^ 0)
assert((pattern ^ 1):match("some words here") == 16 and count == 3)
local text = ("(1+2)*3-"):rep(2000) .. "1"
assert(type(grammar:match(text)) == "number")
return "lpeg"
