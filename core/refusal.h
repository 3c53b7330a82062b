// Places that can be refused memory, and tell by a value: in a simulation one of them is, to see what becomes of that.
#pragma once

#include <atomic>

namespace evlua {

/// Null but in a simulator.
inline constinit std::atomic<bool (*)() noexcept> refuse_memory{nullptr};

/// There shall be no memory for what the caller is about to allocate.
inline bool memory_refused() noexcept {
  const auto refuse = refuse_memory.load(std::memory_order_relaxed);
  return refuse != nullptr && refuse();
}

}  // namespace evlua
