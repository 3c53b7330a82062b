// Numbers that one thread counts and others read, a little late: no lock, and no locked instruction.
#pragma once

#include <atomic>
#include <cstdint>

namespace evlua {

class OwnCounter {
 public:
  /// [owner]
  void add(std::uint64_t amount = 1) noexcept {
    value_.store(value_.load(std::memory_order_relaxed) + amount, std::memory_order_relaxed);
  }
  /// [any thread]
  std::uint64_t value() const noexcept { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_{0};
};

/// The most that there has been.
class OwnPeak {
 public:
  /// [owner]
  void note(std::uint64_t amount) noexcept {
    if (amount > value()) value_.store(amount, std::memory_order_relaxed);
  }
  /// [any thread]
  std::uint64_t value() const noexcept { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_{0};
};

}  // namespace evlua
