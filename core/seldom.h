// Once in a while: for messages about what may happen thousands of times a second.
#pragma once

#include <atomic>

#include "core/time.h"

namespace evlua {

class Seldom {
 public:
  constexpr explicit Seldom(Duration every = 60 * kSecond) noexcept : every_(every) {}

  /// True the first time, and then for one caller each time that `every` has passed. [any thread]
  bool due(Instant now) noexcept {
    Instant next = next_.load(std::memory_order_relaxed);
    return now >= next && next_.compare_exchange_strong(next, deadline_after(now, every_), std::memory_order_relaxed);
  }

 private:
  const Duration every_;
  std::atomic<Instant> next_{0};
};

}  // namespace evlua
