#include "lua/brief.h"

#include <algorithm>

#include "core/check.h"
#include "lua/set_hooks.h"
#include "lua/slice.h"
#include "lua/stack.h"
#include "lua/vm.h"

namespace evlua::lua {

namespace {

constexpr int kInstructionsToLook = 100'000;

int set_hook(lua_State* L) {
  if (Brief::runs()) return luaL_error(L, "debug.sethook is not for code that nobody waits for, as this __gc");
  return lua_tocfunction(L, lua_upvalueindex(1))(L);
}

/// Sets the hook in the place of the one that is the program's. A signal may come at any time, and set that of slices.
SetHooks::Hook exchange_hook(lua_State* L, lua_Hook hook, int count) noexcept {
  Vm* vm = Vm::find(L);
  if (vm == nullptr) return SetHooks().exchange(L, Slice::is_hook, hook, count);
  return vm->set_hooks().exchange(L, Slice::is_hook, hook, count);
}

}  // namespace

thread_local constinit Instant Brief::ends_ = kNever;

Brief::Limit::Limit(Duration time) noexcept : outer_ends_(ends_) { ends_ = std::min(ends_, thread_cpu_time() + time); }

Brief::Scope::Scope(lua_State* L, Duration time) noexcept
    : limit_(time), state_(L), hook_(exchange_hook(L, on_hook, kInstructionsToLook)) {}

Brief::Scope::~Scope() {
  if (Vm* vm = Vm::find(state_)) {
    vm->set_hooks().set(state_, hook_.function, hook_.mask, hook_.count, hook_.left);
  } else {
    lua_sethook(state_, hook_.function, hook_.mask, hook_.count);
  }
}

void Brief::replace_set_hook(lua_State* L) {
  lua_getglobal(L, "debug");
  lua_getfield(L, -1, "sethook");
  lua_pushcclosure(L, set_hook, 1);
  lua_setfield(L, -2, "sethook");
  lua_pop(L, 1);
}

int Brief::resume(lua_State* L, lua_State* from, int arguments) noexcept {
  const Scope scope(L, kSecond);
  const int status = lua_resume(L, from, arguments);
  if (check() != nullptr) lua_sethook(from, on_hook, LUA_MASKCOUNT, 1);  // or it would resume others
  return status;
}

const char* Brief::check() noexcept { return thread_cpu_time() < ends_ ? nullptr : "it takes too long"; }

void Brief::on_hook(lua_State* L, lua_Debug* /*where*/) {
  const char* ends = check();
  if (ends == nullptr) return;
  lua_sethook(L, on_hook, LUA_MASKCOUNT, 1);  // for whoever catches the error
  raise_past_handler(L, ends);
}

}  // namespace evlua::lua
