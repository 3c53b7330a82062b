#include "lua/stack.h"

#include <cmath>
#include <cstring>

#include "core/check.h"
#include "lua/brief.h"
#include "lua/modules.h"
#include "lua/type_label.h"

// Compiled with Lua (cmake/lua/catchers.inc).
extern "C" void evlua_skip_catchers(lua_State* L, const char* own);

namespace evlua::lua {

void copy_message(const Error& error, char* buffer, std::size_t size) noexcept {
  const std::string message = error.message();
  const std::size_t length = message.size() < size ? message.size() : size - 1;
  std::memcpy(buffer, message.data(), length);
  buffer[length] = '\0';
}

const char* check_path(lua_State* L, int index) {
  std::size_t size = 0;
  const char* path = luaL_checklstring(L, index, &size);
  luaL_argcheck(L, std::strlen(path) == size, index, "path contains a NUL byte");
  return path;
}

lua_Integer check_range(lua_State* L, int index, lua_Integer low, lua_Integer high) {
  const lua_Integer value = luaL_checkinteger(L, index);
  if (value < low || value > high) {
    luaL_argerror(L, index, lua_pushfstring(L, "number from %I to %I expected, got %I", low, high, value));
  }
  return value;
}

void check_line_format(lua_State* L, int index) {
  const char* format = lua_type(L, index) == LUA_TSTRING ? lua_tostring(L, index) : "";
  if (*format == '*') ++format;
  if (*format == 'l' || *format == 'L') return;
  luaL_argerror(L, index, "\"l\" or \"L\" expected; for pieces of any size use chunks(n)");
}

bool check_options(lua_State* L, int index, std::initializer_list<const char*> known) {
  if (lua_isnoneornil(L, index)) return false;
  luaL_checktype(L, index, LUA_TTABLE);
  lua_pushnil(L);
  while (lua_next(L, index) != 0) {
    lua_pop(L, 1);
    bool found = false;
    if (lua_type(L, -1) == LUA_TSTRING) {
      const char* key = lua_tostring(L, -1);
      for (const char* name : known) found = found || std::strcmp(name, key) == 0;
    }
    if (!found) {
      const char* shown = luaL_tolstring(L, -1, nullptr);
      luaL_argerror(L, index, lua_pushfstring(L, "unknown option '%s'", shown));
    }
  }
  return true;
}

namespace {

[[noreturn]] void wrong_option(lua_State* L, int index, const char* name, const char* expected) {
  luaL_argerror(L, index, lua_pushfstring(L, "option '%s': %s expected, got %s", name, expected, luaL_typename(L, -1)));
  EVLUA_UNREACHABLE();
}

}  // namespace

bool option_flag(lua_State* L, int index, const char* name, bool otherwise) {
  const int type = lua_getfield(L, index, name);
  if (type != LUA_TNIL && type != LUA_TBOOLEAN) wrong_option(L, index, name, "boolean");
  const bool value = type == LUA_TNIL ? otherwise : lua_toboolean(L, -1) != 0;
  lua_pop(L, 1);
  return value;
}

lua_Integer option_integer(lua_State* L, int index, const char* name, lua_Integer otherwise) {
  const int type = lua_getfield(L, index, name);
  int is_integer = 0;
  const lua_Integer value = lua_tointegerx(L, -1, &is_integer);
  if (type != LUA_TNIL && is_integer == 0) wrong_option(L, index, name, "integer");
  lua_pop(L, 1);
  return type == LUA_TNIL ? otherwise : value;
}

double option_number(lua_State* L, int index, const char* name, double otherwise) {
  const int type = lua_getfield(L, index, name);
  int is_number = 0;
  const double value = lua_tonumberx(L, -1, &is_number);
  if (type != LUA_TNIL && is_number == 0) wrong_option(L, index, name, "number");
  lua_pop(L, 1);
  return type == LUA_TNIL ? otherwise : value;
}

const char* option_string(lua_State* L, int index, const char* name, std::size_t* size) {
  const int type = lua_getfield(L, index, name);
  if (type != LUA_TNIL && type != LUA_TSTRING) wrong_option(L, index, name, "string");
  const char* value = type == LUA_TNIL ? nullptr : lua_tolstring(L, -1, size);
  lua_pop(L, 1);
  return value;
}

Instant option_deadline(lua_State* L, int index) {
  const double seconds = option_number(L, index, "timeout", std::numeric_limits<double>::infinity());
  luaL_argcheck(L, !std::isnan(seconds), index, "option 'timeout': not a number");
  if (seconds == std::numeric_limits<double>::infinity()) return kNever;
  return deadline_after(Worker::current().backend().now(), duration_from_seconds(seconds));
}

Instant check_timeout(lua_State* L, int index) {
  if (lua_isnoneornil(L, index)) return kNever;
  const double seconds = luaL_checknumber(L, index);
  luaL_argcheck(L, !std::isnan(seconds), index, "not a number");
  return deadline_after(Worker::current().backend().now(), duration_from_seconds(seconds));
}

int pcall_briefly(lua_State* L, int arguments, int results) {
  const Brief::Scope scope(L, 100 * kMillisecond);
  return lua_pcall(L, arguments, results, 0);
}

void skip_catchers(lua_State* L) { evlua_skip_catchers(L, kOwnChunk.data()); }

void raise_past_catchers(lua_State* L, const char* message) {
  skip_catchers(L);
  luaL_error(L, "%s", message);
  EVLUA_UNREACHABLE();
}

void define_type(lua_State* L, const char* name, const luaL_Reg* methods, const luaL_Reg* metamethods) {
  luaL_newmetatable(L, name);
  lua_pushstring(L, type_label(name));
  lua_setfield(L, -2, "__name");
  if (metamethods != nullptr) luaL_setfuncs(L, metamethods, 0);
  lua_newtable(L);
  if (methods != nullptr) luaL_setfuncs(L, methods, 0);
  lua_setfield(L, -2, "__index");
  lua_pushliteral(L, "protected");
  lua_setfield(L, -2, "__metatable");
  lua_pop(L, 1);
}

}  // namespace evlua::lua
