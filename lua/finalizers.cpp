#include "lua/finalizers.h"

#include "core/log.h"
#include "lua/slice.h"
#include "lua/stack.h"
#include "lua/vm.h"

// Compiled with Lua (cmake/lua/finalizers.c).
extern "C" {
/// Before each finalizer. Returns whether hooks are called in it.
extern int (*evlua_finalizer_begins)(lua_State* L);
/// After it. `error`: what nobody else is told of; null without one.
extern void (*evlua_finalizer_ended)(lua_State* L, const char* error);
}

namespace evlua::lua {

namespace {

constexpr Duration kTimeMax = kSecond;  // of the processor
constexpr int kInstructionsToLook = 100'000;

/// Null: a C module has made the state for itself.
Vm* vm_of(lua_State* L) noexcept {
  return *static_cast<void**>(lua_getextraspace(L)) != nullptr ? &Vm::of(L) : nullptr;
}

void on_hook(lua_State* L, lua_Debug* /*where*/) {
  if (thread_cpu_time() < Vm::of(L).finalizer_bound().ends) return;
  lua_sethook(L, on_hook, LUA_MASKCOUNT, 1);  // for whoever catches the error
  raise_past_handler(L, "it takes too long");
}

int begins(lua_State* L) {
  Vm* vm = vm_of(L);
  if (vm == nullptr) return 0;
  vm->allow_more_memory();
  const lua_Hook hook = lua_gethook(L);
  if (vm->running() != nullptr) {
    if (vm->closing()) return 0;  // at the end of the program they may take their time, as in lua
    if (L == vm->current_state()) return static_cast<int>(hook == nullptr || Slice::is_hook(hook));
  }
  FinalizerBound& bound = vm->finalizer_bound();
  if (hook == on_hook) {  // it collects itself
    ++bound.depth;
    return 1;
  }
  if (!vm->closing() || bound.ends == 0) bound.ends = thread_cpu_time() + kTimeMax;
  bound.hook = hook;
  bound.mask = lua_gethookmask(L);
  bound.count = lua_gethookcount(L);
  lua_sethook(L, on_hook, LUA_MASKCOUNT, kInstructionsToLook);
  return 1;
}

void ended(lua_State* L, const char* error) {
  if (error != nullptr) Log::error("error in __gc: %s", error);
  Vm* vm = vm_of(L);
  if (vm == nullptr) return;
  vm->keep_limit(vm->keeps_limit());
  if (lua_gethook(L) != on_hook) return;
  FinalizerBound& bound = vm->finalizer_bound();
  if (bound.depth == 0) {
    lua_sethook(L, bound.hook, bound.mask, bound.count);
  } else {
    --bound.depth;
  }
}

}  // namespace

void watch_finalizers() {
  static const bool once = [] {
    evlua_finalizer_begins = begins;
    evlua_finalizer_ended = ended;
    return true;
  }();
  (void)once;
}

}  // namespace evlua::lua
