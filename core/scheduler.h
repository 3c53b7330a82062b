// The scheduler: a fixed set of workers that steal from each other, an injection queue, and the blocking pool.
#pragma once

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "core/atomics.h"
#include "core/backend.h"
#include "core/blocking_pool.h"
#include "core/error.h"
#include "core/idle.h"
#include "core/intrusive.h"
#include "core/lockfree/spin_lock.h"
#include "core/runnable.h"
#include "core/task.h"
#include "core/worker.h"

namespace evlua {

class Scheduler final : public Executor {
 public:
  struct Options {
    unsigned workers = 1;
  };

  Scheduler(Options options, const BackendFactory& make_backend);
  ~Scheduler();

  /// Runs `main` on the workers, the calling thread being worker 0, until it has ended and every operation has
  /// drained. Fails without running anything when a backend cannot start. Called once.
  Result<int> run(Task<int> main);

  // The same in steps, for whoever brings the threads himself. Each worker is started on its thread; when all are,
  // worker 0's begins with the main task; each then works until everything has ended.
  Result<void> start(unsigned index) noexcept { return workers_[index]->start(); }
  void begin(Task<int>& main) noexcept;
  void work(unsigned index) noexcept { workers_[index]->run_loop(); }

  /// Work for any worker: the caller's own deque, or the injection queue from a foreign thread. [any thread]
  void enqueue(Runnable& work) noexcept override;
  /// Work to run next on the calling worker, for what is about to need the data that is hot now. [any thread]
  void enqueue_next(Runnable& work) noexcept;

  unsigned worker_count() const noexcept { return static_cast<unsigned>(workers_.size()); }
  Worker& worker(unsigned index) noexcept { return *workers_[index]; }
  BlockingPool& pool() noexcept { return pool_; }
  /// There is work that any worker may take. [any thread]
  bool has_visible_work() noexcept;

 private:
  friend class Worker;
  friend struct Inspector;  // of tests/sim

  void inject(Runnable& work) noexcept;
  Runnable* take_injected(Worker& worker) noexcept;
  /// New stealable work is visible: wakes a parked worker unless one is searching.
  void notify() noexcept;
  void request_stop() noexcept;
  bool stopping() const noexcept { return stopping_.load(); }

  std::vector<std::unique_ptr<Worker>> workers_;
  BlockingPool pool_;
  IdleState idle_;
  StdAtomics::Atomic<bool> stopping_{false};
  struct Root : Runnable {  // what runs when the main task has ended
    Scheduler* scheduler = nullptr;
  } root_;

  SpinLock injected_lock_;
  Queue<Runnable> injected_;
  StdAtomics::Atomic<std::size_t> injected_count_{0};
};

}  // namespace evlua
