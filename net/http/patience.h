// How long we go on waiting for a peer that is slower than it has to be.
//
// Only time in which we wait for the peer is spent; what it sends or takes gives some back, a second for every
// `Limits::min_rate` bytes, never more than a full measure. So it may pause for as long as the measure is, now and
// then, and who stays below the rate is found out however the bytes are spread.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/time.h"

namespace evlua::http {

class Patience {
 public:
  void refill(Duration full) noexcept { left_ = full; }
  /// How long the next wait may last.
  Duration left() const noexcept { return left_; }

  /// After a wait, or a part of one. `rate` 0: any byte that comes makes up for all the time.
  void spend(Duration waited, std::uint64_t bytes, Duration full, std::uint32_t rate) noexcept {
    left_ -= std::max<Duration>(waited, 0);
    if (left_ >= full || bytes == 0) return;
    constexpr std::uint64_t kMost = std::uint64_t{1} << 32;  // nothing overflows
    const std::uint64_t back = rate == 0 ? kMost : std::min(bytes, kMost) * kSecond / rate;
    left_ = rate == 0 || back >= static_cast<std::uint64_t>(full) ? full
                                                                  : std::min(full, left_ + static_cast<Duration>(back));
  }

 private:
  Duration left_ = 0;
};

}  // namespace evlua::http
