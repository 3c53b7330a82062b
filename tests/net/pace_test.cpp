// Goal: however much work there is that takes long, others come in between, after a few pieces of it each time, and
// nobody is passed over.
#include "net/http/pace.h"

#include <algorithm>
#include <vector>

#include "tests/support/async.h"

namespace evlua::test {

namespace {

using http::Pace;

struct Course {
  std::vector<std::size_t> order;  // of those who had their turn
  std::size_t in_a_row = 0;        // since others had theirs
  std::size_t most = 0;
  std::size_t turns_of_others = 0;
};

Task<void> ask(Pace& pace, Course& course, std::size_t number, std::size_t times) {
  for (; times > 0; --times) {
    Pace::Turn turn(pace);
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
    ++course.turns_of_others;
    course.in_a_row = 0;
  }
}

/// So many tasks have so many turns each. Turns at the end of one turn of the loop and at the begin of the next may
/// follow each other.
Task<void> many(Env& env, Pace& pace, std::uint32_t in_a_row, std::size_t tasks, std::size_t turns, Course& course) {
  TaskScope pacing(env.home);
  TaskScope scope(env.home);
  pacing.spawn(pace.run());
  scope.spawn(work(course, tasks * turns));
  for (std::size_t number = 0; number < tasks; ++number) scope.spawn(ask(pace, course, number, turns));
  co_await scope.join();
  pacing.cancel();
  co_await pacing.join();
  CHECK(course.order.size() == tasks * turns);
  CHECK(course.most <= 2 * in_a_row);
}

Task<void> others_come_in_between(Env& env) {
  Course course;
  Pace pace(env.scheduler.worker(0), Pace::Of::worker, 4);
  co_await many(env, pace, 4, 400, 1, course);
  CHECK(course.turns_of_others >= 400 / (2 * 4));
  CHECK(std::is_sorted(course.order.begin(), course.order.end()));
}

Task<void> nobody_is_passed_over(Env& env) {
  Course course;
  Pace pace(env.scheduler.worker(0), Pace::Of::worker, 4);
  co_await many(env, pace, 4, 20, 10, course);
  // The first one begins alone, for a few turns. Then whoever has had one queues behind those who wait.
  for (std::size_t at = 0; at < 6 * 20; ++at) CHECK(course.order[4 + at] == at % 20);
}

Task<void> nobody_goes_on_at_once(Env& env) {
  Course course;
  Pace pace(env.scheduler.worker(0), Pace::Of::any_thread, 1);
  co_await many(env, pace, 1, 40, 10, course);
  for (std::size_t at = 0; at < course.order.size(); ++at) CHECK(course.order[at] == at % 40);
}

}  // namespace

TEST_CASE("others have their turn after a few, and all of these in their order") {
  on_backends(others_come_in_between);
}
TEST_CASE("who asks several times does not pass the others over") { on_backends(nobody_is_passed_over); }
TEST_CASE("where any thread may ask, everybody waits for a turn") { on_backends(nobody_goes_on_at_once); }

}  // namespace evlua::test
