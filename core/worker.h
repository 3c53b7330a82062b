// A worker: one thread, one backend, one deque of runnable work. The loop is in worker.cpp.
//
// Only the owner thread submits to and reaps from its backend. Other threads reach a worker through `post`, or by
// stealing from its deque.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "core/backend.h"
#include "core/deque.h"
#include "core/inbox.h"
#include "core/intrusive.h"
#include "core/op.h"
#include "core/own_counter.h"
#include "core/timer_heap.h"

namespace evlua {

class Scheduler;

/// What a worker counts. Written by its owner; others may read a slightly stale value.
struct WorkerCounters {
  std::atomic<std::uint64_t> tasks_run{0};
  std::atomic<std::uint64_t> tasks_stolen{0};
  std::atomic<std::uint64_t> parks{0};
  std::atomic<std::uint64_t> operations{0};
  std::atomic<std::uint64_t> overruns{0};  ///< times that Lua was interrupted for taking longer than its slice
  OwnPeak longest_poll_gap;                ///< ns between two looks at the backend, while not parked
  OwnPeak longest_queue;                   ///< work in its deque after a look at the backend
};

class Worker final : public BackendHost, private Executor {
 public:
  Worker(Scheduler& scheduler, unsigned index, std::unique_ptr<Backend> backend);
  ~Worker();

  /// The calling thread's worker. REQUIRES: the caller is a worker thread.
  static Worker& current() noexcept;
  /// The same, or null on a foreign thread.
  static Worker* current_or_null() noexcept;

  Scheduler& scheduler() noexcept { return scheduler_; }
  Backend& backend() noexcept { return *backend_; }
  unsigned index() const noexcept { return index_; }
  const WorkerCounters& counters() const noexcept { return counters_; }
  void count_overrun() noexcept { counters_.overruns.fetch_add(1, std::memory_order_relaxed); }
  /// Work in its deque. [any thread, a hint]
  std::size_t queued() const noexcept { return deque_.size(); }
  /// There is work that nobody else can do. [owner]
  bool has_own_work() const noexcept { return next_ != nullptr || !pinned_.empty() || inbox_.has_messages(); }

  // -- operations [owner, unless marked] ----------------------------------------------------------------------------

  /// Makes `op` this worker's and marks it in flight; cancel may be called from here on.
  void prepare(Op& op) noexcept;
  /// Undoes prepare: the op ends with ECANCELED (or ETIMEDOUT) without having been submitted.
  void abandon(Op& op, OpStop why) noexcept;
  /// Hands a prepared op to the backend, with its deadline.
  void submit(Op& op) noexcept;
  /// Asks that an op in flight end soon. REQUIRES: the caller can rule out that the op's frame ends meanwhile (it
  /// runs on the op's strand, or holds the CancelState's lock). [any thread]
  static void cancel(Op& op) noexcept;
  /// Operations in flight that this worker owns.
  std::size_t in_flight() const noexcept { return in_flight_; }

  /// Closes a descriptor that nobody waits for, without blocking. REQUIRES: no operation is in flight on it.
  void close_later(int fd) noexcept;

  // -- work ---------------------------------------------------------------------------------------------------------

  /// Work that may run on any worker; thieves may take it. [owner]
  void push(Runnable& work) noexcept;
  /// Work to run next on this worker, unless three such ran in a row. [owner]
  void push_next(Runnable& work) noexcept;
  /// Delivers to this worker and no other. [any thread]
  Executor& pinned() noexcept { return *this; }

  /// Polls the backend, from within a piece of work that takes long: does anything wait for this worker? [owner]
  bool others_wait() noexcept;
  /// Polls the backend, and lets others have what waits for any worker: what runs here will take long still. [owner]
  void offer_work() noexcept;
  /// What ran took long: before the next piece of such work, poll, and do what has gathered on this worker. [owner]
  void catch_up() noexcept {
    tick_ = kTicksPerPoll - 1;
    catching_up_ = kCatchUp;
  }

  /// BackendHost: runs `message` on this worker soon. [any thread]
  void post(Runnable& message) noexcept override;
  BlockingPool& pool() noexcept override;

  /// This loop turn's clock, refreshed at least once per turn. [owner]
  Instant now() const noexcept { return now_; }

 private:
  friend class Scheduler;
  friend struct Inspector;  // of tests/sim
  struct Closer;            // a close that nobody waits for

  void enqueue(Runnable& work) noexcept override;  // Executor: pinned

  Result<void> start() noexcept;
  void run_loop() noexcept;
  bool turn() noexcept;
  void drain_inbox() noexcept;
  Runnable* next_work() noexcept;
  Runnable* steal() noexcept;
  void poll_backend() noexcept;
  void note_poll() noexcept;
  void park() noexcept;
  void fire_timers() noexcept;
  void deliver_ready(ReadyList& ready) noexcept;
  void finish(Op& op) noexcept;
  void deliver(Op& op) noexcept;
  void stop_op(Op& op, OpStop why) noexcept;
  void unpark() noexcept;
  /// Wakes this worker if it is parked; true for exactly one caller. [any thread]
  bool try_wake() noexcept;
  bool finished() const noexcept;

  static constexpr unsigned kNextInARow = 3;
  static constexpr unsigned kTicksPerPoll = 61;
  static constexpr unsigned kCatchUp = 256;

  Scheduler& scheduler_;
  const unsigned index_;
  std::unique_ptr<Backend> backend_;
  StealingDeque<> deque_;
  Queue<Runnable> pinned_;
  bool pinned_first_ = false;
  unsigned catching_up_ = 0;  // how many pieces of pinned work go first
  Runnable* next_ = nullptr;
  unsigned next_in_a_row_ = 0;
  unsigned tick_ = 0;
  std::uint32_t random_;
  bool searching_ = false;  // counted in the scheduler's idle word
  TimerHeap timers_;
  std::size_t in_flight_ = 0;
  Instant now_ = 0;
  Instant polled_ = 0;  // or parked: since then nobody has looked
  WorkerCounters counters_;
  Queue<Closer> spare_closers_;

  alignas(64) Inbox inbox_;
};

}  // namespace evlua
