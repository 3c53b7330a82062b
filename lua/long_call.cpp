#include "lua/long_call.h"

#include "core/worker.h"
#include "lua/bridge.h"
#include "lua/brief.h"
#include "lua/fiber.h"
#include "lua/slice.h"
#include "lua/stack.h"
#include "lua/vm.h"

namespace evlua::lua {

const char* look_at_limits() noexcept {
  if (Brief::runs()) return Brief::check();
  Vm* vm = Slice::clock().vm.load(std::memory_order_relaxed);
  Fiber* fiber = vm != nullptr ? vm->running() : nullptr;
  if (fiber == nullptr) return nullptr;
  Worker::current().offer_work();
  return fiber->check_limits_when_stuck();
}

bool slice_is_over(lua_State* L) {
  const char* ends = look_at_limits();
  if (ends == nullptr) return Slice::is_over(L);
  const Vm* vm = Vm::find(L);  // none: a C module has made the state for itself
  if (vm == nullptr || Brief::runs()) raise_past_catchers(L, ends);
  raise_limit(L, *Vm::of(L).running(), ends);
}

int give_way(lua_State* L, lua_KContext context, lua_KFunction again) {
  Slice::give_way(L);
  return lua_yieldk(L, 0, context, again);
}

}  // namespace evlua::lua
