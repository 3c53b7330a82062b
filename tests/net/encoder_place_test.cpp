// Goal: as many places as there may be, of a worker and of a client, and each is given back once.
#include "net/http/encoder_place.h"

#include "tests/support/doctest.h"

using evlua::http::EncoderPlace;

TEST_CASE("a worker's places have an end") {
  std::atomic<std::uint32_t> worker{0};
  std::atomic<std::uint32_t> another{0};
  EncoderPlace first;
  EncoderPlace second;
  EncoderPlace third;
  CHECK(first.take(worker, 2, 0, 1));  // nobody in particular has no share
  CHECK(first.take(worker, 2, 0, 1));  // and the same place
  CHECK(second.take(worker, 2, 0, 1));
  CHECK_FALSE(third.take(worker, 2, 0, 1));
  CHECK(worker == 2);
  CHECK(EncoderPlace::in_use() == 2);
  first.leave();
  first.leave();
  CHECK_FALSE(third.take(worker, 2, 0, 1));  // what was said of a response holds for it
  CHECK(EncoderPlace::refused() == 1);
  third.leave();
  CHECK(third.take(worker, 2, 0, 1));
  CHECK(first.take(another, 2, 0, 1));
}

TEST_CASE("a client has its share over all workers, and the others theirs") {
  std::atomic<std::uint32_t> worker{0};
  std::atomic<std::uint32_t> another{0};
  EncoderPlace other;
  {
    EncoderPlace one;
    EncoderPlace two;
    EncoderPlace three;
    CHECK(one.take(worker, 10, 7, 2));
    CHECK(two.take(another, 10, 7, 2));
    CHECK_FALSE(three.take(worker, 10, 7, 2));
    CHECK(worker == 1);
    CHECK(other.take(worker, 10, 8, 2));
  }
  CHECK(worker == 1);
  CHECK(another == 0);
  EncoderPlace again;
  CHECK(again.take(another, 10, 7, 1));
}
