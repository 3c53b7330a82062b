// debug.sethook and debug.gethook, so that time slices and limits go on in the hook's function. Behaviour is stock: a
// hook is not called in itself, and waits in it are refused.
#include <lua.hpp>

#include <array>
#include <cstring>

#include "lua/bracket.h"
#include "lua/brief.h"
#include "lua/modules.h"
#include "lua/set_hooks.h"
#include "lua/vm.h"

// Compiled with Lua (cmake/lua/hooks.c).
extern "C" {
int evlua_call_hook(lua_State* L, int arguments);
[[noreturn]] void evlua_pass_error_on(lua_State* L, int status);
}

namespace evlua::lua {

namespace {

// Registry key of the table: coroutine -> the function of its hook.
const char kFunctions = 0;

/// The hook of all coroutines that the program has set one in.
void call_function(lua_State* L, lua_Debug* where) {
  constexpr std::array<const char*, 5> kEvents = {"call", "return", "line", "count", "tail call"};
  lua_pushcfunction(L, keep_trail);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &kFunctions);
  lua_pushthread(L);
  if (lua_rawget(L, -2) != LUA_TFUNCTION) return;  // coroutines inherit hooks, but not their functions
  lua_remove(L, -2);
  lua_pushstring(L, kEvents[static_cast<std::size_t>(where->event)]);
  if (where->currentline >= 0) {
    lua_pushinteger(L, where->currentline);
  } else {
    lua_pushnil(L);
  }
  SetHooks& hooks = Vm::of(L).set_hooks();
  if (!hooks.begin_call(L)) return lua_call(L, 2, 0);
  const int status = evlua_call_hook(L, 2);
  hooks.end_call(L);
  if (status != LUA_OK) evlua_pass_error_on(L, status);
}

/// The coroutine that is meant, and in `before` how many arguments come before the others.
lua_State* coroutine_at(lua_State* L, int& before) {
  before = lua_isthread(L, 1) ? 1 : 0;
  lua_State* coroutine = before != 0 ? lua_tothread(L, 1) : L;
  if (coroutine != L && lua_checkstack(coroutine, 1) == 0) luaL_error(L, "stack overflow");
  return coroutine;
}

void push_functions(lua_State* L) {
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &kFunctions) != LUA_TNIL) return;
  lua_pop(L, 1);
  lua_createtable(L, 0, 2);
  lua_pushliteral(L, "k");
  lua_setfield(L, -2, "__mode");
  lua_pushvalue(L, -1);
  lua_setmetatable(L, -2);
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &kFunctions);
}

void push_coroutine(lua_State* L, lua_State* coroutine) {
  lua_pushthread(coroutine);
  lua_xmove(coroutine, L, 1);
}

int mask_of(const char* letters, int count) {
  int mask = count > 0 ? LUA_MASKCOUNT : 0;
  if (std::strchr(letters, 'c') != nullptr) mask |= LUA_MASKCALL;
  if (std::strchr(letters, 'r') != nullptr) mask |= LUA_MASKRET;
  if (std::strchr(letters, 'l') != nullptr) mask |= LUA_MASKLINE;
  return mask;
}

/// sethook([thread,] hook, mask[, count])
int set_hook(lua_State* L) {
  if (Brief::runs()) return luaL_error(L, "debug.sethook is not for code that nobody waits for, as this __gc");
  int before = 0;
  lua_State* coroutine = coroutine_at(L, before);
  int mask = 0;
  int count = 0;
  const bool none = lua_isnoneornil(L, before + 1);
  if (!none) {
    const char* letters = luaL_checkstring(L, before + 2);
    luaL_checktype(L, before + 1, LUA_TFUNCTION);
    count = static_cast<int>(luaL_optinteger(L, before + 3, 0));
    mask = mask_of(letters, count);
  }
  lua_settop(L, before + 1);
  push_functions(L);
  push_coroutine(L, coroutine);
  lua_pushvalue(L, before + 1);
  lua_rawset(L, -3);
  Vm::of(L).set_hooks().set(coroutine, none ? nullptr : call_function, mask, count);
  return 0;
}

/// gethook([thread]) -> hook, mask, count
int get_hook(lua_State* L) {
  int before = 0;
  lua_State* coroutine = coroutine_at(L, before);
  const SetHooks::Hook hook = Vm::of(L).set_hooks().get(coroutine);
  if (hook.function == nullptr) {
    lua_pushnil(L);
  } else if (hook.function != call_function) {
    lua_pushliteral(L, "external hook");
  } else {
    push_functions(L);
    push_coroutine(L, coroutine);
    lua_rawget(L, -2);
  }
  luaL_Buffer letters;
  luaL_buffinit(L, &letters);
  if ((hook.mask & LUA_MASKCALL) != 0) luaL_addchar(&letters, 'c');
  if ((hook.mask & LUA_MASKRET) != 0) luaL_addchar(&letters, 'r');
  if ((hook.mask & LUA_MASKLINE) != 0) luaL_addchar(&letters, 'l');
  luaL_pushresult(&letters);
  lua_pushinteger(L, hook.count);
  return 3;
}

}  // namespace

int open_debug(lua_State* L) {
  const luaL_Reg functions[] = {{"sethook", set_hook}, {"gethook", get_hook}, {nullptr, nullptr}};
  luaL_setfuncs(L, functions, 0);
  return 0;
}

}  // namespace evlua::lua
