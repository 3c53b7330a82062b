#include "lua/long_call.h"

#include "core/worker.h"
#include "lua/brief.h"
#include "lua/fiber.h"
#include "lua/slice.h"
#include "lua/vm.h"

namespace evlua::lua {

const char* look_at_limits() noexcept {
  if (Brief::runs()) return Brief::check();
  Vm* vm = Slice::clock().vm.load(std::memory_order_relaxed);
  Fiber* fiber = vm != nullptr ? vm->running() : nullptr;
  if (fiber == nullptr) return nullptr;
  Worker::current().offer_work();
  return fiber->check_limits();
}

}  // namespace evlua::lua
