#include "core/time.h"

#include <ctime>

namespace evlua {

Instant monotonic_now() noexcept {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<Instant>(now.tv_sec) * kSecond + now.tv_nsec;
}

}  // namespace evlua
