#include "lua/callbacks.h"

#include "lua/modules.h"

namespace evlua::lua {

void push_waiting(lua_State* L, const char* name) {
  static const char key = 0;
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &key) == LUA_TNIL) {
    lua_pop(L, 1);
    push_embedded(L, "waiting");
    lua_call(L, 0, 1);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &key);
  }
  lua_getfield(L, -1, name);
  lua_remove(L, -2);
}

}  // namespace evlua::lua
