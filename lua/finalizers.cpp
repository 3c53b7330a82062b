#include "lua/finalizers.h"

#include <lua.hpp>

#include "core/log.h"
#include "lua/brief.h"
#include "lua/vm.h"

// Compiled with Lua (cmake/lua/finalizers.c).
extern "C" {
/// Before each finalizer. Returns how it runs.
extern int (*evlua_finalizer_begins)(lua_State* L);
/// After it, with what that returned. `error`: what nobody else is told of; null without one.
extern void (*evlua_finalizer_ended)(lua_State* L, int how, const char* error);
}

namespace evlua::lua {

namespace {

enum How { as_part_of_the_task, brief };

int begins(lua_State* L) {
  Vm* vm = Vm::find(L);
  if (vm == nullptr) return as_part_of_the_task;
  vm->allow_more_memory();
  // At the end of the program they may take their time, as in lua.
  if (vm->running() != nullptr && (vm->closing() || L == vm->current_state())) return as_part_of_the_task;
  vm->brief_finalizer().emplace(L, kSecond);
  return brief;
}

void ended(lua_State* L, int how, const char* error) {
  if (error != nullptr) Log::error("error in __gc: %s", error);
  Vm* vm = Vm::find(L);
  if (vm == nullptr) return;
  vm->keep_limit(vm->keeps_limit());
  if (how == brief) vm->brief_finalizer().reset();
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
