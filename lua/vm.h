// Vm: one Lua global state and the strand it runs on.
//
// Everything that touches the state runs on the strand; any worker may carry the strand, never two at once. A Vm is
// found from any of its lua_States through the state's extra space. Parallelism is between Vms, never inside one.
#pragma once

#include <lua.hpp>

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "core/event.h"
#include "core/intrusive.h"
#include "core/own_counter.h"
#include "core/scheduler.h"
#include "core/strand.h"
#include "lua/allocator.h"
#include "lua/brief.h"
#include "lua/gc_pace.h"
#include "lua/message.h"
#include "lua/slice_load.h"
#include "lua/task_errors.h"

namespace evlua {
struct Inspector;
}

namespace evlua::lua {

class Fiber;
class IoFiles;
struct SpawnSite;

class Vm {
 public:
  struct Options {
    std::size_t memory_max = 0;       ///< bytes the Lua heap may take, unused ones included; 0: no limit
    std::vector<std::string> compat;  ///< what it opts for of `evlua.compat`
  };

  /// Makes a state with the standard library and the evlua modules. Null when there is no memory.
  static std::unique_ptr<Vm> create(Scheduler& scheduler, const Options& options);
  /// What another Vm of the same program is made from.
  struct Seed {
    Scheduler* scheduler = nullptr;
    Options options;
    void (*on_exit)(int code) = nullptr;
    std::string path;   ///< package.path
    std::string cpath;  ///< package.cpath
  };
  Seed seed();
  static std::unique_ptr<Vm> create(const Seed& seed);
  /// As close.
  ~Vm();
  /// Ends the state; finalizers run, and tell of errors that nobody joined. REQUIRES: no fiber is live; on a worker
  /// thread, outside of the strand.
  void close();
  Vm(const Vm&) = delete;
  Vm& operator=(const Vm&) = delete;

  static Vm& of(lua_State* L) noexcept {
    const std::uintptr_t word = *static_cast<std::uintptr_t*>(lua_getextraspace(L));
    return *reinterpret_cast<Vm*>(word & ~kHeld);
  }

  /// The same; null where a C module has made the state for itself.
  static Vm* find(lua_State* L) noexcept {
    void* vm = nullptr;
    return lua_getallocf(L, &vm) == &Vm::allocate ? static_cast<Vm*>(vm) : nullptr;
  }

  Scheduler& scheduler() noexcept { return scheduler_; }
  Strand& strand() noexcept { return strand_; }
  lua_State* main_state() noexcept { return state_; }

  /// The fiber that runs right now; null outside of Lua code. [strand]
  Fiber* running() noexcept { return running_; }

  SliceLoad& slice_load() noexcept { return slice_load_; }

  /// The coroutine that runs right now, for the signal watch and the preemption monitor. [any thread, a hint]
  lua_State* current_state() const noexcept { return current_state_.load(std::memory_order_relaxed); }
  lua_State* set_current_state(lua_State* L) noexcept {
    lua_State* before = current_state_.load(std::memory_order_relaxed);
    current_state_.store(L, std::memory_order_relaxed);
    return before;
  }

  /// A fiber with an empty stack, new or recycled. Null when there is no memory. [strand]
  Fiber* take_fiber();
  /// Finalizers run, too. [strand] REQUIRES: outside of Lua code.
  void collect_garbage();

  /// What still runs are finalizers; no task can begin.
  bool closing() const noexcept { return closing_; }
  std::size_t live_fibers() const noexcept { return live_count_.value(); }
  /// Set while no fiber is live.
  Event& idle() noexcept { return idle_; }

  // -- deadlock [strand] --------------------------------------------------------------------------------------------

  /// A task waits for what only other tasks of this Vm can do; and it does so no longer.
  void began_inner_wait() noexcept {
    if (++inner_waits_ == live_count_.value()) suspect_deadlock();
  }
  void ended_inner_wait() noexcept { --inner_waits_; }
  /// Told when every task waits so, and none can be woken any more but by being cancelled. For a Vm to whose tasks
  /// nobody comes from outside.
  struct DeadlockWatch {
    void (*found)(DeadlockWatch&, Vm&) = nullptr;
  };
  void watch_deadlocks(DeadlockWatch* watch) noexcept { deadlock_watch_ = watch; }

  template <class Visit>
  void for_each_live(Visit visit) {
    live_.for_each(visit);
  }

  // -- errors -------------------------------------------------------------------------------------------------------

  /// Remembers where the error value on top of L came from, in a coroutine or task that has died of it.
  /// `died` is that coroutine's state; its traceback goes behind what is remembered for the same value.
  void add_trail(lua_State* L, lua_State* died, const char* heading);
  /// The value on top of L replaces the one that the trail belongs to (a position was put before the message).
  void rename_trail(lua_State* L);
  /// Remembers `text` for the value at `index`.
  void set_trail(lua_State* L, int index, std::string_view text);
  /// The remembered text if it belongs to the value at `index`, else "".
  std::string trail_of(lua_State* L, int index);

  /// Errors that tasks have ended with. [strand]
  TaskErrors& task_errors() noexcept { return task_errors_; }

  /// Lua code that computes on and on is ended by errors with this message, from now on. [any thread]
  void condemn(const char* message) noexcept { condemned_.store(message, std::memory_order_relaxed); }
  const char* condemned() const noexcept { return condemned_.load(std::memory_order_relaxed); }
  /// The same for code that cannot be made to wait while others have their turn, until this is called with null.
  /// [any thread]
  void condemn_stuck(const char* message) noexcept { stuck_condemned_.store(message, std::memory_order_relaxed); }
  const char* stuck_condemned() const noexcept { return stuck_condemned_.load(std::memory_order_relaxed); }

  /// Whether Options::memory_max holds: only where Lua code runs, which can be told by an error. What the runtime
  /// itself allocates between may go beyond it. [strand]
  void keep_limit(bool keep) noexcept {
    keeps_limit_ = keep;
    finalizes_ = false;
    memory_.set_max(keep && options_.memory_max != 0 ? options_.memory_max : SIZE_MAX);
  }
  bool keeps_limit() const noexcept { return keeps_limit_; }
  /// For a finalizer, until keep_limit() is called: it must not be lost because the memory is just used up.
  void allow_more_memory() noexcept {
    finalizes_ = true;
    if (keeps_limit_ && options_.memory_max != 0) memory_.set_max(options_.memory_max + kFinalizerMemory);
  }
  bool finalizes() const noexcept { return finalizes_; }
  /// To be called as Lua code runs: it collects the sooner and faster the nearer it is to Options::memory_max. [strand]
  void pace_collector() noexcept { gc_pace_.look(state_, memory_used_.value()); }
  /// Hears of what the program asks of the collector.
  GcPace& gc_pace() noexcept { return gc_pace_; }
  /// A block of malloc that becomes the state's: see Allocator::adopt. [strand]
  bool adopt_memory(std::size_t bytes) noexcept {
    if (!memory_.adopt(bytes)) return false;
    memory_used_.add(bytes);
    return true;
  }
  std::size_t memory_used() const noexcept { return memory_used_.value(); }
  /// Of the messages it has sent: they may take as much again as Options::memory_max.
  const std::shared_ptr<MessageAccount>& messages() const noexcept { return messages_; }
  struct Figures {
    std::uint64_t number = 0;  ///< counts the Vms of the process
    std::size_t memory = 0;
    std::size_t tasks = 0;
  };
  /// Of all Vms of this process, in the order they were made. [any thread]
  static std::vector<Figures> all_figures();
  /// Of all Vms that this process has had.
  struct Totals {
    std::uint64_t made = 0;
    std::uint64_t most = 0;         ///< at once
    std::uint64_t tasks = 0;        ///< that have begun
    std::uint64_t most_tasks = 0;   ///< of one Vm at once
    std::uint64_t most_memory = 0;  ///< that one Vm held, used or not
  };
  /// [any thread]
  static Totals totals();
  /// Vms of this process. [any thread]
  static std::size_t count() noexcept { return count_.load(std::memory_order_relaxed); }

  /// Less than `count`: where to begin with several, so that each of them has its chance. [strand]
  unsigned draw(unsigned count) noexcept { return static_cast<unsigned>(random_() % count); }

  /// Of the finalizer that runs for nobody.
  std::optional<Brief::Scope>& brief_finalizer() noexcept { return brief_finalizer_; }

  /// Something has ended that keeps the Vm from being idle: a watch, a write behind. [strand]
  void look_whether_idle();

  /// Runs all finalizers; afterwards the process can only end. REQUIRES: called by the only fiber that is live.
  void finalize_at_exit();

  /// The program ends: writes what the files of this Vm hold, and, as far as they are idle within a second, of all
  /// others. [strand]
  void write_all_out() noexcept;

  /// The files of the io library. [strand]
  IoFiles& io() noexcept { return *io_; }

  /// What to do at evlua.exit; set by the program. [any thread]
  void (*on_exit)(int code) = nullptr;

  // -- coroutines held by a waiting fiber ---------------------------------------------------------------------------

  static void set_held(lua_State* L, bool held) noexcept {
    auto* word = static_cast<std::uintptr_t*>(lua_getextraspace(L));
    *word = held ? *word | kHeld : *word & ~kHeld;
  }
  static bool is_held(lua_State* L) noexcept {
    return (*static_cast<std::uintptr_t*>(lua_getextraspace(L)) & kHeld) != 0;
  }

 private:
  friend class Fiber;
  friend class TaskErrors;
  friend struct evlua::Inspector;  // of tests/sim

  static constexpr std::uintptr_t kHeld = 1;
  static constexpr std::size_t kSpareFibersMax = 1024;
  static constexpr std::size_t kFinalizerMemory = std::size_t{1} << 20;

  Vm(Scheduler& scheduler, const Options& options);

  /// No fiber is live.
  void became_idle();
  void error_watch_ended();
  bool all_wait_inside() const noexcept { return inner_waits_ > 0 && inner_waits_ == live_count_.value(); }
  void suspect_deadlock() noexcept;

  struct DeadlockLook : Runnable {
    Vm* vm = nullptr;
    bool queued = false;
  };

  void add_to(Totals& totals) const noexcept;
  void collect_what_ran_short();
  static void* allocate(void* self, void* block, std::size_t old_size, std::size_t new_size) noexcept;

  Scheduler& scheduler_;
  const Options options_;
  Strand strand_;
  SliceLoad slice_load_;
  lua_State* state_ = nullptr;
  Allocator memory_;
  OwnCounter memory_used_;
  GcPace gc_pace_;
  std::shared_ptr<MessageAccount> messages_;
  std::uint64_t number_ = 0;
  bool keeps_limit_ = false;
  bool finalizes_ = false;
  bool ran_short_ = false;  // of memory
  static inline std::atomic<std::size_t> count_{0};
  Fiber* running_ = nullptr;
  std::atomic<lua_State*> current_state_{nullptr};
  std::atomic<const char*> condemned_{nullptr};
  std::atomic<const char*> stuck_condemned_{nullptr};
  std::vector<lua_State*> unwinding_;  // coroutines that yield to let the running fiber wait, innermost first
  SpawnSite* last_spawn_site_ = nullptr;
  List<Fiber> live_;
  List<Fiber> spare_;
  OwnCounter live_count_;
  std::size_t inner_waits_ = 0;
  DeadlockWatch* deadlock_watch_ = nullptr;
  DeadlockLook deadlock_look_;
  OwnCounter task_count_;  // that there have been
  OwnPeak most_tasks_;
  std::size_t spare_count_ = 0;
  Event idle_;
  std::string trail_;
  TaskErrors task_errors_;
  std::unique_ptr<IoFiles> io_;
  bool closing_ = false;
  std::optional<Brief::Scope> brief_finalizer_;
  std::minstd_rand random_;
};

}  // namespace evlua::lua
