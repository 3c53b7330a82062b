// One lock, one queue per class. A thread says in its record which job it runs, so that an interrupt finds the thread;
// it clears the record only when it takes the next job, by which time the old address means nothing: an interrupt for a
// new job at the same address would at worst cost a spurious EINTR, which every caller handles.
#include "core/blocking_pool.h"

#include <pthread.h>
#include <signal.h>

#include <chrono>
#include <condition_variable>
#include <cstring>
#include <list>
#include <mutex>
#include <thread>

#include "core/check.h"

namespace evlua {

namespace {

int interrupt_signal() noexcept { return SIGRTMIN + 3; }

/// A handler that does nothing, without SA_RESTART, so that the interrupted call returns EINTR.
void install_interrupt_handler() noexcept {
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction action {};
    action.sa_handler = [](int) {};
    sigemptyset(&action.sa_mask);
    ::sigaction(interrupt_signal(), &action, nullptr);
  });
}

/// Process signals are none of the pool's business.
void block_other_signals() noexcept {
  sigset_t set;
  sigfillset(&set);
  sigdelset(&set, interrupt_signal());
  for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGPROF}) sigdelset(&set, fault);
  ::pthread_sigmask(SIG_SETMASK, &set, nullptr);
}

}  // namespace

struct BlockingPool::Shared {
  struct Thread {
    pthread_t handle{};
    PoolJob* job = nullptr;
  };

  explicit Shared(Options given) : options(given) {}

  bool may_run_slow() const noexcept { return slow_running < (options.threads_max + 1) / 2; }

  PoolJob* take() noexcept {
    if (PoolJob* job = quick.pop_front()) return job;
    return may_run_slow() ? slow.pop_front() : nullptr;
  }

  const Options options;
  std::mutex lock;
  std::condition_variable work;
  std::condition_variable ended;
  Queue<PoolJob> quick;
  Queue<PoolJob> slow;
  std::list<Thread> threads;
  std::size_t queued = 0;
  std::size_t idle = 0;
  std::size_t slow_running = 0;
  bool stopping = false;

  static void thread_main(const std::shared_ptr<Shared>& shared) noexcept;
  void run_jobs(std::unique_lock<std::mutex>& guard, Thread& self) noexcept;
};

void BlockingPool::Shared::thread_main(const std::shared_ptr<Shared>& shared) noexcept {
  block_other_signals();
  ::pthread_setname_np(::pthread_self(), "evlua-pool");
  std::unique_lock guard(shared->lock);
  auto self = shared->threads.begin();
  while (!::pthread_equal(self->handle, ::pthread_self())) ++self;
  while (true) {
    shared->run_jobs(guard, *self);
    if (shared->stopping) break;
    ++shared->idle;
    const auto woken = shared->work.wait_for(guard, std::chrono::nanoseconds(shared->options.keep_alive));
    --shared->idle;
    if (woken == std::cv_status::timeout && shared->quick.empty() && shared->slow.empty()) break;
  }
  shared->threads.erase(self);
  shared->ended.notify_all();
}

void BlockingPool::Shared::run_jobs(std::unique_lock<std::mutex>& guard, Thread& self) noexcept {
  while (PoolJob* job = take()) {
    --queued;
    const bool is_slow = job->job_class == PoolJob::Class::slow;
    if (is_slow) ++slow_running;
    self.job = job;
    guard.unlock();
    job->run(*job);
    guard.lock();
    self.job = nullptr;
    if (is_slow) {
      --slow_running;
      if (!slow.empty()) work.notify_one();
    }
  }
}

BlockingPool::BlockingPool() : BlockingPool(Options()) {}

BlockingPool::BlockingPool(Options options) : shared_(std::make_shared<Shared>(options)) {
  EVLUA_CHECK(options.threads_max > 0);
}

BlockingPool::~BlockingPool() {
  std::unique_lock guard(shared_->lock);
  shared_->stopping = true;
  shared_->work.notify_all();
  for (int step = 0; step < 100 && !shared_->threads.empty(); ++step) {
    for (Shared::Thread& thread : shared_->threads) {
      if (thread.job != nullptr && step > 0) ::pthread_kill(thread.handle, interrupt_signal());
    }
    shared_->ended.wait_for(guard, std::chrono::milliseconds(10), [this] { return shared_->threads.empty(); });
  }
}

void BlockingPool::submit(PoolJob& job) noexcept {
  install_interrupt_handler();
  const std::lock_guard guard(shared_->lock);
  const bool is_slow = job.job_class == PoolJob::Class::slow;
  (is_slow ? shared_->slow : shared_->quick).push_back(job);
  ++shared_->queued;
  if (shared_->idle >= shared_->queued) {
    shared_->work.notify_one();
    return;
  }
  if (shared_->threads.size() >= shared_->options.threads_max) return;
  if (is_slow && !shared_->may_run_slow()) return;
  // The thread looks itself up by its handle, under the lock that we hold until the record is complete.
  shared_->threads.emplace_back();
  std::thread thread([shared = shared_] { Shared::thread_main(shared); });
  shared_->threads.back().handle = thread.native_handle();
  thread.detach();
}

bool BlockingPool::try_withdraw(PoolJob& job) noexcept {
  const std::lock_guard guard(shared_->lock);
  const bool found = job.job_class == PoolJob::Class::slow ? shared_->slow.remove(job) : shared_->quick.remove(job);
  if (found) --shared_->queued;
  return found;
}

void BlockingPool::interrupt(PoolJob& job) noexcept {
  const std::lock_guard guard(shared_->lock);
  for (Shared::Thread& thread : shared_->threads) {
    if (thread.job == &job) ::pthread_kill(thread.handle, interrupt_signal());
  }
}

std::size_t BlockingPool::threads() const noexcept {
  const std::lock_guard guard(shared_->lock);
  return shared_->threads.size();
}

std::size_t BlockingPool::queued() const noexcept {
  const std::lock_guard guard(shared_->lock);
  return shared_->queued;
}

}  // namespace evlua
