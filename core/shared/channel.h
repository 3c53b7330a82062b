// Channel<T>: a bounded queue between tasks of any Vm and worker, with hand-over and select.
//
// Values arrive in the order in which they were sent. With capacity 0 a send ends when the value has been received.
// Closing lets receivers have what is queued; then they get end_of_file. Senders get EPIPE, waiting ones as well.
#pragma once

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/event.h"
#include "core/intrusive.h"
#include "core/lockfree/futex_mutex.h"
#include "core/task.h"

namespace evlua {

/// T is a std::unique_ptr to what has a member `T next`, through which queued values are chained: to queue one takes no
/// memory. [any thread]
template <class T>
class Channel {
 public:
  /// One alternative of a select: receive, or send what `value` holds.
  struct Case {
    std::shared_ptr<Channel> channel;
    bool sends = false;
    T value{};  ///< to send; or what was received
  };
  /// Which case happened. A channel that is closed is an error of its case.
  struct Chosen {
    std::size_t index = 0;
    Error error{};  ///< code 0: it happened
  };

  /// Values in the order in which they were sent.
  struct Queue {
    Queue() = default;
    Queue(const Queue&) = delete;
    Queue& operator=(const Queue&) = delete;
    ~Queue() {
      while (!empty()) (void)pop();
    }
    bool empty() const noexcept { return first == nullptr; }
    void push(T value) noexcept {
      T& place = empty() ? first : last->next;
      last = value.get();
      place = std::move(value);
      ++size;
    }
    /// REQUIRES: not empty.
    T pop() noexcept {
      T value = std::move(first);
      first = std::move(value->next);
      --size;
      return value;
    }

    void append(Queue& other) noexcept {
      if (other.empty()) return;
      (empty() ? first : last->next) = std::move(other.first);
      last = other.last;
      size += std::exchange(other.size, 0);
    }

    T first;
    typename T::element_type* last = nullptr;
    std::size_t size = 0;
  };

  explicit Channel(std::size_t capacity) : capacity_(capacity) {}
  ~Channel() { EVLUA_CHECK(senders_.empty() && receivers_.empty()); }
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;

  /// Waits until one of `cases` can happen, and does it; looks at them from number `first` on. ETIMEDOUT or ECANCELED:
  /// nothing has happened.
  static Task<Result<Chosen>> select(std::vector<Case>& cases, std::size_t first, Instant deadline) {
    Waiter waiter;
    std::vector<Node> nodes(cases.size());
    bool waits = true;
    for (std::size_t i = 0; i < cases.size() && waits; ++i) {
      const std::size_t index = (first + i) % cases.size();
      nodes[index].waiter = &waiter;
      nodes[index].chosen = {index, {}};
      nodes[index].which = &cases[index];
      waits = cases[index].channel->begin(nodes[index]);
    }
    Result<void> woken;
    if (waits) {
      Event::Wait wait = waiter.ready.wait(deadline);
      woken = co_await wait;
    }
    for (Node& node : nodes) {
      if (node.which != nullptr) node.which->channel->leave(node);
    }
    // Nobody can choose any more; and whoever has chosen has left the lock.
    if (waiter.taken.load(std::memory_order_relaxed)) co_return waiter.chosen;
    co_return fail(woken ? Error{ECANCELED, ErrorDomain::system, OpCode::task} : woken.error());
  }

  /// The same for one case, at once or not at all.
  static bool try_now(Case& what, Chosen& chosen) {
    Waiter waiter;
    Node node;
    node.waiter = &waiter;
    node.which = &what;
    const std::lock_guard guard(what.channel->lock_);
    if (!what.channel->happens(node)) return false;
    chosen = waiter.chosen;
    return true;
  }

  void close() {
    const std::lock_guard guard(lock_);
    if (std::exchange(closed_, true)) return;
    fail_all(senders_, Error{EPIPE, ErrorDomain::system, OpCode::task});
    // Receivers wait only where nothing is queued.
    fail_all(receivers_, Error{static_cast<std::int32_t>(Errc::end_of_file), ErrorDomain::runtime, OpCode::task});
  }

  bool closed() {
    const std::lock_guard guard(lock_);
    return closed_;
  }
  /// Values that are queued.
  std::size_t size() {
    const std::lock_guard guard(lock_);
    return queue_.size;
  }
  std::size_t capacity() const noexcept { return capacity_; }

  // -- for whoever looks for channels that hold each other ------------------------------------------------------------

  /// Nobody else takes the locks of two channels at once.
  FutexMutex& lock() noexcept { return lock_; }
  /// What is queued. REQUIRES: the lock is held, or nobody else has the channel.
  Queue& queue() noexcept { return queue_; }

 private:
  struct Waiter {
    std::atomic<bool> taken{false};  // set by the one who makes a case happen
    Chosen chosen;
    Event ready;
  };
  struct Node : ListNode {
    Waiter* waiter = nullptr;
    Case* which = nullptr;
    Chosen chosen;
  };

  // All that follows: under the lock.

  /// True for exactly one case of the waiter.
  static bool take(Node& node) noexcept {
    bool expected = false;
    return node.waiter->taken.compare_exchange_strong(expected, true);
  }
  static void choose(Node& node, Error error = {}) noexcept {
    node.waiter->chosen = node.chosen;
    node.waiter->chosen.error = error;
  }
  /// The first in the list whose waiter has not been served elsewhere, and is not `self`: a select must not talk to
  /// itself.
  static Node* take_first(List<Node>& list, const Waiter* self = nullptr) noexcept {
    Node* found = nullptr;
    list.for_each([&](Node& node) {
      if (found != nullptr || node.waiter == self) return;
      List<Node>::erase(node);
      if (take(node)) found = &node;
    });
    return found;
  }
  static void wake(Node& node, Error error = {}) noexcept {
    choose(node, error);
    node.waiter->ready.set();
  }
  static void fail_all(List<Node>& list, Error error) noexcept {
    while (Node* node = take_first(list)) wake(*node, error);
  }

  /// Does what the node wants, if that is possible now. False as well when another case of it has happened already.
  bool happens(Node& node) { return node.which->sends ? sends(node) : receives(node); }

  bool sends(Node& node) {
    if (closed_) {
      if (!take(node)) return false;
      choose(node, Error{EPIPE, ErrorDomain::system, OpCode::task});
      return true;
    }
    if (queue_.size >= capacity_ && !has_other(receivers_, node)) return false;
    if (!take(node)) return false;
    // A receiver that was seen may have been served by another channel meanwhile: then the value is queued, even
    // beyond the capacity, since this case is taken.
    if (Node* receiver = take_first(receivers_, node.waiter)) {
      receiver->which->value = std::move(node.which->value);
      wake(*receiver);
    } else {
      queue_.push(std::move(node.which->value));
    }
    choose(node);
    return true;
  }

  bool receives(Node& node) {
    if (queue_.empty()) {
      // The same the other way round: the value of a sender that was taken is queued if nobody takes it.
      if (Node* sender = take_first(senders_, node.waiter)) {
        queue_.push(std::move(sender->which->value));
        wake(*sender);
      }
    }
    if (queue_.empty() && !closed_) return false;
    if (!take(node)) return false;
    if (queue_.empty()) {
      choose(node, Error{static_cast<std::int32_t>(Errc::end_of_file), ErrorDomain::runtime, OpCode::task});
      return true;
    }
    node.which->value = queue_.pop();
    if (queue_.size < capacity_) {
      if (Node* sender = take_first(senders_, node.waiter)) {
        queue_.push(std::move(sender->which->value));
        wake(*sender);
      }
    }
    choose(node);
    return true;
  }

  static bool has_other(List<Node>& list, const Node& node) noexcept {
    bool found = false;
    list.for_each([&](const Node& other) {
      found = found || (other.waiter != node.waiter && !other.waiter->taken.load(std::memory_order_relaxed));
    });
    return found;
  }

  /// True: the node waits now. False: it has happened, or another case of the same select has.
  bool begin(Node& node) {
    const std::lock_guard guard(lock_);
    if (node.waiter->taken.load(std::memory_order_relaxed)) return false;
    if (happens(node)) return false;
    (node.which->sends ? senders_ : receivers_).push_back(node);
    return true;
  }

  void leave(Node& node) {
    const std::lock_guard guard(lock_);
    if (node.linked()) List<Node>::erase(node);
  }

  const std::size_t capacity_;
  FutexMutex lock_;
  Queue queue_;
  List<Node> senders_;
  List<Node> receivers_;
  bool closed_ = false;
};

}  // namespace evlua
