// A JSON text: simdjson's own parser agrees on whether it is one, and what was decoded and encoded is decoded to the
// same. Anything else: encoding it as a string gives an error or a text that is JSON.
#include <simdjson.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <lua.hpp>
#include <memory>
#include <string>
#include <string_view>

#include "lua/modules.h"

namespace {

constexpr const char* kChunk = R"lua(
local text = ...
local function same(a, b)
  if type(a) ~= "table" then return a == b and math.type(a) == math.type(b) end
  if type(b) ~= "table" or json.is_array(a) ~= json.is_array(b) then return false end
  for key, value in next, a do if not same(value, b[key]) then return false end end
  for key in next, b do if a[key] == nil then return false end end
  return true
end
local function check(value, options)
  options.max_depth = 1002
  local written = assert(json.encode(value, options))
  assert(same(value, assert(json.decode(written, {max_depth = 1002}))), written)
  return written
end
local quoted = json.encode(text)
if quoted then assert(json.decode(quoted) == text) end
local keyed = json.encode{[text] = 1}
assert((keyed ~= nil) == (quoted ~= nil))
local value, message, code = json.decode(text)
if code then return code, message end
if value == false then return "" end  -- which is no failure, but nothing for assert
local written = check(value, {sort_keys = true})
assert(check(value, {sort_keys = true}) == written)
check(value, {pretty = true})
check(value, {})
check(json.array{value, {key = value}}, {})
return ""
)lua";

struct Close {
  void operator()(lua_State* L) const { lua_close(L); }
};

[[noreturn]] void give_up(const char* what, const char* why) {
  std::fprintf(stderr, "%s: %s\n", what, why);
  std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const std::unique_ptr<lua_State, Close> state = [] {
    lua_State* L = luaL_newstate();
    luaL_openlibs(L);
    luaL_requiref(L, "json", evlua::lua::open_json, 1);
    return std::unique_ptr<lua_State, Close>(L);
  }();
  lua_State* L = state.get();
  lua_settop(L, 0);
  if (luaL_loadstring(L, kChunk) != LUA_OK) give_up("chunk", lua_tostring(L, -1));
  lua_pushlstring(L, reinterpret_cast<const char*>(data), size);
  if (lua_pcall(L, 1, 2, 0) != LUA_OK) give_up("failed", lua_tostring(L, -1));
  const std::string_view code = lua_tostring(L, -2);

  simdjson::dom::parser parser;
  const simdjson::error_code theirs = parser.parse(std::string(reinterpret_cast<const char*>(data), size)).error();
  const bool ours_takes = code.empty();
  // They have no integers beyond 64 bits, and count their depth differently.
  if (ours_takes && theirs != simdjson::SUCCESS && theirs != simdjson::NUMBER_ERROR) {
    give_up("taken, but not by simdjson", simdjson::error_message(theirs));
  }
  if (!ours_takes && theirs == simdjson::SUCCESS && code != "ELIMIT") give_up("refused", lua_tostring(L, -1));
  return 0;
}
