#include "lua/modules.h"

#include <cstring>

#include "lua/bad_argument.h"
#include "lua/bytecode.h"
#include "lua/compat.h"
#include "lua/embedded.h"
#include "lua/message.h"

namespace evlua::lua {

namespace {

/// Pushes the embedded file as a function, for package.preload.
int load_embedded(lua_State* L) {
  const char* name = lua_tostring(L, lua_upvalueindex(1));
  for (std::size_t i = 0; i < embedded_file_count; ++i) {
    const EmbeddedFile& file = embedded_files[i];
    if (std::strcmp(file.name, name) != 0) continue;
    const char* chunk = lua_pushfstring(L, "=[evlua %s]", name);
    if (luaL_loadbufferx(L, file.data, file.size, chunk, "t") != LUA_OK) return lua_error(L);
    lua_insert(L, 1);
    lua_settop(L, 2);
    lua_call(L, 1, 1);
    return 1;
  }
  return luaL_error(L, "no embedded file '%s'", name);
}

void preload(lua_State* L, const char* module, lua_CFunction open) {
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
  lua_pushcfunction(L, open);
  lua_setfield(L, -2, module);
  lua_pop(L, 1);
}

void preload_embedded(lua_State* L, const char* module, const char* file) {
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
  lua_pushstring(L, file);
  lua_pushcclosure(L, load_embedded, 1);
  lua_setfield(L, -2, module);
  lua_pop(L, 1);
}

}  // namespace

void push_embedded(lua_State* L, const char* file) {
  lua_pushstring(L, file);
  lua_pushcclosure(L, load_embedded, 1);
}

void open_modules(lua_State* L) {
  // In place, so that package.loaded and the global stay one table.
  lua_getglobal(L, "coroutine");
  open_coroutine(L);
  lua_pop(L, 1);
  lua_getglobal(L, "string");
  open_patterns(L);
  lua_pop(L, 1);
  lua_getglobal(L, "table");
  open_table(L);
  open_sort(L);
  lua_pop(L, 1);
  lua_getglobal(L, "math");
  open_random(L);
  lua_pop(L, 1);
  replace_load(L);
  lua_getglobal(L, "debug");
  lua_pop(L, 1);
  lua_pushglobaltable(L);
  open_base(L);
  lua_pop(L, 1);
  lua_getglobal(L, "io");
  open_io(L);
  lua_pop(L, 1);
  open_os(L);
  preload(L, "evlua.bad_argument", open_bad_argument);
  preload(L, "evlua.bad_type", open_bad_type);
  preload(L, "evlua.task", open_task);
  preload(L, "evlua.net", open_net);
  preload(L, "evlua.dns", open_dns);
  preload(L, "evlua.fs.native", open_fs);
  preload_embedded(L, "evlua.fs", "fs");
  preload(L, "evlua.process", open_process);
  preload(L, "evlua.encoding", open_encoding);
  preload(L, "evlua.json", open_json);
  preload(L, "evlua.shared.native", open_shared);
  preload_embedded(L, "evlua", "evlua");
  preload_embedded(L, "evlua.shared", "shared");
  define_message_type(L);
  define_channel_type(L);
  preload(L, "evlua.thread.native", open_thread);
  preload_embedded(L, "evlua.thread", "thread");
  preload_embedded(L, "evlua.inspect", "inspect");
  preload_embedded(L, "evlua.complete", "complete");
  preload_embedded(L, "evlua.find_files", "find_files");
  preload_embedded(L, "evlua.test", "test");
  preload_embedded(L, "evlua.test.assert", "test_assert");
  preload_embedded(L, "evlua.test.run", "test_run");
  preload_embedded(L, "evlua.test.report", "test_report");
  preload(L, "evlua.sync.native", open_sync);
  preload_embedded(L, "evlua.sync", "sync");
  preload(L, "evlua.compat.native", open_compat);
  preload_embedded(L, "evlua.compat", "compat");
  preload_embedded(L, "evlua.compat.socket", "compat_socket");
  preload_embedded(L, "evlua.compat.core", "socket_core");
  preload_embedded(L, "evlua.compat.object", "socket_object");
  preload_embedded(L, "evlua.compat.stream", "socket_stream");
  preload_embedded(L, "evlua.compat.tcp", "socket_tcp");
  preload_embedded(L, "evlua.compat.udp", "socket_udp");
  preload_embedded(L, "evlua.compat.unix", "socket_unix");
  preload_embedded(L, "evlua.compat.names", "socket_names");
  // require, dofile, loadfile, os.exit: replaced by what may wait.
  push_embedded(L, "stock");
  lua_call(L, 0, 0);
}

}  // namespace evlua::lua
