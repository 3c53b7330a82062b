// How long Lua that computes has to wait for the processor in a Vm, seen from the tasks whose slices are cut.
//
// Each of them waits behind the others after each slice. How many slices they take is only known at their end, and
// differs; what half of them need is a good guess. So a task that begins to compute will wait in all for about
// the last wait between two slices, that many times.
#pragma once

#include <atomic>
#include <cstdint>

#include "core/time.h"

namespace evlua::lua {

/// Written on the Vm's strand. [any thread reads]
class SliceLoad {
 public:
  /// A task goes on whose slice was over.
  void went_on(Duration waited, Instant now) noexcept {
    wait_.store(waited, std::memory_order_relaxed);
    seen_.store(now, std::memory_order_relaxed);
  }

  /// A task has ended that took so many slices more than one.
  void ended(std::uint32_t cuts) noexcept {
    const std::uint32_t usual = usual_cuts_.load(std::memory_order_relaxed);
    const std::uint32_t step = usual / 8 + 1;
    if (cuts > usual) usual_cuts_.store(usual + step, std::memory_order_relaxed);
    if (cuts < usual) usual_cuts_.store(usual - step, std::memory_order_relaxed);
  }

  /// What a task that begins now will wait for the processor if it computes for as long as others; 0 as long as few do.
  Duration expected(Instant now) const noexcept {
    if (now - seen_.load(std::memory_order_relaxed) > kRecent) return 0;
    const Duration wait = wait_.load(std::memory_order_relaxed);
    return wait < kFew ? 0 : wait * usual_cuts_.load(std::memory_order_relaxed);
  }

 private:
  static constexpr Duration kRecent = 200 * kMillisecond;
  static constexpr Duration kFew = 10 * kMillisecond;  // some five tasks take turns: that is what slices are for

  std::atomic<Duration> wait_{0};
  std::atomic<Instant> seen_{0};
  std::atomic<std::uint32_t> usual_cuts_{1};
};

}  // namespace evlua::lua
