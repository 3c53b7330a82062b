// Fiber: a task of a Vm, as the scheduler sees it. It drives lua_resume; it is not a C++ coroutine.
//
// A Lua function that must wait builds a Suspension in its fiber's slot and yields. The fiber starts the wait after the
// yield has unwound, and resumes the Lua coroutine when the wait is over. A fiber waits for one thing at a time.
//
// A fiber's root coroutine may run others (coroutine.resume, wrap). They nest on the C stack as in stock Lua. Only when
// an inner one must wait does every level yield, the fiber keeps the chain of coroutines, and goes on with the
// innermost; when that one yields to its resumer or ends, the fiber hands the values to the next level.
#pragma once

#include <lua.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <new>
#include <utility>
#include <vector>

#include "core/intrusive.h"
#include "core/op.h"
#include "core/runnable.h"
#include "core/time.h"
#include "lua/vm.h"

namespace evlua::lua {

/// Something a fiber waits for, living in its slot. `start` runs after the yield; whoever ends the wait calls
/// Fiber::complete on the strand; `finish` runs inside the coroutine again, so it may raise.
struct Suspension {
  void (*start)(Suspension&, Fiber&) = nullptr;
  /// Pushes the results of the Lua call and returns their number. Null where there is no call, since a slice was over.
  int (*finish)(Suspension&, lua_State*) = nullptr;
  /// Asks that the wait end soon; complete is still called once.
  void (*cancel)(Suspension&) noexcept = nullptr;
  void (*destroy)(Suspension&) noexcept = nullptr;
};

/// Where a task was spawned: for tracebacks. Shared by the tasks spawned there one after another and their children.
struct SpawnSite {
  static constexpr unsigned kDepthMax = 32;

  unsigned references = 1;
  unsigned depth = 0;  ///< a task that spawns its successor, and so on for ever, must not grow the chain for ever
  int line = 0;
  SpawnSite* parent = nullptr;
  char source[LUA_IDSIZE] = {};

  void release() noexcept;
};

/// Processor time that a task and those that it waits for in groups may use. Counts towards those of the tasks around.
struct CpuBudget {
  Duration left;
  CpuBudget* parent;
  unsigned references = 1;

  void release() noexcept;
};

class Fiber final : public ListNode, private Runnable {
 public:
  enum class Outcome { returned, failed };

  /// Told when a fiber ends, on the strand. Its results, or the error value, are on root()'s stack and
  /// stay there until the callee returns; then the fiber is recycled.
  struct Owner {
    void (*ended)(Owner&, Fiber&, Outcome) = nullptr;
  };

  static constexpr std::size_t kSlotBytes = 272;

  /// Prepares a new state for fibers.
  static void open(lua_State* L);

  Vm& vm() noexcept { return vm_; }
  lua_State* root() noexcept { return root_; }
  /// Which task it is now: the Vm counts them from 1.
  std::uint64_t task_number() const noexcept { return task_number_; }
  Instant began() const noexcept { return began_; }
  /// What it is called when it has no name of its own. Lives for ever.
  void set_label(const char* label) noexcept { label_ = label; }
  const char* label() const noexcept { return label_; }

  /// Runs the function that lies on root()'s stack with `arguments` above it, soon, from the strand's queue.
  void start(int arguments, Owner* owner) noexcept;
  /// The same, now. REQUIRES: on the strand, outside of Lua code. The fiber may have ended when this returns.
  void start_now(int arguments, Owner* owner);

  /// Gives it back instead of starting it.
  void discard() { recycle(true); }

  /// Keeps the value on top of L alive until the fiber ends; pops it.
  void anchor(lua_State* L);
  /// Pushes that value, or nil.
  void push_anchored(lua_State* L);

  // -- what belongs to a task (lua/task_local.cpp) ------------------------------------------------------------------

  /// Pushes the table of its locals.
  void push_locals(lua_State* L);
  bool has_locals() const noexcept { return has_locals_; }
  /// The locals of `parent` become ours, as a copy, or, if the two are one task, as they are.
  void take_locals(lua_State* L, Fiber& parent, bool copy);
  /// The function and its arguments, which are all of L's stack, are called when the task has ended.
  void defer(lua_State* L);
  /// It has ended, and what it has deferred runs.
  bool ending() const noexcept { return ending_; }

  // -- waiting (called by Lua functions through lua/bridge.h) -------------------------------------------------------

  template <class S, class... Arguments>
  S& emplace(Arguments&&... arguments) {
    static_assert(sizeof(S) <= kSlotBytes && alignof(S) <= alignof(std::max_align_t));
    clear_slot();
    S* suspension = new (slot_) S(std::forward<Arguments>(arguments)...);
    suspension->destroy = [](Suspension& self) noexcept { static_cast<S&>(self).~S(); };
    slot_used_ = suspension;
    pending_ = suspension;
    return *suspension;
  }

  /// The wait is over. [strand]
  void complete() noexcept;
  /// How many of its slices were cut.
  std::uint32_t cuts() const noexcept { return cuts_; }
  void count_cut() noexcept { ++cuts_; }
  /// Runs `finish` of the current suspension; the continuation of every waiting call.
  int finish_wait(lua_State* L);

  // -- cancellation [strand] ----------------------------------------------------------------------------------------

  /// Asks the wait in progress to end with ECANCELED (ETIMEDOUT for OpStop::deadline), as a result; a result that is
  /// on its way already wins. Once the Lua code has had the failure from a wait, later waits raise.
  void cancel(OpStop why) noexcept;
  OpStop cancelled() const noexcept { return cancelled_; }
  /// The Lua code is about to be told of the cancellation. True: this is the first time, and the call shall return the
  /// failure; from then on it shall raise.
  bool take_cancel_notice() noexcept { return !std::exchange(cancel_noticed_, true); }
  /// The fiber ends by the error that a refused wait raised, unless it is caught.
  void note_cancel_raised() noexcept { cancel_raised_ = true; }
  bool cancel_noticed() const noexcept { return cancel_noticed_; }
  bool cancel_raised() const noexcept { return cancel_raised_; }
  /// The fiber has used up what it may: it is cancelled, and if it goes on computing, errors with this message are
  /// raised in it until it has ended. `message` must live as long.
  void doom(const char* message, OpStop why = OpStop::cancelled) noexcept;
  const char* doom() const noexcept { return doom_; }
  /// The processor time that it may use from now on, until it ends. To a few milliseconds.
  void limit_cpu(Duration amount);
  /// When its time is over. Waits that go on then are ended by whoever sets this; here it is about code that computes.
  void limit_time(Instant until) noexcept { time_limit_ = std::min(time_limit_, until); }
  /// The limits of `other` are ours, too; processor time is used up by both.
  void share_limits(const Fiber& other) noexcept;
  /// Why the fiber must not go on computing now: null, or the message of the error to be raised. [from its own code]
  const char* check_limits() noexcept;
  /// The same where the code cannot be made to wait, so that others do not get their turn.
  const char* check_limits_when_stuck() noexcept;
  /// An error with that message has been raised in it by a limit; it gets no further, whoever catches that.
  void strike(const char* message) noexcept { struck_ = message; }
  const char* struck() const noexcept { return struck_; }
  /// It runs what belongs to the program evlua itself: Vm::condemn_stuck is not about that, but about finalizers in it.
  void spare() noexcept { spared_ = true; }
  bool spared() const noexcept { return spared_; }
  bool has_cpu_limit() const noexcept { return cpu_budget_ != nullptr; }
  /// Takes note of the time that this thread has used since the last call or the beginning of the slice.
  void charge_cpu() noexcept;
  /// There is none left, for this task and those that share the budget.
  void use_up_cpu() noexcept {
    if (cpu_budget_ != nullptr) cpu_budget_->left = 0;
  }
  /// While above zero the fiber's waits are not cancelled (clean-up).
  void shield(int change) noexcept { shield_ += change; }
  bool shielded() const noexcept { return shield_ > 0; }

  // -- coroutines (called by lua/lib_coroutine.cpp) -----------------------------------------------------------------

  bool wants_wait() const noexcept { return pending_ != nullptr; }
  /// `inner` has yielded in order to wait; its resumer is about to yield as well.
  void hold(lua_State* inner);
  int nested_status() const noexcept { return nested_status_; }
  /// An inner coroutine runs whose resumer, `outer`, cannot yield.
  void enter_unyieldable(lua_State* outer) noexcept {
    if (unyieldable_++ == 0) unyieldable_at_ = outer;
  }
  void leave_unyieldable() noexcept { --unyieldable_; }
  lua_State* unyieldable_at() const noexcept { return unyieldable_at_; }
  /// A wait was refused since the last coroutine was resumed.
  void note_refusal() noexcept { refused_ = true; }
  void forget_refusal() noexcept { refused_ = false; }
  bool was_refused() const noexcept { return refused_; }
  bool may_wait(lua_State* L) const noexcept { return unyieldable_ == 0 && lua_isyieldable(L) != 0; }
  /// Somebody has seen the root coroutine as a value: it must not be used again for another task.
  void keep_identity() noexcept { identity_seen_ = true; }

  // -- for tracebacks -----------------------------------------------------------------------------------------------

  void set_spawn_site(lua_State* L);
  SpawnSite* spawn_site() noexcept { return site_; }
  /// Traceback of the innermost coroutine and those around it, then the spawn sites.
  std::string traceback(const char* message);
  std::string spawn_trace() const;
  /// For a fiber that failed: the error value on top of root(), in words, with everything known about its origin.
  std::string failure_text();
  bool waiting() const noexcept { return waiting_ != nullptr && waiting_->finish != nullptr; }
  /// The coroutine that waits.
  lua_State* innermost() noexcept { return chain_.empty() ? root_ : chain_.back(); }

 private:
  friend class Vm;
  friend struct Deferred;
  friend struct evlua::Inspector;  // of tests/sim
  enum class Starting : unsigned char { no, yes, completed };

  explicit Fiber(Vm& vm) : vm_(vm) {}
  ~Fiber();

  bool make_root();
  void drive(int arguments);
  int resume(lua_State* L, int arguments);
  bool begin_wait();
  int unwind(int status);
  void end(Outcome outcome);
  void drop_belongings() noexcept;
  void recycle(bool reusable);
  void clear_slot() noexcept;
  void settle_held();

  Vm& vm_;
  std::uint64_t task_number_ = 0;
  Instant began_ = 0;
  const char* label_ = "task";
  lua_State* root_ = nullptr;
  int root_ref_ = LUA_NOREF;
  bool anchored_ = false;
  bool has_locals_ = false;
  bool has_deferred_ = false;
  static constexpr unsigned kDeferredDepthMax = 200;
  unsigned deferred_depth_ = 0;  // of the deferred call that it is, in deferred calls that defer
  bool ending_ = false;
  bool must_run_ = false;  // cancelled before it began, it begins all the same
  int start_arguments_ = 0;
  int nested_status_ = LUA_OK;
  int unyieldable_ = 0;
  lua_State* unyieldable_at_ = nullptr;
  int shield_ = 0;
  OpStop cancelled_ = OpStop::none;
  std::uint32_t cuts_ = 0;
  Starting starting_ = Starting::no;
  bool cancel_noticed_ = false;
  bool cancel_raised_ = false;
  bool identity_seen_ = false;
  bool spared_ = false;
  bool refused_ = false;
  const char* doom_ = nullptr;
  const char* struck_ = nullptr;
  CpuBudget* cpu_budget_ = nullptr;
  Instant time_limit_ = kNever;
  Instant cpu_mark_ = 0;  // by the clock of the thread that runs the fiber
  Owner* owner_ = nullptr;
  SpawnSite* site_ = nullptr;
  Suspension* pending_ = nullptr;    // built, not started
  Suspension* waiting_ = nullptr;    // started, not completed
  Suspension* slot_used_ = nullptr;  // must be destroyed before the slot is used again
  std::vector<lua_State*> chain_;    // inner coroutines of a waiting fiber, innermost last
  alignas(std::max_align_t) std::byte slot_[kSlotBytes];
};

}  // namespace evlua::lua
