// Goal: a ByteRing hands over every string whole and in order, whatever the lengths, and refuses only what does not
// fit.
#include "core/lockfree/byte_ring.h"

#include <doctest/doctest.h>

#include <string>
#include <string_view>
#include <thread>

#include "tests/support/stepper.h"

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

/// One thread pushes strings that go round the ring and do not all fit; the other one takes what there is, a few times.
/// A string shows whole or not at all, and what was refused leaves no trace.
struct HandOver {
  void run(int thread) {
    if (thread == 0) {
      for (const std::string_view text : {"abc.", "de.", "fghi.", "j."}) {
        half_full |= ring.is_half_full();
        if (ring.push(text)) pushed += text;
      }
      return;
    }
    for (int looks = 0; looks < 3; ++looks) {
      const bool empty = ring.empty();
      const auto pieces = ring.peek();
      const std::string got = std::string(pieces[0]) + std::string(pieces[1]);
      torn = torn || (!got.empty() && got.back() != '.') || (got.empty() && !empty);
      // The first one may be consumed alone, then the rest is seen again.
      const std::size_t taken = looks == 1 ? got.find('.') + 1 : got.size();
      seen += got.substr(0, taken);
      ring.consume(taken);
    }
  }
  const char* check() {
    if (torn) return "a string is torn, or was there and is gone";
    const auto pieces = ring.peek();
    seen += std::string(pieces[0]) + std::string(pieces[1]);
    return seen == pushed ? nullptr : "what comes out is not what went in";
  }

  BasicByteRing<test::SteppedAtomics> ring{8};
  std::string pushed;
  std::string seen;
  bool half_full = false;
  bool torn = false;
};

TEST_CASE("every interleaving of a producer and a consumer") {
  const test::Stepper::Outcome outcome = test::Stepper::explore<HandOver>(2);
  CHECK_MESSAGE(outcome.failure == nullptr, std::string(outcome.failure ? outcome.failure : ""), " ", outcome.schedule);
  CHECK(outcome.schedules > 100);
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
