// How long Lua that computes has to wait for the processor in a Vm, seen from the tasks whose slices are cut.
//
// Each of them waits behind the others after each slice. How many slices a request takes is only known at its end; most
// take one, and go ahead of those that had theirs. So a request that begins now will wait in all for about the last
// wait between two slices, times the mean number of cuts.
#pragma once

#include <algorithm>
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

  /// A request has ended whose slices were cut so often.
  void ended(std::uint32_t cuts) noexcept {
    const std::uint32_t mean = mean_.load(std::memory_order_relaxed);
    const std::uint32_t most = 8 * (mean / kOne + 1);  // one report that takes minutes says little about others
    const std::uint32_t now = mean - mean / kSpan + std::min(cuts, most) * (kOne / kSpan);
    if (now != mean) mean_.store(now, std::memory_order_relaxed);
  }

  /// What a request that begins now will wait for the processor once it has begun; 0 as long as few take turns.
  Duration expected(Instant now) const noexcept {
    if (now - seen_.load(std::memory_order_relaxed) > kRecent) return 0;
    const Duration wait = wait_.load(std::memory_order_relaxed);
    return wait < kFew ? 0 : wait * mean_.load(std::memory_order_relaxed) / kOne;
  }

 private:
  static constexpr Duration kRecent = 200 * kMillisecond;
  static constexpr Duration kFew = 10 * kMillisecond;  // some five tasks take turns: that is what slices are for
  static constexpr std::uint32_t kOne = 1024;
  static constexpr std::uint32_t kSpan = 64;  // requests

  std::atomic<Duration> wait_{0};
  std::atomic<Instant> seen_{0};
  std::atomic<std::uint32_t> mean_{0};  // of cuts, times kOne
};

}  // namespace evlua::lua
