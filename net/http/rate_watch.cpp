#include "net/http/rate_watch.h"

#include <algorithm>
#include <utility>

namespace evlua::http {

namespace {

constexpr std::uint64_t kMost = std::uint64_t{1} << 32;  // nothing overflows

}  // namespace

bool RateWatch::is_late(Duration passed, std::uint32_t sharing, Duration full, std::uint32_t rate) noexcept {
  const std::uint64_t moved = std::min(std::exchange(moved_, 0), kMost);
  return spend(sharing != 0 ? passed : 0, moved * std::max(sharing, 1U), full, rate);
}

bool RateWatch::is_late_in_line(Duration passed, std::uint64_t moved, Duration full, std::uint32_t rate) noexcept {
  moved_ = 0;  // is part of it
  return spend(passed, std::min(moved, kMost), full, rate);
}

bool RateWatch::spend(Duration waited, std::uint64_t moved, Duration full, std::uint32_t rate) noexcept {
  patience_.spend(waited, moved, full, rate);
  if (patience_.left() > 0) return false;
  patience_.refill(full);
  return true;
}

}  // namespace evlua::http
