// evlua.json: decode, encode, null, array, is_array.
//
// What decoding and encoding need of memory is kept between calls, in a userdata that is an upvalue of the function. It
// is taken from there for the time of a call: a finalizer that runs meanwhile and decodes finds none and makes another
// one, and where an error passes over a call, the collector finds what it had.
#include <lua.hpp>

#include <cstring>
#include <new>

#include "lua/json_decode.h"
#include "lua/json_encode.h"
#include "lua/modules.h"
#include "lua/stack.h"

namespace evlua::lua {

namespace {

constexpr const char* kArrayType = "evlua.json.array";
constexpr const char* kScannerType = "evlua.json.scanner";
constexpr const char* kMemoryType = "evlua.json.memory";
constexpr lua_Integer kDepthMax = 5000;  // the encoder is recursive

// Upvalues of decode and encode.
const int kArrayMeta = lua_upvalueindex(1);
const int kKept = lua_upvalueindex(2);

/// Pushes the userdata of the upvalue, or a new one.
template <class T>
T& take_kept(lua_State* L, const char* type) {
  lua_pushvalue(L, kKept);
  if (!lua_isnil(L, -1)) {
    lua_pushnil(L);
    lua_replace(L, kKept);
    return *static_cast<T*>(lua_touserdata(L, -1));
  }
  lua_pop(L, 1);
  T* made = new (lua_newuserdata(L, sizeof(T))) T{};
  luaL_setmetatable(L, type);
  return *made;
}

void keep(lua_State* L, int index) {
  lua_pushvalue(L, index);
  lua_replace(L, kKept);
}

JsonBig check_big(lua_State* L, int index) {
  const char* big = option_string(L, index, "big");
  if (big == nullptr || std::strcmp(big, "float") == 0) return JsonBig::as_float;
  if (std::strcmp(big, "string") == 0) return JsonBig::as_string;
  luaL_argcheck(L, std::strcmp(big, "error") == 0, index, "option 'big': \"float\", \"string\" or \"error\" expected");
  return JsonBig::refuse;
}

std::uint32_t check_option_range(lua_State* L, int index, const char* name, lua_Integer otherwise, lua_Integer low,
                                 lua_Integer high) {
  const lua_Integer value = option_integer(L, index, name, otherwise);
  if (value < low || value > high) {
    luaL_argerror(L, index,
                  lua_pushfstring(L, "option '%s': number from %I to %I expected, got %I", name, low, high, value));
  }
  return static_cast<std::uint32_t>(value);
}

/// decode(text[, {max_depth, big}]) -> value
int decode(lua_State* L) {
  luaL_checktype(L, 1, LUA_TSTRING);
  const std::string_view text = check_bytes(L, 1);
  JsonDecodeOptions options;
  if (check_options(L, 2, {"max_depth", "big"})) {
    options.depth_max = check_option_range(L, 2, "max_depth", options.depth_max, 1, kDepthMax);
    options.big = check_big(L, 2);
  }
  lua_settop(L, 1);
  auto& scanner = take_kept<JsonScanner>(L, kScannerType);
  const int results = decode_json(L, text, options, kArrayMeta, scanner);
  scanner.trim();
  keep(L, 2);
  return results;
}

/// encode(value[, {pretty, indent, sort_keys, max_depth}]) -> text
int encode(lua_State* L) {
  luaL_checkany(L, 1);
  JsonEncodeOptions options;
  if (check_options(L, 2, {"pretty", "indent", "sort_keys", "max_depth"})) {
    const lua_Integer indent = option_flag(L, 2, "pretty", false) ? 2 : 0;
    options.indent = check_option_range(L, 2, "indent", indent, 0, 16);
    options.sort_keys = option_flag(L, 2, "sort_keys", false);
    options.depth_max = check_option_range(L, 2, "max_depth", options.depth_max, 1, kDepthMax);
  }
  lua_settop(L, 1);
  auto& memory = take_kept<JsonMemory>(L, kMemoryType);
  const int results = encode_json(L, 1, options, kArrayMeta, memory);
  memory.trim(L);
  keep(L, 2);
  return results;
}

/// array([table]) -> the table, which is an array from now on, even if it is empty
int array(lua_State* L) {
  lua_settop(L, 1);
  if (lua_isnil(L, 1)) {
    lua_newtable(L);
    lua_replace(L, 1);
  }
  luaL_checktype(L, 1, LUA_TTABLE);
  if (lua_getmetatable(L, 1) != 0) {
    luaL_argcheck(L, lua_rawequal(L, -1, kArrayMeta) != 0, 1, "the table has a metatable");
  }
  lua_pushvalue(L, kArrayMeta);
  lua_setmetatable(L, 1);
  lua_settop(L, 1);
  return 1;
}

/// is_array(value) -> whether it is a table that `array` or `decode` has marked
int is_array(lua_State* L) {
  luaL_checkany(L, 1);
  const bool marked = lua_istable(L, 1) && lua_getmetatable(L, 1) != 0 && lua_rawequal(L, -1, kArrayMeta) != 0;
  lua_pushboolean(L, marked ? 1 : 0);
  return 1;
}

int collect_scanner(lua_State* L) {
  static_cast<JsonScanner*>(lua_touserdata(L, 1))->~JsonScanner();
  return 0;
}

int collect_memory(lua_State* L) {
  static_cast<JsonMemory*>(lua_touserdata(L, 1))->release(L);
  return 0;
}

void define_kept(lua_State* L, const char* type, lua_CFunction collect) {
  luaL_newmetatable(L, type);
  lua_pushcfunction(L, collect);
  lua_setfield(L, -2, "__gc");
  lua_pop(L, 1);
}

int describe_light(lua_State* L) {
  const void* pointer = lua_touserdata(L, 1);
  if (pointer == nullptr) {
    lua_pushliteral(L, "null");
  } else {
    lua_pushfstring(L, "userdata: %p", pointer);
  }
  return 1;
}

/// Pushes null: a light userdata, so that it is the same in every state, and the same as in other libraries.
void push_null(lua_State* L) {
  lua_pushlightuserdata(L, nullptr);
  if (lua_getmetatable(L, -1) != 0) {  // all of them share one, and it is somebody else's
    lua_pop(L, 1);
    return;
  }
  lua_createtable(L, 0, 1);
  lua_pushcfunction(L, describe_light);
  lua_setfield(L, -2, "__tostring");
  lua_setmetatable(L, -2);
}

void push_function(lua_State* L, lua_CFunction function) {
  luaL_getmetatable(L, kArrayType);
  lua_pushnil(L);
  lua_pushcclosure(L, function, 2);
}

}  // namespace

int open_json(lua_State* L) {
  define_kept(L, kScannerType, collect_scanner);
  define_kept(L, kMemoryType, collect_memory);
  luaL_newmetatable(L, kArrayType);
  lua_pop(L, 1);
  lua_createtable(L, 0, 5);
  push_function(L, decode);
  lua_setfield(L, -2, "decode");
  push_function(L, encode);
  lua_setfield(L, -2, "encode");
  push_function(L, array);
  lua_setfield(L, -2, "array");
  push_function(L, is_array);
  lua_setfield(L, -2, "is_array");
  push_null(L);
  lua_setfield(L, -2, "null");
  return 1;
}

}  // namespace evlua::lua
