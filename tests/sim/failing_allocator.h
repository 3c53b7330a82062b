// In front of a Vm's allocator: one of the allocations that Lua code makes fails.
#pragma once

#include <lua.hpp>

#include <cstddef>
#include <cstdint>

#include "lua/vm.h"

namespace evlua::test {

struct FailingAllocator {
  /// From now on; the one with number `fails_at`, 0: none.
  void install(lua::Vm& of, std::uint64_t fails_at) {
    vm = &of;
    at = fails_at;
    allocator = lua_getallocf(of.main_state(), &context);
    lua_setallocf(of.main_state(), &FailingAllocator::allocate, this);
  }
  void remove() { lua_setallocf(vm->main_state(), allocator, context); }

  static void* allocate(void* self, void* block, std::size_t old_size, std::size_t new_size) {
    auto& memory = *static_cast<FailingAllocator*>(self);
    const bool grows = new_size > (block != nullptr ? old_size : 0);
    const bool may_fail = memory.vm->keeps_limit() && !memory.vm->finalizes();  // Lua drops what it cannot finalize
    // Twice in a row: Lua collects garbage after the first failure, and tries again.
    if (grows && may_fail && ++memory.count >= memory.at && memory.count <= memory.at + 1) {
      if (memory.at != 0) return nullptr;
    }
    return memory.allocator(memory.context, block, old_size, new_size);
  }

  lua::Vm* vm = nullptr;
  lua_Alloc allocator = nullptr;
  void* context = nullptr;
  std::uint64_t at = 0;
  std::uint64_t count = 0;
};

}  // namespace evlua::test
