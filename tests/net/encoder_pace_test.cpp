// Goal: however many responses are compressed, others come in between any two pieces, and nobody is passed over.
#include "net/http/encoder_pace.h"

#include <algorithm>
#include <vector>

#include "tests/support/async.h"

namespace evlua::test {

namespace {

using http::EncoderPace;

struct Course {
  std::vector<int> order;    // of the responses that had their turn
  std::size_t in_a_row = 0;  // since others had theirs
  std::size_t most = 0;
};

Task<void> compress(EncoderPace& pace, Course& course, int number, int pieces) {
  for (int piece = 0; piece < pieces; ++piece) {
    EncoderPace::Turn turn = pace.turn();
    co_await turn;
    course.order.push_back(number);
    course.most = std::max(course.most, ++course.in_a_row);
  }
}

/// Somebody else who is always ready.
Task<void> work(Course& course, std::size_t until) {
  while (course.order.size() < until) {
    IoAwait yield = io::sleep_until(Worker::current().now());
    (void)co_await yield;
    course.in_a_row = 0;
  }
}

Task<void> many(Env& env) {
  constexpr int kResponses = 40;
  constexpr int kPieces = 10;
  Course course;
  EncoderPace pace(env.scheduler.worker(0));
  TaskScope pacing(env.home);
  TaskScope scope(env.home);
  pacing.spawn(pace.run());
  constexpr std::size_t kAll = kResponses * kPieces;
  scope.spawn(work(course, kAll));
  for (int number = 0; number < kResponses; ++number) scope.spawn(compress(pace, course, number, kPieces));
  co_await scope.join();
  pacing.cancel();
  co_await pacing.join();
  CHECK(course.order.size() == kAll);
  CHECK(course.most <= 2);  // at the end of one turn of the loop, and at the begin of the next
  for (std::size_t at = 0; at < kAll; ++at) CHECK(course.order[at] == static_cast<int>(at % kResponses));
}

}  // namespace

TEST_CASE("others have their turn between two pieces, and all pieces in their order") { on_backends(many); }

}  // namespace evlua::test
