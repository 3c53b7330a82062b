#include "lua/slice.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <ctime>
#include <random>
#include <string_view>
#include <vector>

#include "core/check.h"
#include "core/start_thread.h"
#include "core/worker.h"
#include "lua/bridge.h"
#include "lua/brief.h"
#include "lua/fiber.h"
#include "lua/modules.h"
#include "lua/pause.h"
#include "lua/stack.h"
#include "lua/vm.h"

namespace evlua::lua {

namespace {

// How often the monitor looks: more often as long as somebody has been found waiting of late.
constexpr Duration kTick = 5 * kMillisecond;
constexpr Duration kShortTick = kMillisecond;
constexpr unsigned kShortTicks = 100;      // after a slice was cut
constexpr unsigned kQuietTicks = 20;       // without any Lua, until the monitor sleeps
constexpr int kInstructionsToRetry = 997;  // where the coroutine cannot yield; a prime, to meet each place of a loop

/// Threads that have run Lua.
struct Roster {
  std::mutex lock;
  std::vector<SliceClock*> clocks;
};

Roster& roster() {
  static Roster all;
  return all;
}

struct Membership {
  explicit Membership(SliceClock& mine) : clock(mine) {
    clock.thread = ::pthread_self();
    ::pthread_getcpuclockid(clock.thread, &clock.processor_clock);
    const std::lock_guard guard(roster().lock);
    roster().clocks.push_back(&clock);
  }
  ~Membership() {
    const std::lock_guard guard(roster().lock);
    std::erase(roster().clocks, &clock);
  }
  SliceClock& clock;
};

Duration processor_time(clockid_t clock) noexcept {
  timespec used{};
  ::clock_gettime(clock, &used);
  return Duration{used.tv_sec} * kSecond + used.tv_nsec;
}

/// At the back of the strand's queue, as evlua.yield; but what yields here gets no result.
struct PreemptWait : Suspension, Runnable {
  PreemptWait() {
    start = [](Suspension& self, Fiber& waiter) {
      auto& wait = static_cast<PreemptWait&>(self);
      wait.fiber = &waiter;
      wait.since = Worker::current().backend().now();
      wait.run = [](Runnable& again) noexcept { static_cast<PreemptWait&>(again).go_on(); };
      waiter.vm().strand().enqueue(wait);
      waiter.vm().strand().give_way();
    };
    cancel = [](Suspension&) noexcept {};
  }
  /// Who came while the strand was away goes first, once, and then what they have for the worker.
  void go_on() noexcept {
    Strand& strand = fiber->vm().strand();
    if (behind == Behind::nobody && strand.has_queued()) {
      behind = Behind::strand;
      strand.enqueue(*this);
    } else if (behind == Behind::strand) {
      behind = Behind::worker;
      strand.enqueue(*this);
      strand.give_way();
    } else {
      const Instant now = Worker::current().backend().now();
      fiber->vm().slice_load().went_on(now - since, now);
      fiber->complete();
    }
  }

  enum class Behind : std::uint8_t { nobody, strand, worker };
  Fiber* fiber = nullptr;
  Instant since = 0;
  Behind behind = Behind::nobody;
};

/// EVLUA_CUT_SLICES is the seed of where slices end, which is everywhere. In builds with checks only.
Slice::CutAfter asked_for_by_environment() noexcept {
#ifdef NDEBUG
  return nullptr;
#else
  if (::getenv("EVLUA_CUT_SLICES") == nullptr) return nullptr;
  return []() noexcept {
    thread_local std::minstd_rand random(
        static_cast<unsigned>(std::strtoul(::getenv("EVLUA_CUT_SLICES"), nullptr, 10)));
    return static_cast<int>(random() % 40) + 1;
  };
#endif
}

thread_local constinit bool just_asked = false;  // by the monitor, and not by ourselves
thread_local constinit int instructions_left = 0;

void pause_in(lua_State* L, int instructions) noexcept {
  instructions_left = instructions;
  evlua_ask_to_pause(L);
}

/// The runtime's own Lua code is short, and is not made to wait between two of its instructions: others would see its
/// tables half changed.
bool in_own_code(lua_State* L, int level) {
  lua_Debug where;
  if (lua_getstack(L, level, &where) == 0) return false;
  lua_getinfo(L, "S", &where);
  return std::string_view(where.source).starts_with(kOwnChunk);
}

/// What the monitor sees is the time that passed, and the system may have given it to others: then nothing in the
/// program has taken too long, and nothing shall be interrupted.
bool has_had_less(const SliceClock& clock) noexcept {
  const Duration used = thread_cpu_time() - clock.used_before.load(std::memory_order_relaxed);
  return used < clock.share.load(std::memory_order_relaxed) && !Slice::cut_by_tests();
}

bool others_wait_for(Vm& vm) noexcept { return vm.strand().has_queued() || Worker::current().others_wait(); }

void begin_next_turn(Fiber& fiber) noexcept {
  Worker::current().count_overrun();
  Slice::count_cut();
  fiber.count_cut();
  fiber.emplace<PreemptWait>();
}

bool pause(lua_State* L) {
  if (Brief::runs()) return Brief::look(L), false;
  if (--instructions_left > 0) return false;
  (void)evlua_take_pause(L);
  Vm& vm = Vm::of(L);
  SliceClock& clock = Slice::clock();
  const std::uint64_t number = clock.number.load(std::memory_order_relaxed);
  const bool asked = clock.asked.load(std::memory_order_relaxed) == number;  // or it was for a slice that is over
  if (vm.running() == nullptr || (!asked && vm.running()->struck() == nullptr)) return false;
  vm.pace_collector();
  Fiber& fiber = *vm.running();
  if (const char* ends = fiber.check_limits()) raise_limit(L, fiber, ends);
  if (!fiber.may_wait(L) || in_own_code(L, 0)) {
    if (const char* ends = fiber.check_limits_when_stuck()) raise_limit(L, fiber, ends);
    if (std::exchange(just_asked, false)) Worker::current().offer_work();
    pause_in(L, kInstructionsToRetry);
    return false;
  }
  if (has_had_less(clock)) return false;  // the monitor will ask again
  if (!others_wait_for(vm)) {
    Slice::began(L);
    return false;
  }
  begin_next_turn(fiber);
  return true;
}

/// On the thread that runs the slice.
void on_signal_to_yield(int) {
  Vm* vm = Slice::clock().vm.load(std::memory_order_relaxed);
  lua_State* L = vm != nullptr ? vm->current_state() : nullptr;
  just_asked = true;
  if (L != nullptr) pause_in(L, 1);
}

}  // namespace

std::atomic<Slice::CutAfter> Slice::cut_after_{asked_for_by_environment()};

void Slice::plan_cut(lua_State* L) noexcept {
  const int after = cut_after_.load(std::memory_order_relaxed)();
  if (after == 0) return;
  clock_.asked.store(clock_.number.load(std::memory_order_relaxed), std::memory_order_relaxed);
  pause_in(L, after);
}

Slice::Saved Slice::exchange(const Saved& other) noexcept {
  return {clock_.number.exchange(other.number), clock_.asked.exchange(other.asked), clock_.vm.exchange(other.vm)};
}

void Slice::install() {
  static const bool once = [] {
    evlua_pause = [](lua_State* L) { return pause(L) ? 1 : 0; };
    return true;
  }();
  (void)once;
}

void Slice::interrupt(lua_State* L) noexcept { pause_in(L, 1); }

bool Slice::is_over(lua_State* L) noexcept {
  Vm& vm = Vm::of(L);
  const Fiber* fiber = vm.running();
  const bool asked = clock_.asked.load(std::memory_order_relaxed) == clock_.number.load(std::memory_order_relaxed);
  if (!asked || fiber == nullptr || !fiber->may_wait(L) || has_had_less(clock_)) return false;
  return !in_own_code(L, 1) && others_wait_for(vm);
}

void Slice::give_way(lua_State* L) noexcept { begin_next_turn(*Vm::of(L).running()); }

bool Slice::left(lua_State* L) noexcept { return evlua_take_pause(L) != 0; }

thread_local constinit SliceClock Slice::clock_;

void Slice::enlist() { thread_local const Membership membership(clock_); }

void Slice::wake_monitor() noexcept {
  if (!SliceMonitor::asleep_.exchange(false)) return;
  SliceMonitor* monitor = SliceMonitor::instance_;
  const std::lock_guard guard(monitor->lock_);
  monitor->wake_.notify_one();
}

SliceMonitor::SliceMonitor() {
  struct sigaction action {};
  action.sa_handler = on_signal_to_yield;
  action.sa_flags = SA_RESTART;
  ::sigaction(SIGURG, &action, nullptr);
  instance_ = this;
}

Result<void> SliceMonitor::start() {
  Result<std::thread> thread = start_thread([this] { watch(); });
  if (!thread) return fail(thread.error());
  thread_ = std::move(*thread);
  return {};
}

SliceMonitor::~SliceMonitor() {
  asleep_ = false;
  {
    const std::lock_guard guard(lock_);
    stopping_ = true;
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
  instance_ = nullptr;
  ::signal(SIGURG, SIG_IGN);
}

/// True: some Lua has run since the last look, or runs.
bool SliceMonitor::look(Duration since_last) {
  bool active = false;
  const std::lock_guard guard(roster().lock);
  for (SliceClock* clock : roster().clocks) {
    const std::uint64_t number = clock->number.load(std::memory_order_relaxed);
    const bool runs = number % 2 == 1;
    if (runs && number != clock->seen) {
      clock->used_before.store(processor_time(clock->processor_clock), std::memory_order_relaxed);
    } else if (runs) {
      clock->share.store(since_last * 3 / 4, std::memory_order_relaxed);
      clock->asked.store(number, std::memory_order_relaxed);
      ::pthread_kill(clock->thread, SIGURG);
    }
    active = active || runs || number != clock->seen;
    clock->seen = number;
  }
  return active;
}

void SliceMonitor::watch() {
  ::pthread_setname_np(::pthread_self(), "evlua-slices");
  std::unique_lock guard(lock_);
  unsigned quiet = 0;
  unsigned short_ticks = 0;  // to come
  std::uint64_t cuts = Slice::cut_short();
  Duration tick = kTick;
  while (!stopping_) {
    quiet = look(tick) ? 0 : quiet + 1;
    if (std::exchange(cuts, Slice::cut_short()) != cuts) short_ticks = kShortTicks;
    tick = short_ticks > 0 ? kShortTick : kTick;
    if (short_ticks > 0) --short_ticks;
    if (quiet <= kQuietTicks) {
      // One more look after this: a slice that began before it could see that has told its number.
      if (quiet == kQuietTicks) asleep_ = true;
      wake_.wait_for(guard, std::chrono::nanoseconds(tick));
    } else {
      wake_.wait(guard, [this] { return stopping_ || !asleep_; });
      quiet = 0;
    }
  }
}

}  // namespace evlua::lua
