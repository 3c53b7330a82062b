// Goal: what the streams of a connection hold adds up, but for a little that each may have.
#include "net/http/held_output.h"

#include "tests/support/doctest.h"

using evlua::http::HeldOutput;

TEST_CASE("what all hold is counted, and given back") {
  HeldOutput all;
  HeldOutput::Share one;
  HeldOutput::Share two;
  one.set(all, 100'000);
  two.set(all, 50'000);
  CHECK(all.bytes() == 150'000);
  one.set(all, 10'000);
  CHECK(all.bytes() == 60'000);
  one.set(all, 10'000);
  CHECK(all.bytes() == 60'000);
  two.set(all, 0);
  CHECK(all.bytes() == 10'000);
  one.set(all, 0);
  CHECK(all.bytes() == 0);
}

TEST_CASE("a little does not count") {
  HeldOutput all;
  HeldOutput::Share share;
  share.set(all, HeldOutput::kFree);
  CHECK(all.bytes() == 0);
  share.set(all, HeldOutput::kFree + 1);
  CHECK(all.bytes() == HeldOutput::kFree + 1);
  share.set(all, HeldOutput::kFree);
  CHECK(all.bytes() == 0);
}

TEST_CASE("there is room for eight buffers") {
  HeldOutput all;
  HeldOutput::Share share;
  CHECK(all.fits(80'000, 10'000));
  CHECK(!all.fits(80'001, 10'000));
  share.set(all, 60'000);
  CHECK(all.fits(20'000, 10'000));
  CHECK(!all.fits(20'001, 10'000));
  share.set(all, 90'000);
  CHECK(!all.fits(0, 10'000));
}
