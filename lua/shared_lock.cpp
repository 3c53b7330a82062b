// Locks of evlua.shared.
#include <lua.hpp>

#include <new>
#include <string>
#include <utility>

#include "core/shared/lock_table.h"
#include "lua/bridge.h"
#include "lua/shared_names.h"
#include "lua/shared_parts.h"
#include "lua/stack.h"
#include "lua/type_label.h"

namespace evlua::lua {

namespace {

constexpr const char* kLockType = "evlua.lock";

/// Never destroyed: Vms of threads that still run at exit may use it.
LockTable& locks() {
  static auto& all = *new LockTable;
  return all;
}

struct Lock {
  bool held = false;
  std::string name;

  void release() {
    if (std::exchange(held, false)) locks().unlock(name);
  }
};

struct PushLock {
  static const char* subject() { return nullptr; }
  int operator()(lua_State* L) const {
    static_cast<Lock*>(lua_touserdata(L, 3))->held = true;
    lua_settop(L, 3);
    return 1;
  }
};

Lock& check_lock(lua_State* L) { return *static_cast<Lock*>(check_object(L, 1, kLockType)); }

int lock_to_string(lua_State* L) {
  const Lock& shown = check_lock(L);
  lua_pushfstring(L, "lock %s (%s)", shown.name.c_str(), shown.held ? "held" : "not held");
  return 1;
}

int collect_lock(lua_State* L) {
  auto* ended = static_cast<Lock*>(lua_touserdata(L, 1));
  ended->release();
  ended->~Lock();
  return 0;
}

}  // namespace

/// lock(name[, {timeout}]) -> the lock, held
int shared_lock(lua_State* L) {
  const std::string_view name = check_name(L, 1);
  const bool has_options = check_options(L, 2, {"timeout"});
  const Instant deadline = has_options ? option_deadline(L, 2) : kNever;
  lua_settop(L, 2);
  auto* made = new (lua_newuserdata(L, sizeof(Lock))) Lock;
  luaL_setmetatable(L, kLockType);
  LockTable& table = locks();
  bool has_memory = true;
  bool taken = false;
  try {
    made->name = name;
    taken = table.try_lock(name);
  } catch (const std::bad_alloc&) {
    has_memory = false;
  }
  if (!has_memory) return luaL_error(L, "not enough memory");
  if (taken) return PushLock()(L);
  return suspend_task<void>(
      L, [&table, made, deadline] { return table.lock(std::string(made->name), deadline); }, PushLock());
}

/// unlock() -> whether it was held
int shared_unlock(lua_State* L) {
  Lock& held = check_lock(L);
  lua_pushboolean(L, held.held ? 1 : 0);
  held.release();
  return 1;
}

void define_shared_lock(lua_State* L) {
  const luaL_Reg methods[] = {{"unlock", shared_unlock}, {nullptr, nullptr}};
  const luaL_Reg meta[] = {{"__gc", collect_lock}, {"__tostring", lock_to_string}, {nullptr, nullptr}};
  define_type(L, kLockType, methods, meta);
}

}  // namespace evlua::lua
