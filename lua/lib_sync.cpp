// evlua.sync: tasks of one Vm that wait for each other. The rest of the module is lua/lib/sync.lua.
#include <lua.hpp>

#include "lua/modules.h"
#include "lua/sync.h"

namespace evlua::lua {

int open_sync(lua_State* L) {
  define_sync_channel(L);
  define_sync_events(L);
  define_sync_locks(L);
  define_limiter(L);
  const luaL_Reg functions[] = {{"channel", make_sync_channel},
                                {"select", sync_select},
                                {"event", make_sync_event},
                                {"wait_group", make_wait_group},
                                {"mutex", make_mutex},
                                {"rwlock", make_rwlock},
                                {"semaphore", make_semaphore},
                                {"limiter", make_limiter},
                                {"held", sync_held},
                                {nullptr, nullptr}};
  luaL_newlib(L, functions);
  return 1;
}

}  // namespace evlua::lua
