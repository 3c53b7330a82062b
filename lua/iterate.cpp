#include "lua/iterate.h"

#include <cstdint>
#include <limits>
#include <string_view>

#include "lua/bridge.h"
#include "lua/stack.h"
#include "lua/vm.h"

namespace evlua::lua {

namespace {

constexpr lua_Integer kSizeMax = std::numeric_limits<std::int32_t>::max();

int finish_step(lua_State* L, int, lua_KContext values) {
  if (!lua_isnil(L, -3)) {
    lua_pop(L, 3 - static_cast<int>(values));
    return static_cast<int>(values);
  }
  const char* code = lua_tostring(L, -1);
  const std::string_view reason = code != nullptr ? code : "";
  if (reason == "EOF" || reason == "EBADF") return 3;
  Fiber* fiber = Vm::of(L).running();
  if (fiber != nullptr && fiber->cancel_noticed() && !fiber->shielded()) return refuse_wait(L, *fiber);
  if (reason == "ECANCELED") return 3;  // somebody closed what is being read
  return luaL_error(L, "%s", lua_tostring(L, -2));
}

int step(lua_State* L) {
  lua_settop(L, 0);
  for (int i = 1; i <= 3; ++i) lua_pushvalue(L, lua_upvalueindex(i));
  const lua_KContext values = lua_tointeger(L, lua_upvalueindex(4));
  lua_callk(L, 2, 3, values, finish_step);
  return finish_step(L, LUA_OK, values);
}

}  // namespace

int iterate(lua_State* L, lua_CFunction read) {
  lua_pushcfunction(L, read);
  lua_insert(L, 1);
  lua_callk(L, lua_gettop(L) - 1, 3, 1, finish_step);
  return finish_step(L, LUA_OK, 1);
}

int push_iterator(lua_State* L, lua_CFunction read, int values) {
  lua_pushcfunction(L, read);
  lua_insert(L, -3);
  lua_pushinteger(L, values);
  lua_pushcclosure(L, step, 4);
  return 1;
}

void check_lines_argument(lua_State* L) {
  lua_settop(L, 2);
  if (lua_isnil(L, 2)) {
    lua_pushliteral(L, "l");
    lua_replace(L, 2);
  } else if (lua_type(L, 2) == LUA_TNUMBER) {
    (void)check_range(L, 2, 1, kSizeMax);
  } else {
    check_line_format(L, 2);
  }
}

void check_chunk_size(lua_State* L, lua_Integer usual) {
  lua_settop(L, 2);
  if (lua_isnil(L, 2)) {
    lua_pushinteger(L, usual);
    lua_replace(L, 2);
  } else {
    (void)check_range(L, 2, 1, kSizeMax);
  }
}

}  // namespace evlua::lua
