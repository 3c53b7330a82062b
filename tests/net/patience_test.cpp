// Goal: a peer may pause, and is given up on if it is too slow all in all.
#include "net/http/patience.h"

#include "tests/support/doctest.h"

using namespace evlua;
using http::Patience;

namespace {

constexpr Duration kFull = 30 * kSecond;
constexpr std::uint32_t kRate = 240;

/// Seconds that go by before it is at an end, of a peer with so many bytes each time; 0: it never is.
int lasts(Duration pause, std::uint64_t bytes) {
  Patience patience;
  patience.refill(kFull);
  Duration passed = 0;
  while (passed < 100'000 * kSecond) {
    if (patience.left() < pause) return static_cast<int>((passed + patience.left()) / kSecond);
    passed += pause;
    patience.spend(pause, bytes, kFull, kRate);
  }
  return 0;
}

}  // namespace

TEST_CASE("below the rate patience ends, however the bytes are spread") {
  CHECK(lasts(29 * kSecond, 1) == 30);
  CHECK(lasts(kSecond, 1) == 30);
  CHECK(lasts(kSecond, 120) == 59);
  CHECK(lasts(10 * kMillisecond, 1) == 51);  // 100 bytes a second
}

TEST_CASE("at the rate it lasts for ever, with pauses as long as the measure") {
  CHECK(lasts(kSecond, 240) == 0);
  CHECK(lasts(kSecond, 10'000) == 0);
  CHECK(lasts(30 * kSecond, 30 * 240) == 0);
  CHECK(lasts(31 * kSecond, 1'000'000'000) == 30);
}

TEST_CASE("what was sent fast is no credit for later") {
  Patience patience;
  patience.refill(kFull);
  patience.spend(kSecond, 1'000'000'000, kFull, kRate);
  CHECK(patience.left() == kFull);
  patience.spend(0, ~std::uint64_t{0}, kFull, kRate);
  CHECK(patience.left() == kFull);
  patience.spend(20 * kSecond, 0, kFull, kRate);
  CHECK(patience.left() == 10 * kSecond);
  patience.spend(-kSecond, 0, kFull, kRate);  // clocks of two workers
  CHECK(patience.left() == 10 * kSecond);
}

TEST_CASE("without a rate any byte will do") {
  Patience patience;
  patience.refill(kFull);
  patience.spend(29 * kSecond, 0, kFull, 0);
  CHECK(patience.left() == kSecond);
  patience.spend(0, 1, kFull, 0);
  CHECK(patience.left() == kFull);
}
