// evlua.shared: what all Vms of the process see: dictionaries, locks, counters, histograms, by name. The parts that are
// Lua code are in lua/lib/shared.lua.
#include <lua.hpp>

#include "lua/modules.h"
#include "lua/shared_parts.h"

namespace evlua::lua {

int open_shared(lua_State* L) {
  define_shared_dict(L);
  define_shared_watch(L);
  define_shared_lock(L);
  define_shared_metrics(L);
  const luaL_Reg functions[] = {{"lock", shared_lock},
                                {"unlock", shared_unlock},
                                {"counter", shared_counter},
                                {"histogram", shared_histogram},
                                {nullptr, nullptr}};
  luaL_newlib(L, functions);
  push_open_dict(L);
  lua_setfield(L, -2, "dict");
  return 1;
}

}  // namespace evlua::lua
