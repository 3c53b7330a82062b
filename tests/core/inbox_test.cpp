// Goal: no message is lost, and a consumer that went away is woken by exactly one caller. Every interleaving of
// posting, marking and unmarking; then many producers and a consumer that really sleeps.
#include "core/inbox.h"

#include <array>
#include <atomic>
#include <thread>
#include <vector>

#include "core/lockfree/futex.h"
#include "tests/support/doctest.h"
#include "tests/support/stepper.h"

namespace evlua {
namespace {

using test::Stepper;
using SteppedInbox = BasicInbox<test::SteppedAtomics>;

/// Messages are told apart by their place; the consumer's batches are checked for order per producer.
struct Mail {
  std::array<Runnable, 6> messages;
  std::array<int, 6> received{};
  std::array<int, 6> order{};
  int count = 0;

  void receive(SteppedInbox& inbox) {
    for (Runnable* message = inbox.take_all(); message != nullptr;) {
      Runnable* following = message->next;
      const auto n = static_cast<std::size_t>(message - messages.data());
      ++received[n];
      order[n] = count++;
      message = following;
    }
  }

  /// Messages 0 ... posted-1, each once.
  const char* verdict(std::size_t posted) const {
    for (std::size_t n = 0; n < messages.size(); ++n) {
      if (received[n] != (n < posted ? 1 : 0)) return "a message was lost, doubled or invented";
    }
    return nullptr;
  }
};

template <class Scenario>
void check_all(int threads, std::uint64_t schedules_min) {
  const Stepper::Outcome outcome = Stepper::explore<Scenario>(threads);
  INFO("schedule ", outcome.schedule);
  const bool held = outcome.failure == nullptr;
  CHECK_MESSAGE(held, (held ? "" : outcome.failure));
  CHECK(outcome.schedules >= schedules_min);
}

TEST_CASE("of two posters, exactly one wakes a consumer that went away, and none one that stayed") {
  struct Scenario {
    SteppedInbox inbox;
    Mail mail;
    bool away = false;
    int wakes = 0;
    void run(int thread) {
      if (thread == 2) {
        away = inbox.try_mark();
      } else if (inbox.post(mail.messages[static_cast<std::size_t>(thread)])) {
        ++wakes;
      }
    }
    const char* check() {
      if (wakes != (away ? 1 : 0)) return "not exactly one waker";
      mail.receive(inbox);
      return mail.verdict(2);
    }
  };
  check_all<Scenario>(3, 10);
}

TEST_CASE("posting, waking for work and waking by itself clear a mark exactly once") {
  struct Scenario {
    SteppedInbox inbox{SteppedInbox::Start::away};
    Mail mail;
    int clears = 0;
    void run(int thread) {
      const bool cleared = thread == 0 ? inbox.post(mail.messages[0]) : inbox.unmark();
      if (cleared) ++clears;
    }
    const char* check() {
      if (clears != 1) return "not exactly one cleared the mark";
      if (inbox.marked()) return "still marked";
      mail.receive(inbox);
      return mail.verdict(1);
    }
  };
  check_all<Scenario>(3, 6);
}

/// As a worker lives: take what there is, try to go away; woken or not, come back, and once more.
TEST_CASE("a consumer that goes away twice gets every message and one wake per mark cleared") {
  struct Scenario {
    SteppedInbox inbox;
    Mail mail;
    int marks = 0;
    int own_clears = 0;
    int foreign_clears = 0;
    void run(int thread) {
      if (thread == 1) {
        for (std::size_t i = 0; i < 2; ++i) foreign_clears += inbox.post(mail.messages[i]) ? 1 : 0;
      } else if (thread == 2) {
        foreign_clears += inbox.unmark() ? 1 : 0;
      } else {
        for (int round = 0; round < 2; ++round) {
          mail.receive(inbox);
          if (!inbox.try_mark()) continue;
          ++marks;
          own_clears += inbox.unmark() ? 1 : 0;
        }
      }
    }
    const char* check() {
      if (inbox.marked()) return "still marked";
      if (own_clears + foreign_clears != marks) return "a mark was cleared twice or never";
      mail.receive(inbox);
      if (mail.order[0] > mail.order[1]) return "one producer's messages changed places";
      return mail.verdict(2);
    }
  };
  check_all<Scenario>(3, 100);
}

TEST_CASE("a box is never marked over a message") {
  struct Scenario {
    SteppedInbox inbox;
    Mail mail;
    bool displaced = false;
    bool marked = false;
    void run(int thread) {
      if (thread == 0) {
        displaced = inbox.post(mail.messages[0]);
      } else {
        marked = inbox.try_mark();
      }
    }
    const char* check() {
      if (displaced != marked) return "message and mark at once";
      mail.receive(inbox);
      return mail.verdict(1);
    }
  };
  check_all<Scenario>(2, 2);
}

TEST_CASE("a strand's cycle runs every item once and never twice at a time") {
  // The mark means idle. Whoever displaces it runs the strand: take all, then go idle or go on.
  struct Scenario {
    SteppedInbox inbox{SteppedInbox::Start::away};
    test::SteppedAtomic<int> inside{0};
    Mail mail;
    bool overlapped = false;
    void run(int thread) {
      if (!inbox.post(mail.messages[static_cast<std::size_t>(thread)])) return;
      if (inside.fetch_add(1) != 0) overlapped = true;
      for (;;) {
        mail.receive(inbox);
        inside.fetch_sub(1);
        if (inbox.try_mark()) return;
        if (inside.fetch_add(1) != 0) overlapped = true;
      }
    }
    const char* check() {
      if (overlapped) return "two ran the strand at once";
      if (!inbox.marked()) return "not idle in the end";
      return mail.verdict(3);
    }
  };
  check_all<Scenario>(3, 50);
}

TEST_CASE("messages arrive oldest first, and a hint says whether there are any") {
  Inbox inbox;
  Runnable messages[3];
  CHECK_FALSE(inbox.has_messages());
  CHECK(inbox.take_all() == nullptr);
  for (Runnable& message : messages) CHECK_FALSE(inbox.post(message));
  CHECK(inbox.has_messages());
  CHECK_FALSE(inbox.try_mark());
  Runnable* first = inbox.take_all();
  REQUIRE(first == &messages[0]);
  CHECK(first->next == &messages[1]);
  CHECK(messages[1].next == &messages[2]);
  CHECK(messages[2].next == nullptr);
  REQUIRE(inbox.try_mark());
  CHECK(inbox.marked());
  CHECK_FALSE(inbox.has_messages());
  CHECK(inbox.take_all() == nullptr);
  CHECK(inbox.marked());
  CHECK(inbox.post(messages[0]));
  CHECK_FALSE(inbox.marked());
  CHECK(inbox.take_all()->next == nullptr);
}

struct Message : Runnable {
  int producer = 0;
  int number = 0;
};

TEST_CASE("under load a consumer that sleeps whenever it can misses nothing") {
  constexpr int kProducers = 3;
  constexpr int kMessages = 20'000;
  Inbox inbox;
  std::atomic<std::uint32_t> wakes{0};
  std::vector<std::vector<Message>> messages(kProducers);
  std::vector<std::thread> producers;
  for (int producer = 0; producer < kProducers; ++producer) {
    auto& mine = messages[static_cast<std::size_t>(producer)];
    mine = std::vector<Message>(kMessages);
    producers.emplace_back([&, producer] {
      int number = 0;
      for (Message& message : mine) {
        message.producer = producer;
        message.number = number++;
        if (!inbox.post(message)) continue;
        wakes.fetch_add(1);
        futex_wake_one(wakes);
      }
    });
  }
  std::uint32_t sleeps = 0;
  int received = 0;
  int misplaced = 0;
  std::array<int, kProducers> next{};
  while (received < kProducers * kMessages) {
    for (Runnable* item = inbox.take_all(); item != nullptr; ++received) {
      const auto& message = static_cast<Message&>(*item);
      item = item->next;
      misplaced += message.number != next[static_cast<std::size_t>(message.producer)]++ ? 1 : 0;
    }
    if (received == kProducers * kMessages || !inbox.try_mark()) continue;
    // Exactly one poster raises the count for each mark; a lost wake-up would hang here, a second one let us through.
    while (wakes.load() == sleeps) futex_wait(wakes, sleeps);
    ++sleeps;
  }
  for (std::thread& producer : producers) producer.join();
  CHECK(misplaced == 0);
  CHECK(wakes.load() == sleeps);
}

}  // namespace
}  // namespace evlua
