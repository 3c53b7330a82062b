// Goal: of streams that share a connection each is judged by itself, and all need no more than the rate together.
#include "net/http/rate_watch.h"

#include <vector>

#include "tests/support/doctest.h"

using namespace evlua;
using http::RateWatch;

namespace {

constexpr Duration kFull = 30 * kSecond;
constexpr Duration kLook = kSecond / 2;
constexpr std::uint32_t kRate = 240;

/// Seconds until each of these streams was too slow, which get so many bytes a second; 0: not in an hour.
std::vector<int> last(const std::vector<std::uint64_t>& bytes) {
  std::vector<RateWatch> watches(bytes.size());
  std::vector<int> lasted(bytes.size(), 0);
  for (RateWatch& watch : watches) watch.begin(kFull);
  for (int look = 1; look <= 2 * 3600; ++look) {
    std::uint32_t sharing = 0;
    for (const int seconds : lasted) sharing += seconds == 0 ? 1 : 0;
    for (std::size_t at = 0; at < bytes.size(); ++at) {
      if (lasted[at] != 0) continue;
      if (look % 2 == 0) watches[at].moved(bytes[at]);
      if (watches[at].is_late(kLook, sharing, kFull, kRate)) lasted[at] = look / 2;
    }
  }
  return lasted;
}

}  // namespace

TEST_CASE("one alone has to keep to the rate") {
  CHECK(last({0}) == std::vector{30});
  CHECK(last({120})[0] == 59);
  CHECK(last({240}) == std::vector{0});
}

TEST_CASE("a slow one is found out beside fast ones, which go on") {
  const std::vector<int> lasted = last({1'000'000, 1, 1'000'000});
  CHECK(lasted[0] == 0);
  CHECK(lasted[1] == 30);
  CHECK(lasted[2] == 0);
}

TEST_CASE("a rate that is enough for the connection is enough for all of its streams") {
  CHECK(last(std::vector<std::uint64_t>(60, 4)) == std::vector<int>(60, 0));
  CHECK(last(std::vector<std::uint64_t>(60, 2)) == std::vector<int>(60, 59));
}

TEST_CASE("one whose turn does not come has time as long as all together keep to the rate") {
  RateWatch watch;
  watch.begin(kFull);
  for (int look = 0; look < 2 * 3600; ++look) CHECK(!watch.is_late_in_line(kLook, kRate / 2, kFull, kRate));
  for (int look = 1; look < 2 * 60; ++look) CHECK(!watch.is_late_in_line(kLook, kRate / 4, kFull, kRate));
  CHECK(watch.is_late_in_line(kLook, kRate / 4, kFull, kRate));
  watch.moved(1'000'000);  // is part of what moved, and counts once
  for (int look = 1; look < 2 * 30; ++look) CHECK(!watch.is_late_in_line(kLook, 0, kFull, kRate));
  CHECK(watch.is_late(kLook, 1, kFull, kRate));
}

TEST_CASE("it knows whether it is its turn") {
  RateWatch watch;
  watch.begin(kFull);
  CHECK(!watch.has_moved());
  watch.moved(1);
  CHECK(watch.has_moved());
  CHECK(!watch.is_late(kLook, 1, kFull, kRate));
  CHECK(!watch.has_moved());
}

TEST_CASE("without a rate any byte is enough") {
  RateWatch watch;
  watch.begin(kFull);
  CHECK(!watch.is_late(29 * kSecond, 1, kFull, 0));
  watch.moved(1);
  CHECK(!watch.is_late(29 * kSecond, 1, kFull, 0));
  CHECK(!watch.is_late_in_line(29 * kSecond, 1, kFull, 0));
  CHECK(watch.is_late_in_line(30 * kSecond, 0, kFull, 0));
}

TEST_CASE("who is not waited for has time, and what was sent before is no credit") {
  RateWatch watch;
  watch.begin(kFull);
  watch.moved(~std::uint64_t{0});
  CHECK(!watch.is_late(1000 * kSecond, 0, kFull, kRate));
  CHECK(!watch.is_late(29 * kSecond, 128, kFull, kRate));
  CHECK(watch.is_late(kSecond, 1, kFull, kRate));
  CHECK(!watch.is_late(29 * kSecond, 1, kFull, kRate));  // anew
}
