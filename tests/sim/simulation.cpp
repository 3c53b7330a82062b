#include "tests/sim/simulation.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <utility>

#include "backends/sim/backend.h"
#include "core/frame_pool.h"
#include "core/lockfree/pause.h"
#include "core/refusal.h"

namespace evlua::test {

// -- the run --------------------------------------------------------------------------------------------------------

Simulation::Simulation(const Options& options)
    : random_(options.seed * 3 + 1),
      chance_(options.seed * 7 + 5),
      frames_before_(frame_pool_live()),
      world_(options.seed, options.faults),
      scheduler_(std::make_unique<Scheduler>(Scheduler::Options{.workers = options.workers},
                                             [this] { return make_sim_backend(world_); })),
      cuts_(options.cuts),
      refuse_at_(options.refuse_at),
      refusals_(options.refusals) {
  constexpr double kRestlessness[] = {0, 0.05, 0.3, 0.9};
  constexpr double kFineness[] = {0, 0.1, 0.5, 1};
  restlessness_ = kRestlessness[chance_.below(4)];
  fineness_ = kFineness[chance_.below(4)];
  add_invariant([this] { return check_owners(); });
  add_invariant([this] { return Inspector::check(*scheduler_); });
  add_idle_invariant([this] { return Inspector::check_idle(*scheduler_); });
}

Simulation::~Simulation() {
  for (unsigned index = 0; index < scheduler_->worker_count(); ++index) {
    if (scheduler_->worker(index).in_flight() != 0) violation("an operation is left in flight");
    if (scheduler_->worker(index).backend().buffers().lent() != 0) violation("a buffer was not given back");
  }
  scheduler_.reset();
  if (world_.open_descriptors() != 0) violation("a descriptor was left open");
  if (frame_pool_live() != frames_before_) violation("a coroutine frame was left");
}

int Simulation::run(Task<int> main) {
  for (unsigned index = 0; index < scheduler_->worker_count(); ++index) {
    EVLUA_CHECK(scheduler_->start(index).has_value());
    Track& track = tracks_.emplace_front([this, index, &main] {
      if (index == 0) scheduler_->begin(main);
      scheduler_->work(index);
    });
    track.thread = std::exchange(this_thread, {});
  }
  world_.set_driver(this);
  install(this);
  switch_to(choose(true));
  install(nullptr);
  world_.set_driver(nullptr);
  return main.take();
}

/// What is simulated asks `simulation` for its decisions; null: nobody.
void Simulation::install(Simulation* simulation) noexcept {
  active_ = simulation;
  const bool on = simulation != nullptr;
  turn_to_another_worker.store(on ? &Simulation::may_turn : nullptr);
  refuse_memory.store(on ? &Simulation::refuses : nullptr);
  lua::Slice::set_cut_after(on ? &Simulation::cut_after : nullptr);
}

int Simulation::cut_after() noexcept {
  Simulation& self = *active_;
  return self.chance_.chance(self.cuts_) ? static_cast<int>(1 + self.chance_.below(60)) : 0;
}

bool Simulation::refuses() noexcept {
  Simulation& self = *active_;
  if (!self.refusing_) return false;
  const std::uint64_t step = ++self.refusable_steps_;
  return self.refuse_at_ != 0 && step >= self.refuse_at_ && step - self.refuse_at_ < self.refusals_;
}

void Simulation::at_step(std::uint64_t step, std::function<void()> body) {
  tracks_.emplace_back(std::move(body)).from_step = step;
}

/// Never returns: when the body ends somebody else goes on.
void Simulation::enter() {
  Simulation& self = *active_;
  Context::entered(self.main_);
  self.running_->body();
  self.running_->ended = true;
  self.turn(false);
  EVLUA_UNREACHABLE();
}

// -- turns ----------------------------------------------------------------------------------------------------------

void Simulation::interleave() noexcept {
  if (running_ == nullptr) return;
  // Work takes time, too.
  if (chance_.chance(0.02)) world_.advance(world_.now() + static_cast<Duration>(chance_.below(kMillisecond)));
  turn(true);
}

void Simulation::sleep(SimBackend& sleeper) noexcept {
  Track& self = *running_;
  self.sleeper = &sleeper;
  turn(false);
  self.sleeper = nullptr;
}

void Simulation::may_turn(bool must) noexcept {
  Simulation& self = *active_;
  if (self.running_ == nullptr || self.deciding_) return;
  if (!must && !self.chance_.chance(self.fineness_)) return;
  Track& track = *self.running_;
  track.halfway = true;
  self.turn(!must);
  track.halfway = false;
}

void Simulation::turn(bool may_stay) noexcept {
  if (++steps_ > kStepsMax) violation("this goes on for ever");
  deciding_ = true;
  if (std::none_of(tracks_.begin(), tracks_.end(), [](const Track& track) { return track.halfway; })) {
    for (const auto& invariant : invariants_) {
      if (const char* broken = invariant()) violation(broken);
    }
  }
  Track* next = running_;
  if (!may_stay || chance_.chance(restlessness_)) next = choose(may_stay);
  deciding_ = false;
  if (next != running_) switch_to(next);
}

bool Simulation::can_run(const Track& track) const noexcept {
  if (track.ended || steps_ < track.from_step) return false;
  return track.sleeper == nullptr || track.sleeper->is_due();
}

/// Null: all have ended.
Simulation::Track* Simulation::choose(bool may_stay) noexcept {
  do {
    std::size_t count = 0;
    Track* chosen = nullptr;
    bool others = false;
    for (Track& track : tracks_) {
      if (!can_run(track)) continue;
      // Who spins waits for the others, if there are any.
      if (&track == running_ && !may_stay && !track.ended && track.sleeper == nullptr) {
        others = true;
        continue;
      }
      if (chance_.below(++count) == 0) chosen = &track;
    }
    if (chosen != nullptr) return chosen;
    if (others) violation("a lock is waited for that nobody will free");
  } while (pass_time());
  return nullptr;
}

/// Nobody can go on now. False: nobody ever will, and nobody wants to.
bool Simulation::pass_time() noexcept {
  Instant earliest = kNever;
  bool all_ended = true;
  Track* outsider = nullptr;
  for (Track& track : tracks_) {
    if (track.ended) continue;
    all_ended = false;
    if (track.sleeper != nullptr) {
      earliest = std::min(earliest, track.sleeper->wakes_at());
    } else {
      outsider = &track;
    }
  }
  if (all_ended) return false;
  check_asleep();
  if (earliest != kNever) {
    ++steps_;
    world_.advance(earliest);
  } else if (outsider != nullptr) {
    outsider->from_step = 0;
  } else {
    violation("deadlock: all workers sleep, and nothing will wake them");
  }
  return true;
}

void Simulation::check_asleep() noexcept {
  if (scheduler_->has_visible_work()) violation("lost wake-up: all workers sleep, and there is work for any of them");
  for (unsigned index = 0; index < scheduler_->worker_count(); ++index) {
    if (scheduler_->worker(index).has_own_work()) violation("lost wake-up: a worker sleeps that has work");
  }
  for (const auto& invariant : idle_invariants_) {
    if (const char* broken = invariant()) violation(broken);
  }
}

/// A strand is one worker's at a time, and then it is not idle for the others.
const char* Simulation::check_owners() const noexcept {
  std::array<const Strand*, 64> owned;
  std::size_t count = 0;
  for (const Track& track : tracks_) {
    const Strand* strand = &track == running_ ? this_thread.strand : track.thread.strand;
    for (; strand != nullptr; strand = Inspector::outer(*strand)) {
      if (Inspector::seems_idle(*strand)) return "a worker is on a strand that anybody may enter";
      if (std::find(owned.begin(), owned.begin() + count, strand) != owned.begin() + count) {
        return "two workers are on one strand";
      }
      EVLUA_CHECK(count < owned.size());
      owned[count++] = strand;
    }
  }
  return nullptr;
}

void Simulation::switch_to(Track* next) noexcept {
  Track* before = std::exchange(running_, next);
  if (before != nullptr) before->thread = this_thread;
  this_thread = next != nullptr ? next->thread : ThisThread();
  const lua::Slice::Saved slice = lua::Slice::exchange(next != nullptr ? next->slice : lua::Slice::Saved());
  if (before != nullptr) before->slice = slice;
  Context::switch_to(before != nullptr ? before->stack : main_, next != nullptr ? next->stack : main_);
}

// -- seeds ----------------------------------------------------------------------------------------------------------

namespace {

constexpr unsigned kShare = EVLUA_TSAN ? 8 : EVLUA_ASAN ? 4 : 1;
std::uint64_t current_seed = 0;
std::uint64_t current_step = 0;
const char* current_part = "";

void tell_seed() {
  char line[160];
  const int size = std::snprintf(line, sizeof(line), "simulator: run again with EVLUA_SIM_SEED=%llu (%s, step %llu)\n",
                                 static_cast<unsigned long long>(current_seed), current_part,
                                 static_cast<unsigned long long>(current_step));
  (void)!::write(STDERR_FILENO, line, static_cast<std::size_t>(size));
}

void on_abort(int) {
  tell_seed();
  ::signal(SIGABRT, SIG_DFL);
  ::raise(SIGABRT);
}

}  // namespace

void for_each_seed(const char* what, unsigned count, const std::function<void(std::uint64_t)>& body) {
  ::signal(SIGABRT, on_abort);
#if EVLUA_ASAN || EVLUA_TSAN
  __sanitizer_set_death_callback(tell_seed);
#endif
  const auto run = [&](std::uint64_t seed) {
    current_seed = seed;
    current_part = what;
    CAPTURE(what);
    CAPTURE(seed);
    body(seed);
  };
  if (const char* one = std::getenv("EVLUA_SIM_SEED")) return run(std::strtoull(one, nullptr, 10));
  if (const char* many = std::getenv("EVLUA_SIM_SEEDS")) {
    count = static_cast<unsigned>(std::strtoul(many, nullptr, 10));
  } else {
    count = std::max(1U, count / kShare);
  }
  const std::uint64_t unseen = (std::uint64_t{std::random_device()()} << 16) + 1'000'000;
  std::printf("simulator: %s: seeds 1 to %u, and %u from %llu\n", what, count, count,
              static_cast<unsigned long long>(unseen));
  std::fflush(stdout);
  for (unsigned i = 0; i < count; ++i) run(1 + i);
  for (unsigned i = 0; i < count; ++i) run(unseen + i);
}

void name_part(const char* part) { current_part = part; }

void for_each_step(std::uint64_t count, const std::function<void(std::uint64_t)>& body) {
  static unsigned turn = std::random_device{}();
  const bool is_replay = std::getenv("EVLUA_SIM_SEED") != nullptr;
  const unsigned stride = is_replay ? 1 : kShare;
  for (std::uint64_t step = 1 + turn++ % stride; step <= count; step += stride) {
    CAPTURE(step);
    current_step = step;
    body(step);
  }
  current_step = 0;
}

SimFaults some_faults(SimRandom& random, bool visible) {
  SimFaults faults;
  if (random.chance(0.2)) faults = SimFaults::none();
  if (random.chance(0.3)) faults.delay_max = static_cast<Duration>(random.below(2 * kSecond));
  if (random.chance(0.3)) faults.channel_bytes = 1 + random.below(5000);
  if (!visible) return faults;
  if (random.chance(0.5)) faults.reset = 0.02;
  if (random.chance(0.5)) faults.cancelled = 0.01;
  if (random.chance(0.5)) faults.no_descriptor = 0.05;
  if (random.chance(0.5)) faults.no_space = 0.05;
  return faults;
}

}  // namespace evlua::test
