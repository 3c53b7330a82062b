// The bytes of all request bodies that are gathered in memory, over all connections of the process.
#pragma once

#include <atomic>
#include <cstdint>

namespace evlua::http {

/// One body's part. What it holds is given back at its end. [any thread]
class BodyMemory {
 public:
  BodyMemory() = default;
  BodyMemory(const BodyMemory&) = delete;
  BodyMemory& operator=(const BodyMemory&) = delete;
  ~BodyMemory() { all().fetch_sub(held_, std::memory_order_relaxed); }

  /// False, and nothing changes, if all bodies would hold more than `most`.
  bool hold(std::uint64_t more, std::uint64_t most) noexcept {
    if (all().fetch_add(more, std::memory_order_relaxed) + more > most) {
      all().fetch_sub(more, std::memory_order_relaxed);
      return false;
    }
    held_ += more;
    return true;
  }

  static std::uint64_t in_use() noexcept { return all().load(std::memory_order_relaxed); }

 private:
  static std::atomic<std::uint64_t>& all() noexcept {
    static std::atomic<std::uint64_t> held{0};
    return held;
  }

  std::uint64_t held_ = 0;
};

}  // namespace evlua::http
