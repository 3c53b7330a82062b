// Start and stop, in numbered steps.
//
// Start: 1. worker 0 starts its backend on the calling thread, the others on theirs; 2. if one cannot, or has none, all
// end and the error is returned; 3. the main task starts on worker 0.
// Stop: 1. the main task ends, and with it, since tasks are structured, everything it spawned; 2. `stopping` is set and
// every worker is woken; 3. each worker ends when it has no work and no operation in flight; 4. the threads are joined.
#include "core/scheduler.h"

#include <barrier>
#include <utility>

#include "core/start_thread.h"

namespace evlua {

Scheduler::Scheduler(Options options, const BackendFactory& make_backend) : idle_(options.workers) {
  EVLUA_CHECK(options.workers >= 1);
  for (unsigned index = 0; index < options.workers; ++index) {
    workers_.push_back(std::make_unique<Worker>(*this, index, make_backend()));
  }
}

Scheduler::~Scheduler() = default;

Result<int> Scheduler::run(Task<int> main) {
  std::barrier<> started(static_cast<std::ptrdiff_t>(workers_.size()));
  std::vector<Result<void>> outcomes(workers_.size());
  auto thread_main = [&](unsigned index) {
    outcomes[index] = start(index);
    started.arrive_and_wait();
    for (const Result<void>& outcome : outcomes) {
      if (!outcome) return;
    }
    work(index);
  };

  std::vector<std::thread> threads;
  for (unsigned index = 1; index < worker_count(); ++index) {
    Result<std::thread> thread = start_thread([&thread_main, index] { thread_main(index); });
    if (!thread) {
      outcomes[index] = fail(thread.error());
      (void)started.arrive(worker_count() - index);  // for all that are missing: the others wait for them
      break;
    }
    threads.push_back(std::move(*thread));
  }

  outcomes[0] = start(0);
  started.arrive_and_wait();
  Result<int> result = 0;
  for (const Result<void>& outcome : outcomes) {
    if (!outcome) result = fail(outcome.error());
  }
  if (result) {
    begin(main);
    work(0);
  }
  for (std::thread& thread : threads) thread.join();
  if (result) result = main.take();
  return result;
}

void Scheduler::begin(Task<int>& main) noexcept {
  root_.scheduler = this;
  root_.run = [](Runnable& self) noexcept { static_cast<Root&>(self).scheduler->request_stop(); };
  main.start(TaskContext{this, nullptr, kNever}, root_);
}

void Scheduler::enqueue(Runnable& work) noexcept {
  Worker* worker = Worker::current_or_null();
  if (worker != nullptr && &worker->scheduler() == this) {
    worker->push(work);
  } else {
    inject(work);
  }
}

void Scheduler::enqueue_next(Runnable& work) noexcept {
  Worker* worker = Worker::current_or_null();
  if (worker != nullptr && &worker->scheduler() == this) {
    worker->push_next(work);
  } else {
    inject(work);
  }
}

void Scheduler::inject(Runnable& work) noexcept {
  injected_lock_.lock();
  injected_.push_back(work);
  // seq_cst: pairs with has_visible_work of a worker that has just counted itself as parked.
  injected_count_.fetch_add(1);
  injected_lock_.unlock();
  notify();
}

Runnable* Scheduler::take_injected(Worker& worker) noexcept {
  if (injected_count_.load(std::memory_order_relaxed) == 0) return nullptr;
  injected_lock_.lock();
  Runnable* first = injected_.pop_front();
  if (first != nullptr) injected_count_.fetch_sub(1, std::memory_order_relaxed);
  // A fair share of the rest, so that the lock is not taken once per item.
  std::size_t share = injected_count_.load(std::memory_order_relaxed) / workers_.size();
  if (share > 32) share = 32;
  std::size_t taken = 0;
  while (taken < share) {
    Runnable* work = injected_.front();
    if (work == nullptr) break;
    Runnable* popped = injected_.pop_front();
    if (!worker.deque_.push(*popped)) {
      injected_.push_front(*popped);
      break;
    }
    ++taken;
  }
  injected_count_.fetch_sub(taken, std::memory_order_relaxed);
  injected_lock_.unlock();
  return first;
}

void Scheduler::notify() noexcept {
  if (!idle_.should_wake()) return;
  for (const std::unique_ptr<Worker>& worker : workers_) {
    if (worker->try_wake()) return;
  }
}

bool Scheduler::has_visible_work() noexcept {
  if (injected_count_.load() != 0) return true;
  for (const std::unique_ptr<Worker>& worker : workers_) {
    if (!worker->deque_.empty()) return true;
  }
  return false;
}

void Scheduler::request_stop() noexcept {
  // seq_cst: a worker that has set its mark either sees this or is woken here.
  stopping_.store(true);
  for (const std::unique_ptr<Worker>& worker : workers_) (void)worker->try_wake();
}

}  // namespace evlua
