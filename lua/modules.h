// The modules a Vm offers. Each `open_x` leaves the module's table on the stack (or changes stock Lua in place).
#pragma once

#include <lua.hpp>

#include <string_view>

namespace evlua::lua {

/// What the names of chunks begin with that are the runtime's own.
inline constexpr std::string_view kOwnChunk = "=[evlua";

/// Makes every module reachable by require, and replaces what of stock Lua would block or cannot wait.
void open_modules(lua_State* L);

/// Pushes a file of lua/lib as a function, whose one argument is its `...`.
void push_embedded(lua_State* L, const char* file);

int open_task(lua_State* L);       // the primitives behind `evlua`
int open_coroutine(lua_State* L);  // replaces the functions of the table on top of the stack
int open_patterns(lua_State* L);   // the same for `string`
int open_random(lua_State* L);     // the same for `math`
int open_table(lua_State* L);      // the same for `table`
int open_sort(lua_State* L);       // table.sort
int open_base(lua_State* L);       // the same for the globals
int open_io(lua_State* L);         // the same for `io`
void open_os(lua_State* L);        // replaces functions of `os`, and io.popen
int open_net(lua_State* L);
int open_dns(lua_State* L);
int open_fs(lua_State* L);  // what of `evlua.fs` is not in lib/fs.lua
int open_process(lua_State* L);
int open_encoding(lua_State* L);
int open_json(lua_State* L);
int open_shared(lua_State* L);   // the primitives behind `evlua.shared`
int open_thread(lua_State* L);   // the primitives behind `evlua.thread`
int open_sync(lua_State* L);     // the primitives behind `evlua.sync`
int pipe_bytes(lua_State* L);    // evlua.pipe, as far as streams and files go
int random_bytes(lua_State* L);  // random_bytes(n) -> n bytes that nobody can guess
void define_channel_type(lua_State* L);

/// list_globals(chunk) -> {name, line, writes} of each access to a global in it and its functions. Compiled with Lua
/// (cmake/lua/globals.c).
extern "C" int evlua_list_globals(lua_State* L);

}  // namespace evlua::lua
