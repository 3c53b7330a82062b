// The contract suite's frame: which backends there are, and a fresh Harness for each run of a test.
//
//   TEST_CASE_TEMPLATE("...", Kind, EVLUA_ALL_KINDS) {
//     on_each_run<Kind>(300, [](Harness& h) { ... });
//   }
//
// runs once on a real backend and on 300 seeds with the simulator (EVLUA_TEST_SEED=n: on that one only). Afterwards no
// operation may be in flight, no buffer lent and no descriptor open.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>

#include "backends/readiness/libev_backend.h"
#include "backends/sim/backend.h"
#include "backends/uring/backend.h"
#include "tests/backends/harness.h"

namespace evlua::test {

struct SimKind {
  static constexpr bool kSimulated = true;
  static std::unique_ptr<Backend> make(SimWorld* world) { return make_sim_backend(*world); }
};

struct UringKind {
  static constexpr bool kSimulated = false;
  static std::unique_ptr<Backend> make(SimWorld*) { return make_uring_backend(); }
};

struct LibevKind {
  static constexpr bool kSimulated = false;
  static std::unique_ptr<Backend> make(SimWorld*) { return make_libev_backend(); }
};

#define EVLUA_ALL_KINDS ::evlua::test::SimKind, ::evlua::test::UringKind, ::evlua::test::LibevKind

/// EVLUA_TEST_SEED, or 0.
inline std::uint64_t seed_wanted() {
  const char* text = std::getenv("EVLUA_TEST_SEED");
  return text == nullptr ? 0 : std::strtoull(text, nullptr, 10);
}

template <class Body>
void run_simulated(std::uint64_t seed, const SimFaults& faults, Body& body) {
  INFO("simulator, EVLUA_TEST_SEED=", seed);
  SimWorld world(seed, faults);
  {
    Harness harness(make_sim_backend(world), &world);
    REQUIRE(harness.start());
    body(harness);
    harness.check_idle();
  }
  CHECK(world.open_descriptors() == 0);
}

template <class Kind, class Body>
void run_real(Body& body) {
  const std::size_t before = count_descriptors();
  {
    Harness harness(Kind::make(nullptr), nullptr);
    const Result<void> started = harness.start();
    if (!started) {
      MESSAGE("SKIPPED: this backend does not start here: ", started.error().describe());
      return;
    }
    body(harness);
    harness.check_idle();
  }
  CHECK(count_descriptors() == before);
}

template <class Kind, class Body>
void on_each_run(int runs, Body body) {
  if constexpr (!Kind::kSimulated) {
    run_real<Kind>(body);
  } else if (const std::uint64_t seed = seed_wanted(); seed != 0) {
    run_simulated(seed, SimFaults(), body);
  } else {
    for (int run = 1; run <= runs; ++run) run_simulated(static_cast<std::uint64_t>(run), SimFaults(), body);
  }
}

}  // namespace evlua::test
