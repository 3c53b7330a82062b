// A coroutine can be asked to pause, whatever hooks the program has set in it (cmake/lua/pause.inc): then we look at it
// before each of its instructions.
#pragma once

#include <lua.hpp>

extern "C" {
/// By the thread that L runs on, or a signal handler there.
void evlua_ask_to_pause(lua_State* L);
/// Takes that back. Returns whether it was asked.
int evlua_take_pause(lua_State* L);
/// Who looks; null as long as there are only states that others have made. Not 0: L yields now, without results, to go
/// on with the same instruction. May raise an error.
extern int (*evlua_pause)(lua_State* L);
}
