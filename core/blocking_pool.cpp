// One lock, one queue per class. A thread says in its record which job it runs, so that an interrupt finds the thread.
// It says so a moment longer than the job lives: an interrupt for a new job at the same address may then hit a thread
// that is between jobs, which does no harm, and whoever interrupts has to ask again anyway.
#include "core/blocking_pool.h"

#include <pthread.h>
#include <signal.h>

#include <chrono>
#include <condition_variable>
#include <list>
#include <mutex>

#include "core/check.h"
#include "core/start_thread.h"
#include "core/trace.h"

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

/// What a pool thread lets through. Process signals are none of its business.
sigset_t pool_thread_mask() noexcept {
  sigset_t set;
  sigfillset(&set);
  sigdelset(&set, interrupt_signal());
  for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGPROF}) sigdelset(&set, fault);
  return set;
}

}  // namespace

struct BlockingPool::Shared {
  struct Thread {
    pthread_t handle{};
    PoolJob* job = nullptr;
  };

  explicit Shared(Options given) : options(given) {}

  bool may_run_slow() const noexcept { return slow_running < (options.threads_max + 1) / 2; }
  bool start_thread(const std::shared_ptr<Shared>& self) noexcept;
  PoolJob* take() noexcept;
  void run_jobs(std::unique_lock<std::mutex>& guard, Thread* self) noexcept;
  static void thread_main(const std::shared_ptr<Shared>& shared) noexcept;

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
  bool slow_next = false;  // whose turn it is when both classes wait: neither may starve the other
  bool stopping = false;
};

/// REQUIRES: the lock is held. False when the system gives no more threads.
bool BlockingPool::Shared::start_thread(const std::shared_ptr<Shared>& self) noexcept {
  // The thread looks itself up by its handle, under the lock that we hold until the record is complete.
  threads.emplace_back();
  // It inherits the mask: there is no moment in which it could take a signal of the process.
  const sigset_t mask = pool_thread_mask();
  sigset_t previous;
  ::pthread_sigmask(SIG_SETMASK, &mask, &previous);
  Result<std::thread> thread = evlua::start_thread([self] { thread_main(self); });
  ::pthread_sigmask(SIG_SETMASK, &previous, nullptr);
  if (!thread) {
    threads.pop_back();
    return false;
  }
  threads.back().handle = thread->native_handle();
  thread->detach();
  return true;
}

PoolJob* BlockingPool::Shared::take() noexcept {
  const bool slow_can = !slow.empty() && may_run_slow();
  const bool take_slow = slow_can && (slow_next || quick.empty());
  slow_next = !take_slow;
  return take_slow ? slow.pop_front() : quick.pop_front();
}

void BlockingPool::Shared::thread_main(const std::shared_ptr<Shared>& shared) noexcept {
  ::pthread_setname_np(::pthread_self(), "evlua-pool");
  std::unique_lock guard(shared->lock);
  auto self = shared->threads.begin();
  while (!::pthread_equal(self->handle, ::pthread_self())) ++self;
  while (true) {
    shared->run_jobs(guard, &*self);
    if (shared->stopping) break;
    ++shared->idle;
    const auto woken = shared->work.wait_for(guard, std::chrono::nanoseconds(shared->options.keep_alive));
    --shared->idle;
    if (woken == std::cv_status::timeout && shared->quick.empty() && shared->slow.empty()) break;
  }
  shared->threads.erase(self);
  shared->ended.notify_all();
}

/// Until there is nothing it may run. `self` is null on a thread that is not the pool's.
void BlockingPool::Shared::run_jobs(std::unique_lock<std::mutex>& guard, Thread* self) noexcept {
  while (PoolJob* job = take()) {
    --queued;
    const bool is_slow = job->job_class == PoolJob::Class::slow;
    if (is_slow) ++slow_running;
    if (self != nullptr) self->job = job;
    guard.unlock();
    {
      const Trace::Span span("blocking call");
      job->run(*job);
    }
    guard.lock();
    if (self != nullptr) self->job = nullptr;
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
  // A thread that comes back to life later must find nothing: those jobs' owners are gone.
  while (shared_->quick.pop_front() != nullptr || shared_->slow.pop_front() != nullptr) --shared_->queued;
}

void BlockingPool::submit(PoolJob& job) noexcept {
  install_interrupt_handler();
  std::unique_lock guard(shared_->lock);
  const bool is_slow = job.job_class == PoolJob::Class::slow;
  (is_slow ? shared_->slow : shared_->quick).push_back(job);
  ++shared_->queued;
  // Always told: of those queued before, some may be slow ones that have to wait, idle threads or not.
  if (shared_->idle != 0) shared_->work.notify_one();
  if (shared_->idle >= shared_->queued || shared_->threads.size() >= shared_->options.threads_max) return;
  if (is_slow && !shared_->may_run_slow()) return;
  if (shared_->start_thread(shared_) || !shared_->threads.empty()) return;
  // Not one thread to be had. Blocking the caller is bad, but the job would wait for ever.
  shared_->run_jobs(guard, nullptr);
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
