// Goal: a ByteRing hands over every string whole and in order, whatever the lengths, and refuses only what does not
// fit.
#include "core/lockfree/byte_ring.h"

#include <doctest/doctest.h>

#include <string>
#include <thread>

namespace evlua {
namespace {

std::string taken(ByteRing& ring) {
  const auto pieces = ring.peek();
  std::string all = std::string(pieces[0]) + std::string(pieces[1]);
  ring.consume(all.size());
  return all;
}

TEST_CASE("what does not fit is refused whole, what fits exactly is taken") {
  ByteRing ring(8);
  CHECK(ring.push("12345"));
  CHECK_FALSE(ring.push("6789"));
  CHECK(ring.push("678"));
  CHECK_FALSE(ring.push("9"));
  CHECK(taken(ring) == "12345678");
  CHECK(ring.empty());
  CHECK(ring.push("abc"));
  CHECK(taken(ring) == "abc");
  CHECK(ring.push("defghij"));  // over the edge
  CHECK(ring.peek()[0] == "defgh");
  CHECK(ring.peek()[1] == "ij");
  ring.consume(4);
  CHECK(taken(ring) == "hij");
  CHECK_FALSE(ring.push("123456789"));
}

TEST_CASE("half full, as it is now and not as it was") {
  ByteRing ring(16);
  for (int round = 0; round < 10; ++round) {
    CHECK(ring.push("12345678"));
    CHECK_FALSE(ring.is_half_full());
    CHECK(ring.push("9"));
    CHECK(ring.is_half_full());
    CHECK(taken(ring) == "123456789");
    CHECK_FALSE(ring.is_half_full());
  }
}

TEST_CASE("two threads: nothing is lost, torn or reordered") {
  constexpr int kCount = 200'000;
  ByteRing ring(1024);
  std::thread producer([&] {
    for (int i = 0; i < kCount; ++i) {
      const std::string line = std::to_string(i) + std::string(static_cast<std::size_t>(i % 37), '.') + "\n";
      while (!ring.push(line)) std::this_thread::yield();
    }
  });
  int expected = 0;
  bool whole = true;
  while (expected < kCount && whole) {
    const std::string got = taken(ring);
    whole = got.empty() || got.back() == '\n';
    for (std::size_t at = 0; at < got.size(); ++expected) {
      const std::string line =
          std::to_string(expected) + std::string(static_cast<std::size_t>(expected % 37), '.') + "\n";
      whole = whole && got.compare(at, line.size(), line) == 0;
      at += line.size();
    }
    if (got.empty()) std::this_thread::yield();
  }
  CHECK(whole);
  CHECK(expected == kCount);
  producer.join();
}

}  // namespace
}  // namespace evlua
