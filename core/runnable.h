// The one node everything schedulable is made of, and the one door through which it is scheduled.
#pragma once

namespace evlua {

/// A unit of work. Intrusive: it is in at most one queue at a time, through `next`.
/// `run` is called once per scheduling, on a worker thread (or a pool thread, for pool jobs); afterwards the
/// caller never touches the node again, so `run` may destroy it.
struct Runnable {
  using Function = void (*)(Runnable&) noexcept;

  Runnable* next = nullptr;
  Function run = nullptr;

  Runnable() = default;
  explicit Runnable(Function function) : run(function) {}
  Runnable(const Runnable&) = delete;
  Runnable& operator=(const Runnable&) = delete;
};

/// Where work is delivered: the scheduler (any worker) or a strand (one at a time).
class Executor {
 public:
  /// Hands `work` over; it runs later, never inside this call. [any thread]
  virtual void enqueue(Runnable& work) noexcept = 0;

 protected:
  ~Executor() = default;
};

}  // namespace evlua
