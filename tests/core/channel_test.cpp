// Goal: a channel delivers every value once and in order, whoever selects, gives up or closes meanwhile.
#include "core/shared/channel.h"

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/scope.h"
#include "tests/core/runtime.h"

namespace evlua {
namespace {

using test::on_every_setup;
using test::Runtime;
using test::Setup;
using test::Yield;

struct Number {
  explicit Number(std::int64_t number) : value(number) {}

  std::int64_t value;
  std::unique_ptr<Number> next;
};
using Numbers = Channel<std::unique_ptr<Number>>;
using NumbersPtr = std::shared_ptr<Numbers>;

Task<Result<void>> send(NumbersPtr channel, std::int64_t value, Instant deadline = kNever) {
  std::vector<Numbers::Case> cases;
  cases.push_back({channel, true, std::make_unique<Number>(value)});
  Result<Numbers::Chosen> chosen = co_await Numbers::select(cases, 0, deadline);
  if (!chosen) co_return fail(chosen.error());
  if (chosen->error.code != 0) co_return fail(chosen->error);
  co_return Result<void>();
}

Task<Result<std::int64_t>> receive(NumbersPtr channel, Instant deadline = kNever) {
  std::vector<Numbers::Case> cases;
  cases.push_back({channel, false, nullptr});
  Result<Numbers::Chosen> chosen = co_await Numbers::select(cases, 0, deadline);
  if (!chosen) co_return fail(chosen.error());
  if (chosen->error.code != 0) co_return fail(chosen->error);
  co_return cases[0].value->value;
}

constexpr std::int64_t kValues = 3000;

Task<void> produce(NumbersPtr channel, std::int64_t producer) {
  for (std::int64_t i = 0; i < kValues; ++i) {
    const Result<void> sent = co_await send(channel, producer * kValues + i);
    CHECK(sent.has_value());
  }
}

struct Received {
  std::array<std::atomic<int>, 3 * kValues> times{};
  std::atomic<int> count{0};
};

Task<void> consume(NumbersPtr channel, Received& received) {
  std::array<std::int64_t, 3> last{-1, -1, -1};
  while (true) {
    const bool hurried = received.count % 7 == 0;
    const Result<std::int64_t> got = co_await receive(channel, hurried ? monotonic_now() + 20 * kMicrosecond : kNever);
    if (!got && got.error().is(ETIMEDOUT)) continue;
    if (!got) {
      CHECK(got.error().is(Errc::end_of_file));
      co_return;
    }
    received.times[static_cast<std::size_t>(*got)]++;
    received.count++;
    std::int64_t& before = last[static_cast<std::size_t>(*got / kValues)];
    CHECK(*got > before);
    before = *got;
  }
}

Task<void> produce_and_close(Scheduler& scheduler, NumbersPtr channel) {
  TaskScope scope(scheduler);
  for (std::int64_t producer = 0; producer < 3; ++producer) scope.spawn(produce(channel, producer));
  (void)co_await scope.join();
  channel->close();
}

Task<int> exchange(Scheduler& scheduler, std::size_t capacity) {
  const NumbersPtr channel = std::make_shared<Numbers>(capacity);
  const auto received = std::make_unique<Received>();
  TaskScope scope(scheduler);
  for (int i = 0; i < 4; ++i) scope.spawn(consume(channel, *received));
  scope.spawn(produce_and_close(scheduler, channel));
  (void)co_await scope.join();
  CHECK(received->count == 3 * kValues);
  for (const std::atomic<int>& times : received->times) CHECK(times == 1);
  co_return 0;
}

TEST_CASE("many producers and consumers, some in a hurry: every value arrives once, in its producer's order") {
  on_every_setup([](const Setup& setup) {
    for (const std::size_t capacity : {0U, 1U, 16U}) {
      Runtime runtime(setup);
      CHECK(runtime.run(exchange(runtime.scheduler(), capacity)) == 0);
    }
  });
}

/// Sends `total` values over whichever channel takes them, and receives what comes, until it has got as many.
Task<void> play(std::vector<NumbersPtr> channels, int total, std::atomic<std::int64_t>& sum) {
  int sent = 0;
  int got = 0;
  std::size_t turn = 0;
  while (sent < total || got < total) {
    std::vector<Numbers::Case> cases;
    for (const NumbersPtr& channel : channels) {
      if (got < total) cases.push_back({channel, false, nullptr});
      if (sent < total) cases.push_back({channel, true, std::make_unique<Number>(sent + 1)});
    }
    Result<Numbers::Chosen> chosen = co_await Numbers::select(cases, ++turn % cases.size(), kNever);
    CHECK(chosen.has_value());
    const Numbers::Case& happened = cases[chosen->index];
    if (happened.sends) {
      ++sent;
    } else {
      ++got;
      sum += happened.value->value;
    }
  }
}

Task<int> play_all(Scheduler& scheduler) {
  constexpr int kTotal = 500;
  std::vector<NumbersPtr> channels;
  for (int i = 0; i < 3; ++i) channels.push_back(std::make_shared<Numbers>(i == 2 ? 4U : 0U));
  std::atomic<std::int64_t> sum{0};
  TaskScope scope(scheduler);
  for (int i = 0; i < 4; ++i) scope.spawn(play(channels, kTotal, sum));
  (void)co_await scope.join();
  CHECK(sum == 4 * kTotal * (kTotal + 1) / 2);
  for (const NumbersPtr& channel : channels) CHECK(channel->size() == 0);
  co_return 0;
}

TEST_CASE("selects that send and receive on the same channels lose and double nothing") {
  on_every_setup([](const Setup& setup) {
    Runtime runtime(setup);
    CHECK(runtime.run(play_all(runtime.scheduler())) == 0);
  });
}

Task<void> expect_closed_send(NumbersPtr channel) {
  const Result<void> sent = co_await send(channel, 2);
  CHECK(!sent);
  CHECK(sent.error().is(EPIPE));
}

Task<int> closing(Scheduler& scheduler) {
  const NumbersPtr full = std::make_shared<Numbers>(1U);
  Result<void> sent = co_await send(full, 1);
  CHECK(sent.has_value());
  TaskScope scope(scheduler);
  scope.spawn(expect_closed_send(full));
  Yield yield;
  co_await yield;
  full->close();
  (void)co_await scope.join();
  Result<std::int64_t> got = co_await receive(full);
  CHECK(got.value_or(0) == 1);
  got = co_await receive(full);
  CHECK(got.error().is(Errc::end_of_file));
  sent = co_await send(full, 3);
  CHECK(sent.error().is(EPIPE));
  co_return 0;
}

TEST_CASE("closing: queued values are still received, waiting senders fail") {
  on_every_setup([](const Setup& setup) {
    Runtime runtime(setup);
    CHECK(runtime.run(closing(runtime.scheduler())) == 0);
  });
}

}  // namespace
}  // namespace evlua
