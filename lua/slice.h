// Time slices: Lua code that runs on while others wait is made to wait behind them.
//
// A monitor looks at every thread that runs Lua each 5 ms, or each 1 ms as long as slices are cut. Where the same slice
// goes on since the last look, it asks that thread, by a signal, to have the running coroutine pause. If the thread has
// really had the processor meanwhile, the worker's backend is polled, and if anything waits for the worker or the
// strand the coroutine yields: for the task this is a wait like any other, and for its coroutines it has not happened.
// Inside of a callback across a C-call boundary it is tried again a little later.
//
// What a slice that ends in time pays is two stores. While no Lua runs the monitor sleeps.
#pragma once

#include <lua.hpp>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>

#include "core/error.h"
#include "core/time.h"

namespace evlua::lua {

class Vm;

/// One per process, for as long as time slices shall be enforced. Start it when SignalHub is there.
class SliceMonitor {
 public:
  SliceMonitor();
  ~SliceMonitor();
  SliceMonitor(const SliceMonitor&) = delete;
  SliceMonitor& operator=(const SliceMonitor&) = delete;

  /// Once.
  Result<void> start();

 private:
  friend class Slice;

  void watch();
  bool look(Duration since_last);

  static inline std::atomic<bool> asleep_{false};
  static inline SliceMonitor* instance_ = nullptr;

  std::mutex lock_;
  std::condition_variable wake_;
  bool stopping_ = false;
  std::thread thread_;
};

/// What a thread tells the monitor, and back.
struct SliceClock {
  std::atomic<std::uint64_t> number{0};  ///< grows when a slice begins or ends; odd: Lua runs
  std::atomic<std::uint64_t> asked{0};   ///< the slice that shall yield
  std::atomic<Vm*> vm{nullptr};          ///< whose Lua runs; for the thread's own signal handler
  std::atomic<Duration> used_before{0};  ///< processor time of the thread when the monitor first saw the slice
  std::atomic<Duration> share{0};        ///< how much of it makes a slice long
  std::uint64_t seen = 0;                // the monitor's
  pthread_t thread{};
  clockid_t processor_clock{};
};

/// Lua runs while it lives. [worker threads]
class Slice {
 public:
  explicit Slice(Vm& vm) noexcept : outer_(clock_.vm.load(std::memory_order_relaxed)) {
    clock_.vm.store(&vm, std::memory_order_relaxed);
    advance();
    if (SliceMonitor::asleep_.load(std::memory_order_relaxed)) wake_monitor();
  }
  ~Slice() {
    clock_.vm.store(outer_, std::memory_order_relaxed);
    advance();
  }
  Slice(const Slice&) = delete;
  Slice& operator=(const Slice&) = delete;

  /// Before the first state is made. [any thread, as often as it likes]
  static void install();
  static SliceClock& clock() noexcept { return clock_; }
  /// A coroutine runs in it from now on.
  static void began(lua_State* L) noexcept {
    if (cut_after_.load(std::memory_order_relaxed) != nullptr) [[unlikely]]
      plan_cut(L);
  }
  /// A coroutine has returned to its resumer, or yielded. True: it was about to be interrupted.
  static bool left(lua_State* L) noexcept;
  /// The slice's limits are looked at when the coroutine goes on.
  static void interrupt(lua_State* L) noexcept;
  /// For C code that computes on and on and can go on later: the monitor has asked for the end of the slice, and others
  /// wait. Then it begins the wait for its next turn, and yields.
  static bool is_over(lua_State* L) noexcept;
  static void give_way(lua_State* L) noexcept;
  /// How many slices ended because others waited. [any thread]
  static std::uint64_t cut_short() noexcept { return cut_short_.load(std::memory_order_relaxed); }
  static void count_cut() noexcept { cut_short_.fetch_add(1, std::memory_order_relaxed); }

  // -- for tests ----------------------------------------------------------------------------------------------------

  /// After how many instructions the slice that begins shall end, whatever it has used; 0: not before it ends itself.
  using CutAfter = int (*)() noexcept;
  /// Null: the monitor decides.
  static void set_cut_after(CutAfter decide) noexcept { cut_after_.store(decide, std::memory_order_relaxed); }
  static bool cut_by_tests() noexcept { return cut_after_.load(std::memory_order_relaxed) != nullptr; }
  /// What a thread knows of its slice: for a simulator that has several workers on one thread.
  struct Saved {
    std::uint64_t number = 0;
    std::uint64_t asked = 0;
    Vm* vm = nullptr;
  };
  static Saved exchange(const Saved& other) noexcept;

 private:
  void advance() noexcept {
    const std::uint64_t number = clock_.number.load(std::memory_order_relaxed);
    if (number == 0) enlist();
    clock_.number.store(number + (outer_ == nullptr ? 1 : 2), std::memory_order_relaxed);
  }
  static void plan_cut(lua_State* L) noexcept;
  static void enlist();
  static void wake_monitor() noexcept;

  static thread_local constinit SliceClock clock_;
  static inline std::atomic<std::uint64_t> cut_short_{0};
  static std::atomic<CutAfter> cut_after_;

  Vm* const outer_;
};

}  // namespace evlua::lua
