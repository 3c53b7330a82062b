// Goal: the plain structures keep their promises: intrusive containers, the deadline heap against a model, errors and
// their words, results of operations.
#include <netdb.h>

#include <cerrno>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/intrusive.h"
#include "core/op.h"
#include "core/timer_heap.h"
#include "tests/support/doctest.h"

namespace evlua {
namespace {

TEST_CASE("a queue gives items back in order, from either end put in") {
  Queue<Runnable> queue;
  Runnable items[4];
  CHECK(queue.pop_front() == nullptr);
  queue.push_back(items[1]);
  queue.push_back(items[2]);
  queue.push_front(items[0]);
  CHECK(queue.front() == &items[0]);
  CHECK(queue.pop_front() == &items[0]);
  queue.push_back(items[3]);
  CHECK(queue.pop_front() == &items[1]);
  CHECK(queue.pop_front() == &items[2]);
  CHECK(queue.pop_front() == &items[3]);
  CHECK(queue.empty());
  queue.push_front(items[0]);
  queue.push_back(items[1]);
  CHECK(queue.pop_front() == &items[0]);
  CHECK(queue.pop_front() == &items[1]);
}

TEST_CASE("queues append to each other and move, leaving the source empty") {
  Queue<Runnable> first, second;
  Runnable items[4];
  first.append(std::move(second));
  CHECK(first.empty());
  second.push_back(items[0]);
  second.push_back(items[1]);
  first.append(std::move(second));
  CHECK(second.empty());
  second.push_back(items[2]);
  first.append(std::move(second));
  Queue<Runnable> third(std::move(first));
  CHECK(first.empty());
  third.push_back(items[3]);
  first = std::move(third);
  for (Runnable& item : items) CHECK(first.pop_front() == &item);
}

TEST_CASE("a queue adopts a chain and removes from any place") {
  Queue<Runnable> queue;
  Runnable items[4];
  items[0].next = &items[1];
  items[1].next = &items[2];
  queue.append_chain(&items[0]);
  CHECK(queue.remove(items[1]));
  CHECK_FALSE(queue.remove(items[1]));
  CHECK(queue.remove(items[2]));
  queue.push_back(items[3]);  // the end must have been corrected
  CHECK(queue.remove(items[0]));
  CHECK(queue.pop_front() == &items[3]);
  CHECK(queue.empty());
}

struct Item : ListNode {};

TEST_CASE("a list erases in the middle and while it is visited") {
  List<Item> list;
  Item items[4];
  for (Item& item : items) list.push_back(item);
  CHECK(items[2].linked());
  List<Item>::erase(items[2]);
  CHECK_FALSE(items[2].linked());
  std::vector<Item*> visited;
  list.for_each([&](Item& item) {
    visited.push_back(&item);
    if (&item != &items[3]) List<Item>::erase(item);
  });
  CHECK(visited == std::vector<Item*>{&items[0], &items[1], &items[3]});
  CHECK(list.pop_front() == &items[3]);
  CHECK(list.empty());
  CHECK(list.pop_front() == nullptr);
}

TEST_CASE("an empty heap has no deadline, and erasing what is not queued does nothing") {
  TimerHeap heap;
  TimerNode node;
  CHECK(heap.next_deadline() == kNever);
  CHECK(heap.pop_due(kNever) == nullptr);
  heap.erase(node);
  CHECK(heap.size() == 0);
  node.deadline = 5;
  heap.insert(node);
  CHECK(node.queued());
  CHECK(heap.next_deadline() == 5);
  CHECK(heap.pop_due(4) == nullptr);
  CHECK(heap.pop_due(5) == &node);
  CHECK_FALSE(node.queued());
  heap.erase(node);
}

TEST_CASE("equal deadlines come out in the order they went in") {
  TimerHeap heap;
  std::vector<TimerNode> nodes(100);
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    nodes[i].deadline = i % 2 == 0 ? 10 : 20;
    heap.insert(nodes[i]);
  }
  heap.erase(nodes[50]);
  for (std::size_t i = 0; i < nodes.size(); i += 2) {
    if (i != 50) CHECK(heap.pop_due(20) == &nodes[i]);
  }
  for (std::size_t i = 1; i < nodes.size(); i += 2) CHECK(heap.pop_due(20) == &nodes[i]);
}

/// The model: a sorted map from (deadline, order of insertion) to the node.
class HeapModel {
 public:
  explicit HeapModel(unsigned seed) : random_(seed), nodes_(500), places_(nodes_.size(), model_.end()) {}

  bool step() {
    TimerNode& node = nodes_[random_() % nodes_.size()];
    const auto at = static_cast<std::size_t>(&node - nodes_.data());
    switch (random_() % 5) {
      case 0:
      case 1:
      case 2:
        if (!node.queued()) {
          node.deadline = static_cast<Instant>(now_ + random_() % 200);
          heap_.insert(node);
          places_[at] = model_.emplace(std::pair(node.deadline, order_++), at).first;
        }
        break;
      case 3:
        heap_.erase(node);
        forget(at);
        break;
      default:
        now_ += random_() % 20;
        if (!pop_all_due()) return false;
    }
    const Instant next = model_.empty() ? kNever : model_.begin()->first.first;
    return heap_.size() == model_.size() && heap_.next_deadline() == next && node.queued() == is_in_model(at);
  }

  ~HeapModel() {
    for (TimerNode& node : nodes_) heap_.erase(node);
  }

 private:
  using Model = std::map<std::pair<Instant, int>, std::size_t>;

  bool is_in_model(std::size_t at) const { return places_[at] != model_.end(); }

  void forget(std::size_t at) {
    if (is_in_model(at)) model_.erase(places_[at]);
    places_[at] = model_.end();
  }

  bool pop_all_due() {
    const auto now = static_cast<Instant>(now_);
    while (!model_.empty() && model_.begin()->first.first <= now) {
      const std::size_t expected = model_.begin()->second;
      if (heap_.pop_due(now) != &nodes_[expected]) return false;
      forget(expected);
    }
    return heap_.pop_due(now) == nullptr;
  }

  std::minstd_rand random_;
  TimerHeap heap_;
  std::vector<TimerNode> nodes_;
  Model model_;
  std::vector<Model::iterator> places_;
  std::uint64_t now_ = 0;
  int order_ = 0;
};

TEST_CASE("the heap agrees with a sorted map through random inserts, erasures and expiries") {
  for (unsigned seed = 1; seed <= 5; ++seed) {
    INFO("seed ", seed);
    HeapModel model(seed);
    int steps = 0;
    while (steps < 20'000 && model.step()) ++steps;
    CHECK(steps == 20'000);
  }
}

TEST_CASE("errors have a name for programs and a sentence for people") {
  struct Case {
    Error error;
    const char* name;
    const char* message;
  };
  const auto runtime = [](Errc code) { return fail(code).value(); };
  const auto resolver = [](int code) { return Error{code, ErrorDomain::resolver, OpCode::resolve}; };
  const Case cases[] = {
      {fail(ECONNREFUSED).value(), "ECONNREFUSED", "connection refused"},
      {fail(ENOENT).value(), "ENOENT", "no such file or directory"},
      {fail(ETIMEDOUT).value(), "ETIMEDOUT", "timed out"},
      {fail(ECANCELED).value(), "ECANCELED", "cancelled"},
      {fail(EAGAIN).value(), "EAGAIN", "resource temporarily unavailable"},
      {fail(9999).value(), "EUNKNOWN", "unknown error 9999"},
      {runtime(Errc::end_of_file), "EOF", "end of file"},
      {runtime(Errc::too_large), "ELIMIT", "limit exceeded"},
      {resolver(EAI_NONAME), "EAI_NONAME", "name or service not known"},
      {resolver(EAI_AGAIN), "EAI_AGAIN", "temporary failure in name resolution"},
      {resolver(12345), "EAI_UNKNOWN", "unknown error"},
  };
  for (const Case& expected : cases) {
    CHECK(std::string(expected.error.name()) == expected.name);
    CHECK(expected.error.message() == expected.message);
  }
}

TEST_CASE("an error is described with its operation, if it has one") {
  CHECK(fail(ECONNREFUSED, OpCode::connect).value().describe() == "connect: connection refused");
  CHECK(fail(Errc::end_of_file, OpCode::recv).value().describe() == "receive: end of file");
  CHECK(fail(EPERM).value().describe() == "operation not permitted");
}

TEST_CASE("an error knows what it is, by domain and code") {
  const Error refused = fail(ECONNREFUSED).value();
  CHECK(refused.is(ECONNREFUSED));
  CHECK_FALSE(refused.is(ENOENT));
  const Error eof = fail(Errc::end_of_file).value();
  CHECK(eof.is(Errc::end_of_file));
  CHECK_FALSE(eof.is(static_cast<int>(Errc::end_of_file)));  // errno 1 is another thing
}

TEST_CASE("a result holds a value or an error") {
  const auto half = [](int n) -> Result<int> {
    if (n % 2 != 0) return fail(EINVAL, OpCode::read);
    return n / 2;
  };
  CHECK(half(8).value() == 4);
  REQUIRE_FALSE(half(7).has_value());
  CHECK(half(7).error().is(EINVAL));
}

TEST_CASE("the outcome of an operation says whether its deadline stopped it") {
  Op op(OpCode::recv, 3);
  op.res = 17;
  op.why = OpStop::deadline;
  CHECK(op.outcome() == 17);  // the result won
  op.res = -ECANCELED;
  CHECK(op.outcome() == -ETIMEDOUT);
  op.why = OpStop::cancelled;
  CHECK(op.outcome() == -ECANCELED);
  op.why = OpStop::none;
  op.res = -EPIPE;
  CHECK(op.outcome() == -EPIPE);
}

TEST_CASE("deadlines saturate instead of wrapping") {
  CHECK(deadline_after(5, 10) == 15);
  CHECK(deadline_after(5, -10) == 5);
  CHECK(deadline_after(5, kNever) == kNever);
  CHECK(duration_from_seconds(0.25) == 250 * kMillisecond);
  CHECK(duration_from_seconds(-1) == 0);
  CHECK(duration_from_seconds(1e300) == kNever);
}

}  // namespace
}  // namespace evlua
