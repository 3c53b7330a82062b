// A scheduler with several workers on one thread, over a simulated world: whose turn it is, what the kernel answers and
// when, all follows from one seed.
//
//   for_each_seed("what it is", 200, [](std::uint64_t seed) {
//     Simulation run({.seed = seed, .workers = 3});
//     CHECK(run.run(some_task(run)) == 0);
//   });
//
// Workers take turns at every call of their backends, at spinning locks, and wherever a scenario calls interleave().
// After each step the invariants are looked at: those of inspector.h, and what a scenario adds. Whenever all workers
// sleep, nothing may be left to do; when the run ends, no operation, coroutine frame or descriptor may be left. What is
// broken aborts the program with the seed and the latest events.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "backends/sim/driver.h"
#include "backends/sim/faults.h"
#include "backends/sim/random.h"
#include "backends/sim/world.h"
#include "core/scheduler.h"
#include "core/task.h"
#include "core/this_thread.h"
#include "lua/slice.h"
#include "tests/sim/inspector.h"
#include "tests/support/context.h"
#include "tests/support/doctest.h"

namespace evlua::test {

class Simulation final : private SimDriver {
 public:
  struct Options {
    std::uint64_t seed = 1;
    unsigned workers = 2;
    SimFaults faults{};
    double cuts = 0;              ///< how often a slice of Lua ends at any instruction
    std::uint64_t refuse_at = 0;  ///< this one of the places that can be refused memory is (core/refusal.h); 0: none
    std::uint64_t refusals = 1;   ///< so many, one after another
  };

  explicit Simulation(const Options& options);
  ~Simulation();
  Simulation(const Simulation&) = delete;
  Simulation& operator=(const Simulation&) = delete;

  SimWorld& world() noexcept { return world_; }
  Scheduler& scheduler() noexcept { return *scheduler_; }
  /// For what a scenario decides.
  SimRandom& random() noexcept { return random_; }

  int run(Task<int> main);

  /// `body` runs once, as a thread that is not the scheduler's, when so many steps were taken.
  void at_step(std::uint64_t step, std::function<void()> body);
  /// So far.
  std::uint64_t steps() const noexcept { return steps_; }
  /// Memory can be refused from now on.
  void begin_refusing() noexcept { refusing_ = true; }
  void end_refusing() noexcept { refusing_ = false; }
  /// How often it could have been, so far: the range of Options::refuse_at.
  std::uint64_t refusable_steps() const noexcept { return refusable_steps_; }
  /// Is called after each step, when no worker is halfway through one: null, or what is wrong.
  void add_invariant(std::function<const char*()> check) { invariants_.push_back(std::move(check)); }
  /// Is called whenever all workers sleep, and nothing is due: null, or what is wrong.
  void add_idle_invariant(std::function<const char*()> check) { idle_invariants_.push_back(std::move(check)); }
  /// Nothing may be left to do on it when all workers sleep. It must outlive the run.
  void watch(const Strand& strand) {
    add_idle_invariant([&strand] { return Inspector::check_idle(strand); });
  }

  void interleave() noexcept override;
  [[noreturn]] void violation(const char* what) const noexcept { world_.violation(what); }

 private:
  /// Something that takes turns: a worker, or a thread from outside.
  struct Track {
    explicit Track(std::function<void()> what) : body(std::move(what)), stack(kStackBytes, &Simulation::enter) {}

    std::function<void()> body;
    std::uint64_t from_step = 0;
    SimBackend* sleeper = nullptr;  // its backend, while it sleeps
    bool ended = false;
    bool halfway = false;  // between two accesses of the same function
    ThisThread thread;
    lua::Slice::Saved slice;
    Context stack;
  };

  static constexpr std::size_t kStackBytes = 2 << 20;
  static constexpr std::uint64_t kStepsMax = 20'000'000;

  void sleep(SimBackend& sleeper) noexcept override;
  static void enter();
  static void may_turn(bool must) noexcept;
  static int cut_after() noexcept;
  static bool refuses() noexcept;
  static void install(Simulation* simulation) noexcept;
  void turn(bool may_stay) noexcept;
  Track* choose(bool may_stay) noexcept;
  bool pass_time() noexcept;
  bool can_run(const Track& track) const noexcept;
  void switch_to(Track* next) noexcept;
  const char* check_owners() const noexcept;
  void check_asleep() noexcept;

  static inline Simulation* active_ = nullptr;

  SimRandom random_;
  SimRandom chance_;  // for turns; apart from what the scenario draws
  const std::int64_t frames_before_;
  SimWorld world_;
  std::unique_ptr<Scheduler> scheduler_;
  std::vector<std::function<const char*()>> invariants_;
  std::vector<std::function<const char*()>> idle_invariants_;
  const double cuts_;
  const std::uint64_t refuse_at_;
  const std::uint64_t refusals_;
  double restlessness_ = 0;  // how often a turn ends where it need not
  double fineness_ = 0;      // how often an access to shared memory is such a place
  std::deque<Track> tracks_;
  Context main_;
  Track* running_ = nullptr;  // null: outside of the run
  bool deciding_ = false;     // the simulation itself uses what is simulated
  bool refusing_ = false;
  std::uint64_t refusable_steps_ = 0;
  std::uint64_t steps_ = 0;
};

/// Runs `body` for the seeds from 1 up and for as many that nobody has seen. Fewer under sanitizers. EVLUA_SIM_SEED=S
/// runs one seed, EVLUA_SIM_SEEDS=N so many of either kind.
void for_each_seed(const char* what, unsigned count, const std::function<void(std::uint64_t seed)>& body);

/// What a failure shall be told to have happened in.
void name_part(const char* part);

/// Calls `body` with each number from 1 to `count`; under sanitizers with some of them, others each time.
void for_each_step(std::uint64_t count, const std::function<void(std::uint64_t step)>& body);

/// Runs `program` as `run` says, which has `count` steps of a kind, and then once for each of these: `where` is the
/// member of `run`, or a function that finds it, that says which. Returns how many there were.
template <class Run, class Outcome, class Where>
std::uint64_t torture(Outcome (*program)(const Run&), Run run, std::uint64_t Outcome::*count, Where where) {
  const std::uint64_t steps = program(run).*count;
  for_each_step(steps, [&](std::uint64_t step) {
    std::invoke(where, run) = step;
    program(run);
  });
  return steps;
}

/// Some faults that a seed picks: none at all, those that callers never see, or all of them.
SimFaults some_faults(SimRandom& random, bool visible);

}  // namespace evlua::test
