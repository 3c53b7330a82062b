// Test bodies that are coroutines, on every backend with one worker and with two.
//
// A body runs on `env.home`, a worker's own executor: what it shares with tasks spawned there needs no lock. CHECK, but
// do not REQUIRE: no exception may leave a task.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <utility>

#include "backends/select.h"
#include "core/io_await.h"
#include "core/scheduler.h"
#include "core/scope.h"
#include "core/task.h"
#include "core/time.h"
#include "core/worker.h"
#include "tests/support/descriptors.h"
#include "tests/support/doctest.h"

namespace evlua::test {

struct Env {
  Scheduler& scheduler;
  Executor& home;
  Executor& elsewhere;  ///< another worker's where there is one
};

using AsyncBody = Task<void> (*)(Env&);

/// What must not take long may take this long.
inline Instant patience() noexcept { return deadline_after(monotonic_now(), 30 * kSecond); }
/// The deadline of a wait that is meant to miss it.
inline Instant soon() noexcept { return deadline_after(monotonic_now(), 20 * kMillisecond); }

/// Lets others run for so long.
inline Task<void> linger(Duration time = 5 * kMillisecond) {
  IoAwait nap = io::sleep_until(deadline_after(monotonic_now(), time));
  (void)co_await nap;
}

/// Waits until the condition holds; false when that takes absurdly long.
inline Task<bool> comes_true(std::function<bool()> condition) {
  const Instant until = patience();
  while (!condition()) {
    if (monotonic_now() > until) co_return false;
    co_await linger(kMillisecond);
  }
  co_return true;
}

/// For a scope: runs the task and keeps its result.
template <class T>
Task<void> keep(Task<T> task, std::optional<T>& out) {
  T result = co_await std::move(task);
  out.emplace(std::move(result));
}

inline Task<int> run_body(Env& env, AsyncBody body) {
  TaskScope scope(env.home);
  scope.spawn(body(env));
  co_await scope.join();
  co_return 0;
}

/// Runs the body on every backend, and checks that no descriptor stays open.
inline void on_backends(AsyncBody body) {
  for (const char* name : {"io_uring", "libev"}) {
    const auto choice = select_backend(name);
    if (!choice) {
      MESSAGE("not available here: ", std::string(name));
      continue;
    }
    for (const unsigned workers : {1U, 2U}) {
      const std::string backend = name;
      CAPTURE(backend);
      CAPTURE(workers);
      const std::size_t before = count_descriptors();
      {
        Scheduler::Options options;
        options.workers = workers;
        Scheduler scheduler(options, choice->factory);
        Env env{scheduler, scheduler.worker(0).pinned(), scheduler.worker(workers - 1).pinned()};
        const Result<int> ended = scheduler.run(run_body(env, body));
        CHECK(ended);
      }
      CHECK(count_descriptors() == before);
    }
  }
}

}  // namespace evlua::test
