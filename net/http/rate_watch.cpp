#include "net/http/rate_watch.h"

#include <algorithm>
#include <utility>

namespace evlua::http {

bool RateWatch::is_late(Duration passed, std::uint32_t sharing, Duration full, std::uint32_t rate) noexcept {
  constexpr std::uint64_t kMost = std::uint64_t{1} << 32;  // nothing overflows
  const std::uint64_t moved = std::min(std::exchange(moved_, 0), kMost);
  patience_.spend(sharing != 0 ? passed : 0, moved * std::max(sharing, 1U), full, rate);
  if (patience_.left() > 0) return false;
  patience_.refill(full);
  return true;
}

}  // namespace evlua::http
