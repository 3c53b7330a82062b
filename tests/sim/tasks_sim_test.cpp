// Goal: scheduler, strands, scopes, events, timers, sockets and files hold together, whichever worker goes on when, and
// whatever the kernel answers. Random programs of tasks run under many seeds; each checks what it can know.
#include <fcntl.h>

#include <algorithm>
#include <array>
#include <deque>
#include <string>
#include <vector>

#include "core/cancel.h"
#include "core/event.h"
#include "core/io_await.h"
#include "core/scope.h"
#include "core/strand.h"
#include "tests/sim/simulation.h"

namespace evlua::test {
namespace {

/// Something that only one task may be in at a time.
struct Guarded {
  explicit Guarded(Scheduler& scheduler) : strand(scheduler) {}
  Strand strand;
  bool occupied = false;
  std::uint64_t entered = 0;
  std::uint64_t expected = 0;
};

struct Program {
  explicit Program(Simulation& simulation) : sim(simulation), outermost(sim.scheduler()) {
    for (int i = 0; i < 3; ++i) sim.watch(guarded.emplace_back(sim.scheduler()).strand);
    sim.add_invariant([this] { return check_descriptors(); });
    sim.add_idle_invariant([this] { return check_waiters(); });
  }

  /// Those that tasks have, those that an open may have made already, and those that are about to be closed.
  const char* check_descriptors() const {
    const std::size_t open = sim.world().open_descriptors();
    if (open < descriptors) return "a descriptor was closed that is in use";
    const std::size_t closing = sim.world().in_flight(OpCode::close);
    return open <= descriptors + opening + closing ? nullptr : "a descriptor has leaked";
  }
  const char* check_waiters() const {
    for (Event* event : waited_for) {
      if (event->is_set()) return "lost wake-up: a task waits for what has happened";
    }
    return nullptr;
  }
  void close(int fd) {
    Worker::current().close_later(fd);
    --descriptors;
  }

  std::uint64_t below(std::uint64_t limit) { return sim.random().below(limit); }
  Instant soon() { return sim.world().now() + static_cast<Duration>(below(50)) * kMillisecond; }

  /// Alone on the strand, also while others go on in between.
  void enter(Guarded& place) {
    if (!place.strand.is_current()) sim.violation("a task runs outside of its strand");
    if (place.occupied) sim.violation("two tasks are on one strand at once");
    place.occupied = true;
    for (std::uint64_t i = below(4); i > 0; --i) sim.interleave();
    place.occupied = false;
    ++place.entered;
  }

  Task<void> on_strand(Guarded& place, std::uint64_t rounds) {
    for (std::uint64_t i = 0; i < rounds; ++i) {
      enter(place);
      if (below(2) == 0) {
        IoAwait nap = io::sleep_until(soon());
        (void)co_await nap;
      }
    }
    enter(place);
  }

  Task<void> echo(int fd) {
    std::array<char, 700> bytes;
    while (true) {
      IoAwait receive = io::recv(fd, bytes.data(), bytes.size());
      const Result<std::int32_t> got = co_await receive;
      if (!got || *got == 0) break;
      std::int32_t sent = 0;
      while (sent < *got) {
        IoAwait send = io::send(fd, bytes.data() + sent, static_cast<std::uint32_t>(*got - sent));
        const Result<std::int32_t> count = co_await send;
        if (!count) break;
        sent += *count;
      }
      if (sent < *got) break;
    }
    close(fd);
  }

  /// What is sent comes back, unless the connection breaks or the task is stopped.
  Task<void> talk(int fd) {
    std::string text(1 + below(3000), ' ');
    for (char& byte : text) byte = static_cast<char>('a' + below(26));
    std::size_t sent = 0;
    std::string back;
    std::array<char, 900> bytes;
    bool broken = false;
    while (!broken && back.size() < text.size()) {
      if (sent < text.size()) {
        const std::size_t size = std::min<std::size_t>(text.size() - sent, 500);
        IoAwait send = io::send(fd, text.data() + sent, static_cast<std::uint32_t>(size));
        const Result<std::int32_t> count = co_await send;
        broken = !count;
        if (count) sent += static_cast<std::size_t>(*count);
      }
      while (!broken && back.size() < sent) {
        IoAwait receive = io::recv(fd, bytes.data(), bytes.size());
        if (below(4) == 0) receive.until(soon());
        const Result<std::int32_t> got = co_await receive;
        if (!got && got.error().is(ETIMEDOUT) && below(8) != 0) continue;
        broken = !got || *got == 0;
        if (!broken) back.append(bytes.data(), static_cast<std::size_t>(*got));
      }
    }
    if (text.compare(0, back.size(), back) != 0) sim.violation("other bytes came back than were sent");
    if (!broken) ++talks_ended;
    close(fd);
  }

  Task<void> connection() {
    const std::array<int, 2> ends = sim.world().socket_pair();
    descriptors += 2;
    TaskScope scope(sim.scheduler());
    scope.spawn(echo(ends[0]));
    scope.spawn(talk(ends[1]));
    co_await scope.join();
  }

  Task<void> file(int number) {
    std::string path = "/file" + std::to_string(number);
    IoAwait open = io::open(AT_FDCWD, path.c_str(), O_CREAT | O_RDWR | O_TRUNC, 0600);
    ++opening;
    const Result<std::int32_t> fd = co_await open;
    --opening;
    if (!fd) co_return;
    ++descriptors;
    std::string text(1 + below(2000), static_cast<char>('A' + number % 26));
    std::size_t written = 0;
    while (written < text.size()) {
      IoAwait write = io::write(*fd, text.data() + written, static_cast<std::uint32_t>(text.size() - written),
                                static_cast<std::int64_t>(written));
      const Result<std::int32_t> count = co_await write;
      if (!count) break;
      written += static_cast<std::size_t>(*count);
    }
    if (sim.world().contents(path)->substr(0, written) != text.substr(0, written))
      sim.violation("a file has other bytes");
    close(*fd);
  }

  /// Sets an event that others wait for, some of them with less patience.
  Task<void> meeting() {
    Event event;
    TaskScope scope(sim.scheduler());
    int woken = 0;
    for (std::uint64_t i = below(5); i > 0; --i) scope.spawn(wait_for(event, woken));
    IoAwait nap = io::sleep_until(soon());
    (void)co_await nap;
    event.set();
    co_await scope.join();
  }
  Task<void> wait_for(Event& event, int& woken) {
    Event::Wait wait = event.wait(below(3) == 0 ? soon() : kNever);
    waited_for.push_back(&event);
    const Result<void> result = co_await wait;
    waited_for.erase(std::find(waited_for.begin(), waited_for.end(), &event));
    if (result) ++woken;
  }

  /// Some of everything; deeper, and cancelled before its end, perhaps.
  Task<void> some(int depth) {
    TaskScope scope(sim.scheduler(), below(4) == 0 ? soon() + kSecond : kNever);
    for (std::uint64_t i = 1 + below(4); i > 0; --i) {
      switch (below(depth < 3 ? 6 : 5)) {
        case 0: {
          Guarded& place = guarded[below(guarded.size())];
          const std::uint64_t rounds = below(5);
          place.expected += rounds + 1;
          scope.spawn_on(place.strand, on_strand(place, rounds));
          break;
        }
        case 1: scope.spawn(connection()); break;
        case 2: scope.spawn(file(files++)); break;
        case 3: scope.spawn(meeting()); break;
        case 4: {
          Worker& worker = sim.scheduler().worker(static_cast<unsigned>(below(sim.scheduler().worker_count())));
          scope.spawn_on(worker.pinned(), meeting());
          break;
        }
        default: scope.spawn(some(depth + 1));
      }
    }
    if (below(4) == 0) {
      IoAwait nap = io::sleep_until(soon());
      (void)co_await nap;
      scope.cancel();
      if (below(2) == 0) scope.spawn(for_ever());
    }
    co_await scope.join();
    ++parts_ended;
  }

  /// Ends only by being cancelled, and it was when it began.
  Task<void> for_ever() {
    Event never;
    Event::Wait wait = never.wait();
    (void)co_await wait;
  }

  /// A thread from outside brings work, when the workers may be asleep.
  void send_from_outside(std::uint64_t step) {
    ++to_come;
    sim.at_step(step, [this] {
      outermost.spawn(on_strand_of_any());
      outermost.spawn(meeting());
      if (--to_come == 0) all_came.set();
    });
  }
  Task<void> on_strand_of_any() {
    TaskScope scope(sim.scheduler());
    Guarded& place = guarded[below(guarded.size())];
    ++place.expected;
    scope.spawn_on(place.strand, on_strand(place, 0));
    co_await scope.join();
  }

  Task<int> main() {
    outermost.spawn(some(small ? 2 : 0));
    if (!small) outermost.spawn(some(0));
    Event::Wait wait = all_came.wait();
    (void)co_await wait;
    co_await outermost.join();
    for (Guarded& place : guarded) {
      if (place.entered != place.expected) sim.violation("work on a strand was lost, or done twice");
      place.strand.wait_until_left();
    }
    co_return 0;
  }

  Simulation& sim;
  std::deque<Guarded> guarded;
  bool small = false;
  TaskScope outermost;  // outlives the run: whoever cancels it may be late
  int to_come = 0;
  Event all_came;
  std::vector<Event*> waited_for;
  std::size_t descriptors = 0;
  std::size_t opening = 0;
  int files = 0;
  int talks_ended = 0;
  int parts_ended = 0;
};

struct Outcome {
  std::uint64_t digest = 0;
  std::uint64_t steps = 0;
  std::uint64_t fallible = 0;
  int talks = 0;
};

struct Run {
  std::uint64_t seed;
  SimFaults faults{};
  unsigned workers = 2;
  bool small = false;
  std::uint64_t cancel_at = 0;
};

Outcome run_program(const Run& run) {
  Simulation sim({.seed = run.seed, .workers = run.workers, .faults = run.faults});
  Program program(sim);
  program.small = run.small;
  const std::uint64_t senders = sim.random().below(run.small ? 2 : 6);
  if (senders == 0) program.all_came.set();
  for (std::uint64_t i = 0; i < senders; ++i) program.send_from_outside(sim.random().below(run.small ? 500 : 20000));
  if (run.cancel_at != 0) {
    sim.at_step(run.cancel_at, [&] { program.outermost.cancel(); });
  }
  CHECK(sim.run(program.main()) == 0);
  return {sim.world().digest(), sim.steps(), sim.world().fallible_steps(), program.talks_ended};
}

TEST_CASE("random programs of tasks keep every promise") {
  int talks = 0;
  for_each_seed("tasks", 12000, [&](std::uint64_t seed) {
    SimRandom random(seed);
    const SimFaults faults = some_faults(random, random.chance(0.5));
    const unsigned workers = 1 + static_cast<unsigned>(random.below(4));
    talks += run_program({.seed = seed, .faults = faults, .workers = workers}).talks;
  });
  CHECK(talks > 0);
}

TEST_CASE("a seed decides everything") {
  for_each_seed("tasks, twice", 500, [](std::uint64_t seed) {
    const Outcome first = run_program({.seed = seed, .workers = 3});
    const Outcome second = run_program({.seed = seed, .workers = 3});
    CHECK(first.digest == second.digest);
    CHECK(first.steps == second.steps);
  });
}

TEST_CASE("torture: each fallible operation fails once") {
  for_each_seed("tasks, each operation failing", 40, [](std::uint64_t seed) {
    const Run run{.seed = seed, .faults = SimFaults::none(), .small = seed % 8 != 0};
    torture(
        run_program, run, &Outcome::fallible, [](Run & each) -> auto& { return each.faults.fail_at; });
  });
}

TEST_CASE("torture: all is cancelled at every step") {
  for_each_seed("tasks, cancelled", 40, [](std::uint64_t seed) {
    torture(run_program, Run{.seed = seed, .small = true}, &Outcome::steps, &Run::cancel_at);
  });
}

}  // namespace
}  // namespace evlua::test
