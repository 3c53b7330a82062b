// A scheduler for a test: on every backend this machine allows, with one worker and with two.
//
//   on_every_setup([](const Setup& setup) {
//     Runtime runtime(setup);
//     CHECK(runtime.run(some_task(runtime.scheduler())) == 0);
//   });
//
// When the Runtime ends, no operation may be in flight and no coroutine frame left.
#pragma once

#include <chrono>
#include <coroutine>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "backends/select.h"
#include "core/event.h"
#include "core/frame_pool.h"
#include "core/scheduler.h"
#include "core/task.h"
#include "core/time.h"
#include "tests/support/doctest.h"

namespace evlua::test {

/// Far beyond what anything here takes.
inline constexpr Duration kLimit = 30 * kSecond;

struct Setup {
  std::string backend;
  unsigned workers = 1;
  BackendFactory factory;
};

class Runtime {
 public:
  explicit Runtime(const Setup& setup)
      : frames_before_(frame_pool_live()),
        scheduler_(std::make_unique<Scheduler>(Scheduler::Options{.workers = setup.workers}, setup.factory)) {}
  ~Runtime() {
    for (unsigned index = 0; index < scheduler_->worker_count(); ++index) {
      CHECK(scheduler_->worker(index).in_flight() == 0);
    }
    scheduler_.reset();
    CHECK(frame_pool_live() == frames_before_);
  }
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  Scheduler& scheduler() noexcept { return *scheduler_; }

  int run(Task<int> main) {
    const Result<int> result = scheduler_->run(std::move(main));
    REQUIRE(result.has_value());
    return *result;
  }

 private:
  const std::int64_t frames_before_;
  std::unique_ptr<Scheduler> scheduler_;
};

template <class Body>
void on_every_backend(unsigned workers, Body body) {
  for (const char* name : {"io_uring", "libev"}) {
    const auto choice = select_backend(name);
    if (!choice) {
      MESSAGE("SKIPPED: ", choice.error());
      continue;
    }
    INFO("backend ", std::string(name));
    CAPTURE(workers);
    body(Setup{name, workers, choice->factory});
  }
}

template <class Body>
void on_every_setup(Body body) {
  for (const unsigned workers : {1U, 2U}) on_every_backend(workers, body);
}

/// Goes to the back of the context's executor. Name it, then await it, as often as wanted.
class Yield : private Runnable {
 public:
  bool await_ready() const noexcept { return false; }
  template <class Awaiting>
  void await_suspend(std::coroutine_handle<Awaiting> awaiting) noexcept {
    handle_ = awaiting;
    run = [](Runnable& self) noexcept { static_cast<Yield&>(self).handle_.resume(); };
    awaiting.promise().context.home->enqueue(*this);
  }
  void await_resume() const noexcept {}

 private:
  std::coroutine_handle<> handle_;
};

/// True as soon as `predicate` holds, false at the limit. Blocks the thread: not for tasks.
template <class Predicate>
bool eventually(Predicate predicate) {
  const Instant deadline = monotonic_now() + kLimit;
  while (!predicate()) {
    if (monotonic_now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  return true;
}

/// Keeps the scheduler up until told, without keeping a worker busy.
inline Task<int> until_set(Event& event) {
  Event::Wait wait = event.wait(monotonic_now() + 4 * kLimit);
  const Result<void> woken = co_await wait;
  co_return woken ? 0 : 1;
}

/// Runs `body` on a thread of its own while the scheduler runs.
template <class Body>
void beside(Runtime& runtime, Body body) {
  Event over;
  std::thread thread([&] {
    body();
    over.set();
  });
  CHECK(runtime.run(until_set(over)) == 0);
  thread.join();
}

}  // namespace evlua::test
