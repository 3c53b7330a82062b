// A strand: an executor that runs its work one item at a time, on whichever worker has time for it.
//
// What runs on a strand needs no lock against the rest of that strand. The hand-over from worker to worker goes through
// the inbox exchange, which orders all memory. A strand that has run its share (64 items or 500 µs) goes to the back of
// the worker's queue.
#pragma once

#include "core/inbox.h"
#include "core/intrusive.h"
#include "core/runnable.h"
#include "core/time.h"

namespace evlua {

class Scheduler;

class Strand final : public Executor, private Runnable {
 public:
  explicit Strand(Scheduler& scheduler) noexcept;
  /// REQUIRES: nothing is queued and nothing runs.
  ~Strand();

  Scheduler& scheduler() noexcept { return scheduler_; }

  /// [any thread]
  void enqueue(Runnable& work) noexcept override;

  /// Runs `body` now, on this thread, if the strand is idle; false, and `body` is not called, when it is busy.
  /// [worker threads]
  template <class Body>
  bool try_run(Body&& body) noexcept {
    if (!try_enter()) return false;
    body();
    leave();
    return true;
  }

  /// Returns when no worker is inside any more: the last thing that ran may have told its end to the caller before it
  /// left. REQUIRES: nothing is queued, and the caller is not on this strand. [any thread]
  void wait_until_left() const noexcept;

  /// Something waits for the strand. [on this strand]
  bool has_queued() const noexcept { return !local_.empty() || inbox_.has_messages(); }

  /// The strand goes to the back of the worker's queue when what runs now returns. [on this strand]
  void give_way() noexcept { gives_way_ = true; }

  /// The caller runs on this strand.
  bool is_current() const noexcept;

 private:
  friend struct Inspector;  // of tests/sim

  bool try_enter() noexcept;
  void leave() noexcept;
  void run_share() noexcept;

  static constexpr unsigned kItemsPerShare = 64;
  static constexpr Duration kTimePerShare = 500 * kMicrosecond;

  Scheduler& scheduler_;
  Inbox inbox_{Inbox::Start::away};  // the mark means idle
  bool gives_way_ = false;
  Queue<Runnable> local_;    // taken from the inbox, or added from within; only the one who runs us touches it
  Strand* outer_ = nullptr;  // the strand this thread was on when it entered, for try_run inside a strand
};

}  // namespace evlua
