// A harness on the libev backend, and a way to see that it sleeps.
#pragma once

#include "backends/readiness/libev_backend.h"
#include "tests/backends/harness.h"

namespace evlua::test {

struct Libev {
  Harness h{make_libev_backend(), nullptr};

  Libev() { REQUIRE(h.start()); }
};

/// Waits, as a worker does, for at least `time`; tells how often it was woken.
inline int wakeups_during(Harness& h, Duration time) {
  const Instant deadline = h.backend().now() + time;
  int wakeups = 0;
  for (; h.backend().now() < deadline; ++wakeups) h.wait(deadline);
  return wakeups;
}

}  // namespace evlua::test
