// Goal: wake ends the owner's current or next wait, whoever calls it and however many do; no wake is lost.
#include <atomic>
#include <thread>
#include <vector>

#include "tests/backends/contract.h"

namespace evlua::test {
namespace {

TEST_CASE_TEMPLATE("a wake before the wait ends that wait, once", Kind, EVLUA_ALL_KINDS) {
  on_each_run<Kind>(50, [](Harness& h) {
    for (int round = 0; round < 20; ++round) {
      std::thread([&h] { h.backend().wake(nullptr); }).join();
      if (round % 2 == 0) h.backend().wake(nullptr);  // several are as one
      if (round % 3 == 0) h.poll();                   // and a poll does not use it up
      h.wait(kNever);
    }
    if (h.is_simulated()) {
      const Instant deadline = h.backend().now() + kMillisecond;
      h.wait(deadline);
      CHECK(h.backend().now() >= deadline);  // none is left over
    }
  });
}

TEST_CASE_TEMPLATE("a foreign thread ends a wait without a deadline", Kind, EVLUA_ALL_KINDS) {
  on_each_run<Kind>(20, [](Harness& h) {
    std::atomic<int> waiting{0};
    constexpr int kRounds = 200;
    std::thread waker([&] {
      for (int round = 1; round <= kRounds; ++round) {
        while (waiting.load() < round) std::this_thread::yield();
        h.backend().wake(nullptr);
      }
    });
    for (int round = 1; round <= kRounds; ++round) {
      waiting.store(round);
      h.wait(kNever);
    }
    waker.join();
  });
}

TEST_CASE_TEMPLATE("messages from several threads all arrive, however the owner sleeps", Kind, EVLUA_ALL_KINDS) {
  on_each_run<Kind>(3, [](Harness& h) {
    struct Message : Runnable {
      int* received = nullptr;
    };
    constexpr std::size_t kThreads = 3;
    constexpr std::size_t kEach = 3000;
    int received = 0;  // owner only
    std::vector<std::vector<Message>> messages(kThreads);
    for (auto& batch : messages) {
      batch = std::vector<Message>(kEach);
      for (Message& message : batch) {
        message.received = &received;
        message.run = [](Runnable& self) noexcept { ++*static_cast<Message&>(self).received; };
      }
    }
    const auto [a, b] = h.pair();
    char room;
    TestOp recv;
    set_recv(recv, b, &room, 1);
    h.submit(recv);  // something to sleep on
    std::vector<std::thread> threads;
    for (auto& batch : messages) {
      threads.emplace_back([&h, &batch] {
        std::size_t count = 0;
        for (Message& message : batch) {
          h.post(message);
          if (++count % 7 == 0) std::this_thread::yield();
        }
      });
    }
    while (received < static_cast<int>(kThreads * kEach)) h.wait(kNever);  // a lost wake would hang here
    for (std::thread& thread : threads) thread.join();
    CHECK_FALSE(recv.is_ready());
    REQUIRE(h.send_all(a, "x"));
    CHECK(h.finish(recv) == 1);
  });
}

/// What two owners play with: each waits for the other's count, then raises its own and wakes the other.
struct Table {
  std::atomic<int> count[2] = {0, 0};
  std::atomic<Backend*> backend[2] = {nullptr, nullptr};
};

template <class Kind>
void play(Table& table, int self, int rounds, SimWorld* world) {
  Harness h(Kind::make(world), nullptr);
  if (!h.start()) return;
  table.backend[self].store(&h.backend());
  while (table.backend[1 - self].load() == nullptr) std::this_thread::yield();
  Backend& peer = *table.backend[1 - self].load();
  for (int round = 1; round <= rounds; ++round) {
    table.count[self].store(round);
    peer.wake(&h.backend());
    while (table.count[1 - self].load() < round) h.wait(kNever);
  }
  // Neither may go before the other has sent its last wake.
  table.backend[self].store(nullptr);
  while (table.backend[1 - self].load() != nullptr) std::this_thread::yield();
}

TEST_CASE_TEMPLATE("two owners wake each other", Kind, EVLUA_ALL_KINDS) {
  SimWorld world(1);
  Table table;
  constexpr int kRounds = 3000;
  std::thread other([&] { play<Kind>(table, 1, kRounds, &world); });
  play<Kind>(table, 0, kRounds, &world);
  other.join();
  CHECK(table.count[0].load() == kRounds);
  CHECK(table.count[1].load() == kRounds);
}

}  // namespace
}  // namespace evlua::test
