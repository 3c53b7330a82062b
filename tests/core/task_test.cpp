// Goal: a task hands over its result once, keeps the stack flat however often and deeply it is awaited, inherits its
// context, and gives its frame back on every way out.
#include "core/task.h"

#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/cancel.h"
#include "core/check.h"
#include "core/error.h"
#include "core/io_await.h"
#include "tests/core/runtime.h"

namespace evlua {
namespace {

using test::on_every_setup;
using test::Runtime;
using test::Setup;
using test::Yield;

/// Starts a task without a scheduler: for tasks that wait for nothing.
struct Ended : Runnable {
  Ended() : Runnable([](Runnable& self) noexcept { ++static_cast<Ended&>(self).times; }) {}
  int times = 0;
};

template <class T>
T run_here(Task<T> task, const TaskContext& context = {}) {
  Ended ended;
  task.start(context, ended);
  REQUIRE(ended.times == 1);
  REQUIRE(task.done());
  return task.take();
}

/// Fails the test that made it when it ends with some alive.
struct Counted {
  explicit Counted(int& alive) : alive_(&alive) { ++alive; }
  Counted(const Counted& other) : alive_(other.alive_) { ++*alive_; }
  Counted& operator=(const Counted&) = delete;
  ~Counted() { --*alive_; }

 private:
  int* alive_;
};

std::uintptr_t here() { return reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0)); }

struct Stack {
  std::uintptr_t lowest = UINTPTR_MAX;
  std::uintptr_t highest = 0;

  void look() {
    const std::uintptr_t at = here();
    if (at < lowest) lowest = at;
    if (at > highest) highest = at;
  }
  std::size_t depth() const { return highest - lowest; }
};

Task<int> give(int value) { co_return value; }

Task<int> sum_of(int count) {
  int sum = 0;
  for (int i = 0; i < count; ++i) sum += co_await give(i);
  co_return sum;
}

TEST_CASE("a result comes out as it was put in, moved and not copied") {
  CHECK(run_here(give(42)) == 42);
  CHECK(run_here(sum_of(10)) == 45);
  constexpr auto move_only = []() -> Task<std::unique_ptr<std::string>> {
    co_return std::make_unique<std::string>("moved");
  };
  const std::unique_ptr<std::string> got = run_here(move_only());
  REQUIRE(got);
  CHECK(*got == "moved");
}

Task<Result<int>> half(int value) {
  if (value % 2 != 0) co_return fail(EDOM, OpCode::task);
  co_return value / 2;
}

Task<Result<int>> quarter(int value) {
  const Result<int> once = co_await half(value);
  if (!once) co_return fail(once.error());
  co_return co_await half(*once);
}

TEST_CASE("errors are results, and pass through those who hand them on") {
  CHECK(run_here(quarter(8)) == 2);
  const Result<int> inner = run_here(quarter(6));
  REQUIRE_FALSE(inner);
  CHECK(inner.error().is(EDOM));
  CHECK(inner.error().op == OpCode::task);
}

Task<int> throws() {
  if (::getpid() != 0) throw std::runtime_error("this went wrong");
  co_return 0;
}

TEST_CASE("an exception that leaves a task ends the process and is named") {
  std::array<int, 2> pipe_ends{};
  REQUIRE(::pipe(pipe_ends.data()) == 0);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    ::dup2(pipe_ends[1], STDERR_FILENO);
    std::signal(SIGABRT, SIG_DFL);  // doctest has a handler, which is not what is tested
    (void)run_here(throws());
    ::_exit(0);
  }
  ::close(pipe_ends[1]);
  std::string said;
  std::array<char, 256> part{};
  for (ssize_t got = 0; (got = ::read(pipe_ends[0], part.data(), part.size())) > 0;) {
    said.append(part.data(), static_cast<std::size_t>(got));
  }
  ::close(pipe_ends[0]);
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(WIFSIGNALED(status));
  CHECK(WTERMSIG(status) == SIGABRT);
  CHECK(said.find("an exception left a task: this went wrong") != std::string::npos);
}

Task<void> look_at(Stack& stack) {
  stack.look();
  co_return;
}

Task<int> look_many_times(Stack& stack, int times) {
  for (int i = 0; i < times; ++i) {
    co_await look_at(stack);
    stack.look();
  }
  co_return times;
}

TEST_CASE("a million awaits of tasks that do not wait leave the stack where it was") {
  Stack stack;
  CHECK(run_here(look_many_times(stack, 1'000'000)) == 1'000'000);
  CHECK(stack.depth() < 4096);
}

Task<int> descend(Stack& stack, int levels) {
  stack.look();
  if (levels == 0) co_return 0;
  const int below = co_await descend(stack, levels - 1);
  stack.look();
  co_return below + 1;
}

TEST_CASE("a chain of a hundred thousand awaits is as flat on the way down as on the way up") {
  const std::int64_t before = frame_pool_live();
  Stack stack;
  CHECK(run_here(descend(stack, 100'000)) == 100'000);
  CHECK(stack.depth() < 4096);
  CHECK(frame_pool_live() == before);
}

Task<int> descend_and_yield(Stack& stack, int levels) {
  Yield yield;
  if (levels == 0) {
    co_await yield;
    co_return 0;
  }
  const int below = co_await descend_and_yield(stack, levels - 1);
  stack.look();
  co_return below + 1;
}

TEST_CASE("a deep chain that waits at its end comes back flat on a worker") {
  on_every_setup([](const Setup& setup) {
    Runtime runtime(setup);
    Stack stack;
    CHECK(runtime.run(descend_and_yield(stack, 10'000)) == 10'000);
    CHECK(stack.depth() < 4096);
  });
}

Task<int> count_yields(Stack& stack, int times) {
  Yield yield;
  for (int i = 0; i < times; ++i) {
    co_await yield;
    if (Worker::current().index() == 0) stack.look();  // of one thread
  }
  co_return times;
}

TEST_CASE("a hundred thousand resumptions by workers leave the stack where it was") {
  on_every_setup([](const Setup& setup) {
    Runtime runtime(setup);
    Stack stack;
    CHECK(runtime.run(count_yields(stack, 100'000)) == 100'000);
    if (stack.highest != 0) CHECK(stack.depth() < 4096);
  });
}

// Not inlined: clang would put the frame on the caller's stack, where the pool does not see it.
[[gnu::noinline]] Task<int> hold(Counted held) {
  (void)held;
  co_return 1;
}

TEST_CASE("a task that never starts frees its frame and its arguments") {
  const std::int64_t before = frame_pool_live();
  int alive = 0;
  {
    Task<int> abandoned = hold(Counted(alive));
    CHECK(alive == 1);
    CHECK(frame_pool_live() == before + 1);
    CHECK_FALSE(abandoned.done());
  }
  CHECK(alive == 0);
  CHECK(frame_pool_live() == before);

  Task<int> reset = hold(Counted(alive));
  reset.reset();
  CHECK_FALSE(reset);
  CHECK(alive == 0);
  reset.reset();  // of nothing is nothing
  CHECK(frame_pool_live() == before);
}

TEST_CASE("a task that is moved has one owner, and what it is moved over goes") {
  const std::int64_t before = frame_pool_live();
  int first = 0;
  int second = 0;
  {
    Task<int> task = hold(Counted(first));
    Task<int> other = hold(Counted(second));
    other = std::move(task);
    CHECK_FALSE(task);  // NOLINT: what a moved-from task is, is the question
    CHECK(first == 1);
    CHECK(second == 0);
    Task<int> third = std::move(other);
    CHECK(frame_pool_live() == before + 1);
    CHECK(run_here(std::move(third)) == 1);
  }
  CHECK(first == 0);
  CHECK(frame_pool_live() == before);
}

Task<int> never_awaits_all(Counted held) {
  const Task<int> unused = hold(held);
  const int got = co_await hold(held);
  co_return got;
}

TEST_CASE("an ended task, and those it made and never awaited, free their frames") {
  const std::int64_t before = frame_pool_live();
  int alive = 0;
  CHECK(run_here(never_awaits_all(Counted(alive))) == 1);
  CHECK(alive == 0);
  CHECK(frame_pool_live() == before);
}

TEST_CASE("whoever is told of the end may destroy the task in that call") {
  struct Destroyer : Runnable {
    Destroyer() : Runnable([](Runnable& self) noexcept { static_cast<Destroyer&>(self).task.reset(); }) {}
    Task<int> task;
  };
  const std::int64_t before = frame_pool_live();
  int alive = 0;
  Destroyer destroyer;
  destroyer.task = hold(Counted(alive));
  destroyer.task.start(TaskContext{}, destroyer);
  CHECK_FALSE(destroyer.task);
  CHECK(alive == 0);
  CHECK(frame_pool_live() == before);
}

[[gnu::noinline]] Task<std::uintptr_t> frame_address() {  // likewise
  struct Address {
    std::uintptr_t value = 0;
    bool await_ready() const noexcept { return false; }
    bool await_suspend(std::coroutine_handle<> handle) noexcept {
      value = reinterpret_cast<std::uintptr_t>(handle.address());
      return false;
    }
    std::uintptr_t await_resume() const noexcept { return value; }
  };
  Address address;
  const std::uintptr_t value = co_await address;
  co_return value;
}

TEST_CASE("the frame of an ended task serves the next one") {
  if (EVLUA_ASAN != 0) return;  // there each frame comes from the heap, to be watched
  const std::uintptr_t first = run_here(frame_address());
  for (int i = 0; i < 1000; ++i) CHECK(run_here(frame_address()) == first);
}

Task<Instant> deadline_seen() {
  const TaskContext& context = co_await current_context();
  co_return context.deadline;
}

Task<int> narrow_the_deadline() {
  TaskContext& context = co_await current_context();
  context.deadline = 5;
  const Instant inner = co_await deadline_seen();
  co_return static_cast<int>(inner);
}

Task<bool> context_is_inherited(CancelState& cancel) {
  const Instant before = co_await deadline_seen();
  const int narrowed = co_await narrow_the_deadline();
  const TaskContext& context = co_await current_context();
  const Instant after = co_await deadline_seen();
  co_return before == 77 && narrowed == 5 && after == 77 && context.cancel == &cancel;
}

TEST_CASE("the context goes down to what is awaited, and changes do not come back up") {
  CancelState cancel;
  CHECK(run_here(context_is_inherited(cancel), TaskContext{nullptr, &cancel, 77}));
}

}  // namespace
}  // namespace evlua
