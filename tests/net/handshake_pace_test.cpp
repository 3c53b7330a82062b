// Goal: however many handshakes there are to work on, others come in between, after a few of them each time.
#include "net/http/handshake_pace.h"

#include <algorithm>
#include <vector>

#include "tests/support/async.h"

namespace evlua::test {

namespace {

using http::HandshakePace;

struct Course {
  std::vector<int> order;    // of the handshakes that had their turn
  std::size_t in_a_row = 0;  // since others had theirs
  std::size_t most = 0;
  int turns_of_others = 0;
};

Task<void> shake(HandshakePace& pace, Course& course, int number, int flights) {
  for (int flight = 0; flight < flights; ++flight) {
    co_await pace.turn();
    course.order.push_back(number);
    course.most = std::max(course.most, ++course.in_a_row);
  }
}

/// Somebody else who is always ready.
Task<void> work(Course& course, std::size_t until) {
  while (course.order.size() < until) {
    IoAwait yield = io::sleep_until(Worker::current().now());
    (void)co_await yield;
    ++course.turns_of_others;
    course.in_a_row = 0;
  }
}

Task<void> many(Env& env, int handshakes, int flights, Course& course) {
  HandshakePace pace(env.scheduler.worker(0));
  TaskScope pacing(env.home);
  TaskScope scope(env.home);
  pacing.spawn(pace.run());
  const auto all = static_cast<std::size_t>(handshakes * flights);
  scope.spawn(work(course, all));
  for (int number = 0; number < handshakes; ++number) scope.spawn(shake(pace, course, number, flights));
  co_await scope.join();
  pacing.cancel();
  co_await pacing.join();
  CHECK(course.order.size() == all);
}

/// A few wait no longer than they have to; those at the end of one turn and at the begin of the next may follow each
/// other.
Task<void> others_come_in_between(Env& env) {
  Course course;
  co_await many(env, 400, 1, course);
  CHECK(course.most <= 2 * HandshakePace::kInARow);
  CHECK(course.turns_of_others >= 400 / (2 * static_cast<int>(HandshakePace::kInARow)));
  CHECK(std::is_sorted(course.order.begin(), course.order.end()));
}

Task<void> nobody_is_passed_over(Env& env) {
  Course course;
  co_await many(env, 20, 10, course);
  CHECK(course.most <= 2 * HandshakePace::kInARow);
  // The first one begins alone, for a few turns. Then whoever has had one queues behind those who wait.
  const std::size_t alone = HandshakePace::kInARow;
  for (std::size_t at = 0; at < 6 * 20; ++at) CHECK(course.order[alone + at] == static_cast<int>(at % 20));
}

}  // namespace

TEST_CASE("others have their turn after a few handshakes, and all handshakes in their order") {
  on_backends(others_come_in_between);
}
TEST_CASE("a handshake that has several parts does not pass the others over") { on_backends(nobody_is_passed_over); }

}  // namespace evlua::test
