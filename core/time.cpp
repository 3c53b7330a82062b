#include "core/time.h"

#include <ctime>

namespace evlua {

Instant monotonic_now() noexcept {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<Instant>(now.tv_sec) * kSecond + now.tv_nsec;
}

Instant thread_cpu_time() noexcept {
  timespec used{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
  return static_cast<Instant>(used.tv_sec) * kSecond + used.tv_nsec;
}

}  // namespace evlua
