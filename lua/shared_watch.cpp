// Watches of dictionaries of evlua.shared.
#include <lua.hpp>

#include <new>
#include <optional>
#include <string>

#include "core/shared/watch.h"
#include "lua/bridge.h"
#include "lua/iterate.h"
#include "lua/shared_parts.h"
#include "lua/stack.h"
#include "lua/type_label.h"

namespace evlua::lua {

namespace {

constexpr const char* kWatchType = "evlua.watch";

Watch& check_watch(lua_State* L) { return *static_cast<Watch*>(check_object(L, 1, kWatchType)); }

struct PushKey {
  static const char* subject() { return nullptr; }
  int operator()(lua_State* L, const std::string& key) const {
    lua_pushlstring(L, key.data(), key.size());
    return 1;
  }
};

/// next([{timeout}]) -> the key
int next_change(lua_State* L) {
  Watch& waited = check_watch(L);
  const Instant deadline = check_options(L, 2, {"timeout"}) ? option_deadline(L, 2) : kNever;
  return suspend_task<std::string>(
      L, [&waited, deadline] { return waited.next(deadline); }, PushKey());
}

/// for key in watch:changes() do ... end
int changes(lua_State* L) {
  (void)check_watch(L);
  lua_settop(L, 1);
  lua_pushnil(L);
  return push_iterator(L, next_change);
}

int close_watch(lua_State* L) {
  check_watch(L).close();
  return 0;
}

int collect_watch(lua_State* L) {
  static_cast<Watch*>(lua_touserdata(L, 1))->~Watch();
  return 0;
}

}  // namespace

int push_watch(lua_State* L, Dict& dict) {
  if (!lua_isnoneornil(L, 2)) (void)check_bytes(L, 2);
  lua_settop(L, 2);
  void* memory = lua_newuserdata(L, sizeof(Watch));
  const bool one = !lua_isnil(L, 2);
  const std::string_view name = one ? check_bytes(L, 2) : std::string_view();
  bool made = true;
  try {
    std::optional<std::string> key;
    if (one) key.emplace(name);
    new (memory) Watch(dict.watches(), std::move(key));
  } catch (const std::bad_alloc&) {
    made = false;
  }
  if (!made) return luaL_error(L, "not enough memory");
  luaL_setmetatable(L, kWatchType);
  return 1;
}

void define_shared_watch(lua_State* L) {
  const luaL_Reg watches[] = {{"next", next_change}, {"changes", changes}, {"close", close_watch}, {nullptr, nullptr}};
  const luaL_Reg watch_meta[] = {{"__gc", collect_watch}, {nullptr, nullptr}};
  define_type(L, kWatchType, watches, watch_meta);
}

}  // namespace evlua::lua
