// Goal: a stop asked for before, during or after a wait, from any thread and in any order with a deadline, ends the
// wait exactly once, with the right reason, and leaves no operation behind.
#include "core/cancel.h"

#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <optional>
#include <thread>
#include <vector>

#include "core/blocking.h"
#include "core/event.h"
#include "core/io_await.h"
#include "core/scope.h"
#include "tests/core/runtime.h"

namespace evlua {
namespace {

using test::on_every_setup;
using test::Runtime;
using test::Setup;
using test::Yield;

/// Two connected sockets; nothing is ever sent unless a test does.
class Pair {
 public:
  Pair() { REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds_.data()) == 0); }
  ~Pair() {
    ::close(fds_[0]);
    ::close(fds_[1]);
  }
  Pair(const Pair&) = delete;
  Pair& operator=(const Pair&) = delete;

  int reader() const noexcept { return fds_[0]; }
  void put(char byte) const { CHECK(::send(fds_[1], &byte, 1, 0) == 1); }

 private:
  std::array<int, 2> fds_{};
};

struct Target : CancelTarget {
  Target() {
    request_stop = [](CancelTarget& self, OpStop why) noexcept {
      auto& target = static_cast<Target&>(self);
      ++target.asked;
      target.reason = why;
    };
  }
  int asked = 0;
  OpStop reason = OpStop::none;
};

TEST_CASE("a request reaches what is registered, once, and the first reason stays") {
  CancelState state;
  Target target;
  CHECK(state.why() == OpStop::none);
  REQUIRE(state.arm(target));
  state.request(OpStop::deadline);
  state.request(OpStop::cancelled);
  CHECK(target.asked == 1);
  CHECK(target.reason == OpStop::deadline);
  CHECK(state.why() == OpStop::deadline);
  state.disarm();
  CHECK_FALSE(state.arm(target));
  CHECK(target.asked == 1);
}

TEST_CASE("a request reaches nothing that has deregistered") {
  CancelState state;
  Target first;
  Target second;
  REQUIRE(state.arm(first));
  state.disarm();
  REQUIRE(state.arm(second));
  state.disarm();
  state.request(OpStop::cancelled);
  CHECK(first.asked == 0);
  CHECK(second.asked == 0);
}

TEST_CASE("requests from several threads race with waits that come and go") {
  for (int round = 0; round < 300; ++round) {
    CancelState state;
    std::array<std::thread, 2> askers;
    for (std::thread& asker : askers) asker = std::thread([&] { state.request(OpStop::cancelled); });
    int asked = 0;
    while (true) {
      Target target;
      const bool armed = state.arm(target);
      if (armed) state.disarm();
      asked += target.asked;
      if (!armed || target.asked != 0) break;
    }
    for (std::thread& asker : askers) asker.join();
    CHECK(asked <= 1);
    CHECK(state.why() == OpStop::cancelled);
  }
}

/// How one wait went. Written by the child, read after the join.
struct Outcome {
  std::atomic<int> starts{0};
  std::atomic<int> ends{0};
  int result = 0;  ///< or a negated errno
};

int as_number(const Result<std::int32_t>& result) { return result ? *result : -result.error().code; }

Task<void> receive(int fd, Instant deadline, Outcome& outcome) {
  char byte = 0;
  IoAwait recv = io::recv(fd, &byte, 1);
  recv.until(deadline);
  ++outcome.starts;
  const Result<std::int32_t> got = co_await recv;
  outcome.result = as_number(got);
  ++outcome.ends;
}

Task<void> sleep(Instant deadline, Outcome& outcome) {
  IoAwait op = io::sleep_until(deadline);
  ++outcome.starts;
  const Result<std::int32_t> got = co_await op;
  outcome.result = as_number(got);
  ++outcome.ends;
}

Task<void> until(std::atomic<int>& counter, int value) {
  Yield yield;
  const Instant late = monotonic_now() + test::kLimit;
  while (counter.load() < value && monotonic_now() < late) co_await yield;
}

enum class When { before_start, in_flight, after_end };

Task<int> cancel_receive(Scheduler& scheduler, const Pair& pair, When when, Instant deadline, Outcome& outcome) {
  TaskScope scope(scheduler);
  if (when == When::before_start) scope.cancel();
  scope.spawn(receive(pair.reader(), deadline, outcome));
  if (when == When::in_flight) {
    co_await until(outcome.starts, 1);
    scope.cancel();
  }
  if (when == When::after_end) {
    pair.put('x');
    co_await until(outcome.ends, 1);
    scope.cancel();
  }
  co_await scope.join();
  co_return outcome.result;
}

TEST_CASE("a receive is cancelled before it starts, while it waits, or not at all once it is over") {
  on_every_setup([](const Setup& setup) {
    for (const bool with_deadline : {false, true}) {
      for (const When when : {When::before_start, When::in_flight, When::after_end}) {
        CAPTURE(static_cast<int>(when));
        CAPTURE(with_deadline);
        const Pair pair;
        Runtime runtime(setup);
        Outcome outcome;
        const Instant deadline = with_deadline ? monotonic_now() + test::kLimit : kNever;
        const int result = runtime.run(cancel_receive(runtime.scheduler(), pair, when, deadline, outcome));
        CHECK(result == (when == When::after_end ? 1 : -ECANCELED));
        CHECK(outcome.ends.load() == 1);
      }
    }
  });
}

Task<int> time_out(Scheduler& scheduler, const Pair& pair, Instant deadline, bool cancel_after, Outcome& outcome) {
  TaskScope scope(scheduler);
  scope.spawn(receive(pair.reader(), deadline, outcome));
  co_await until(outcome.ends, 1);
  if (cancel_after) scope.cancel();
  co_await scope.join();
  co_return outcome.result;
}

TEST_CASE("a deadline, also one in the past, ends a receive with ETIMEDOUT, whatever is asked afterwards") {
  on_every_setup([](const Setup& setup) {
    for (const Duration after : {-kSecond, Duration{0}, 10 * kMillisecond}) {
      for (const bool cancel_after : {false, true}) {
        CAPTURE(after);
        const Pair pair;
        Runtime runtime(setup);
        Outcome outcome;
        const Instant deadline = monotonic_now() + after;
        CHECK(runtime.run(time_out(runtime.scheduler(), pair, deadline, cancel_after, outcome)) == -ETIMEDOUT);
        CHECK(monotonic_now() >= deadline);
        CHECK(outcome.ends.load() == 1);
      }
    }
  });
}

/// The cancel, the deadline and the data come at about the same time; `round` shifts them against each other.
Task<int> race(Scheduler& scheduler, const Pair& pair, int round, std::vector<std::thread>& threads, Outcome& outcome) {
  TaskScope scope(scheduler);
  const Instant meet = monotonic_now() + 300 * kMicrosecond;
  scope.spawn(receive(pair.reader(), meet + (round % 5 - 2) * 20 * kMicrosecond, outcome));
  threads.emplace_back([&scope, meet, round] {
    while (monotonic_now() < meet + (round / 5 % 5 - 2) * 20 * kMicrosecond) {
    }
    scope.cancel();
  });
  threads.emplace_back([&pair, meet, round] {
    while (monotonic_now() < meet + (round / 25 % 5 - 2) * 20 * kMicrosecond) {
    }
    pair.put('x');
  });
  co_await scope.join();
  for (std::thread& thread : threads) thread.join();
  threads.clear();
  co_return outcome.result;
}

TEST_CASE("data, deadline and a foreign cancel race: one result, and no byte is lost") {
  on_every_setup([](const Setup& setup) {
    for (int round = 0; round < 125; ++round) {
      CAPTURE(round);
      const Pair pair;
      Outcome outcome;
      std::vector<std::thread> threads;
      Runtime runtime(setup);
      const int result = runtime.run(race(runtime.scheduler(), pair, round, threads, outcome));
      const bool known = result == 1 || result == -ECANCELED || result == -ETIMEDOUT;
      CHECK(known);
      CHECK(outcome.ends.load() == 1);
      char byte = 0;
      const ssize_t left = ::recv(pair.reader(), &byte, 1, MSG_DONTWAIT);
      CHECK(left == (result == 1 ? -1 : 1));
    }
  });
}

Task<int> cancel_sleep(Scheduler& scheduler, Outcome& outcome, std::vector<std::thread>& threads) {
  TaskScope scope(scheduler);
  scope.spawn(sleep(kNever, outcome));
  co_await until(outcome.starts, 1);
  for (int i = 0; i < 2; ++i) threads.emplace_back([&scope] { scope.cancel(); });
  co_await scope.join();
  for (std::thread& thread : threads) thread.join();
  threads.clear();
  co_return outcome.result;
}

TEST_CASE("foreign threads that ask together end a sleep once") {
  on_every_setup([](const Setup& setup) {
    for (int round = 0; round < 50; ++round) {
      Outcome outcome;
      std::vector<std::thread> threads;
      Runtime runtime(setup);
      CHECK(runtime.run(cancel_sleep(runtime.scheduler(), outcome, threads)) == -ECANCELED);
      CHECK(outcome.ends.load() == 1);
    }
  });
}

Task<int> chain_deadline(int fd) {
  TaskContext& context = co_await current_context();
  context.deadline = monotonic_now() + 10 * kMillisecond;
  char byte = 0;
  int timed_out = 0;
  for (int i = 0; i < 3; ++i) {  // the later ones are over before they begin
    IoAwait recv = io::recv(fd, &byte, 1);
    recv.until(monotonic_now() + test::kLimit);
    const Result<std::int32_t> got = co_await recv;
    if (!got && got.error().is(ETIMEDOUT)) ++timed_out;
  }
  co_return timed_out;
}

TEST_CASE("the context's deadline limits every wait, the op's own may only be nearer") {
  on_every_setup([](const Setup& setup) {
    const Pair pair;
    Runtime runtime(setup);
    CHECK(runtime.run(chain_deadline(pair.reader())) == 3);
  });
}

Task<void> wait_for(Event& event, Instant deadline, Outcome& outcome) {
  Event::Wait wait = event.wait(deadline);
  ++outcome.starts;
  const Result<void> woken = co_await wait;
  outcome.result = woken ? 0 : -woken.error().code;
  ++outcome.ends;
}

Task<int> event_cases(Scheduler& scheduler, Event& event, std::array<Outcome, 4>& outcomes) {
  TaskScope cancelled(scheduler);
  TaskScope other(scheduler);
  cancelled.spawn(wait_for(event, kNever, outcomes[0]));
  other.spawn(wait_for(event, kNever, outcomes[1]));
  other.spawn(wait_for(event, monotonic_now() - 1, outcomes[2]));
  co_await until(outcomes[0].starts, 1);
  cancelled.cancel();
  co_await cancelled.join();
  co_await until(outcomes[2].ends, 1);
  event.set();
  co_await other.join();
  other.spawn(wait_for(event, kNever, outcomes[3]));
  co_await other.join();
  co_return 0;
}

TEST_CASE("a wait for an event ends by the event, by a cancel, or by its deadline") {
  on_every_setup([](const Setup& setup) {
    Event event;
    std::array<Outcome, 4> outcomes;
    Runtime runtime(setup);
    CHECK(runtime.run(event_cases(runtime.scheduler(), event, outcomes)) == 0);
    CHECK(outcomes[0].result == -ECANCELED);
    CHECK(outcomes[1].result == 0);
    CHECK(outcomes[2].result == -ETIMEDOUT);
    CHECK(outcomes[3].result == 0);
    for (const Outcome& outcome : outcomes) CHECK(outcome.ends.load() == 1);
  });
}

Task<void> block(Scheduler& scheduler, std::atomic<bool>& ran, Outcome& outcome) {
  auto call = blocking(scheduler.pool(), [&ran] {
    ran = true;
    return 7;
  });
  ++outcome.starts;
  const std::optional<int> got = co_await call;
  outcome.result = got.value_or(-ECANCELED);
  ++outcome.ends;
}

Task<int> cancel_blocking(Scheduler& scheduler, bool before, std::atomic<bool>& ran, Outcome& outcome) {
  TaskScope scope(scheduler);
  if (before) scope.cancel();
  scope.spawn(block(scheduler, ran, outcome));
  co_await until(outcome.starts, 1);
  scope.cancel();
  co_await scope.join();
  co_return outcome.result;
}

TEST_CASE("a blocking call is withdrawn or runs, and its waiter is told which") {
  on_every_setup([](const Setup& setup) {
    for (int round = 0; round < 20; ++round) {
      for (const bool before : {true, false}) {
        std::atomic<bool> ran{false};
        Outcome outcome;
        Runtime runtime(setup);
        const int result = runtime.run(cancel_blocking(runtime.scheduler(), before, ran, outcome));
        CHECK(result == (ran.load() ? 7 : -ECANCELED));
        if (before) CHECK_FALSE(ran.load());
        CHECK(outcome.ends.load() == 1);
      }
    }
  });
}

}  // namespace
}  // namespace evlua
