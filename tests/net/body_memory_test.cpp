// Goal: bodies hold no more than all may, nor those of one client more than its share, whoever holds when.
#include "net/http/body_memory.h"

#include <thread>
#include <vector>

#include "tests/support/doctest.h"

using evlua::http::BodyAllowance;
using Outcome = evlua::http::BodyMemory::Outcome;

namespace {

/// Of a connection whose other bodies have used up what does not count.
class BodyMemory : private BodyAllowance, public evlua::http::BodyMemory {
 public:
  explicit BodyMemory(std::uint64_t network) : evlua::http::BodyMemory(network, *this) { (void)take(kBytes); }
};

}  // namespace

TEST_CASE("all together have an end") {
  BodyMemory one(1);
  BodyMemory other(2);
  CHECK(one.hold(60, 100, 0) == Outcome::held);
  CHECK(other.hold(41, 100, 0) == Outcome::full);
  CHECK(other.hold(40, 100, 0) == Outcome::held);
  CHECK(BodyMemory::in_use() == 100);
}

TEST_CASE("one client has its share, and the others theirs") {
  BodyMemory first(1);
  CHECK(first.hold(20, 1000, 50) == Outcome::held);
  {
    BodyMemory second(1);
    CHECK(second.hold(31, 1000, 50) == Outcome::over_share);
    CHECK(second.hold(30, 1000, 50) == Outcome::held);
    CHECK(first.hold(1, 1000, 50) == Outcome::over_share);
    BodyMemory of_another(2);
    CHECK(of_another.hold(50, 1000, 50) == Outcome::held);
    CHECK(BodyMemory::in_use() == 100);
  }
  CHECK(BodyMemory::in_use() == 20);
  BodyMemory third(1);
  CHECK(third.hold(30, 1000, 50) == Outcome::held);
}

TEST_CASE("a single body may be larger than the share") {
  BodyMemory large(1);
  CHECK(large.hold(40, 1000, 50) == Outcome::held);
  CHECK(large.hold(400, 1000, 50) == Outcome::held);
  BodyMemory next(1);
  CHECK(next.hold(1, 1000, 50) == Outcome::over_share);
}

TEST_CASE("nobody in particular has no share, and with 0 nobody has") {
  BodyMemory first(0);
  BodyMemory second(0);
  CHECK(first.hold(60, 1000, 50) == Outcome::held);
  CHECK(second.hold(60, 1000, 50) == Outcome::held);
  BodyMemory third(1);
  BodyMemory fourth(1);
  CHECK(third.hold(60, 1000, 0) == Outcome::held);
  CHECK(fourth.hold(60, 1000, 0) == Outcome::held);
}

TEST_CASE("from several threads nothing is lost or left") {
  const std::uint64_t before = BodyMemory::in_use();
  std::vector<std::thread> threads;
  for (std::uint64_t thread = 0; thread < 4; ++thread) {
    threads.emplace_back([thread] {
      for (int i = 0; i < 2000; ++i) {
        BodyMemory mine(1 + (thread + static_cast<std::uint64_t>(i)) % 2);
        for (int piece = 0; piece < 3; ++piece) (void)mine.hold(10, 1'000'000, 50);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(BodyMemory::in_use() == before);
  BodyMemory first(1);
  BodyMemory second(1);
  CHECK(first.hold(25, 1'000'000, 50) == Outcome::held);
  CHECK(second.hold(25, 1'000'000, 50) == Outcome::held);
}

TEST_CASE("the first bytes of a connection's bodies do not count, and find room when there is none") {
  BodyMemory greedy(1);
  CHECK(greedy.hold(100, 100, 50) == Outcome::held);
  BodyAllowance allowance;
  {
    evlua::http::BodyMemory small(1, allowance);
    CHECK(small.hold(1000, 100, 50) == Outcome::held);
    CHECK(BodyMemory::in_use() == 100);
    evlua::http::BodyMemory beside_it(1, allowance);
    CHECK(beside_it.hold(BodyAllowance::kBytes - 999, 100, 50) == Outcome::full);
    CHECK(beside_it.hold(BodyAllowance::kBytes - 1000, 100, 50) == Outcome::held);
    CHECK(small.hold(1, 100, 50) == Outcome::full);
    CHECK(small.hold(1, 1000, 50) == Outcome::over_share);
    CHECK(small.hold(1, 1000, 0) == Outcome::held);
    CHECK(BodyMemory::in_use() == 101);
  }
  CHECK(BodyMemory::in_use() == 100);
  evlua::http::BodyMemory after(1, allowance);
  CHECK(after.hold(BodyAllowance::kBytes, 100, 50) == Outcome::held);
}
