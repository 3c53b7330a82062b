// The mailbox of a consumer that sleeps: a multi-producer list whose head can also say "the consumer is away".
//
// The head is one of: empty (null), away (the mark), or the newest node. The mark is set only on an empty box.
// Displacing it with a message, or clearing it without one, succeeds for exactly one caller; that caller must wake
// the consumer. Workers use the mark for "parked", strands for "idle".
#pragma once

#include <atomic>

#include "core/atomics.h"
#include "core/runnable.h"

namespace evlua {

template <class Atomics>
class BasicInbox {
 public:
  enum class Start { present, away };

  explicit BasicInbox(Start start = Start::present) : head_(start == Start::away ? mark() : nullptr) {}

  /// Adds `node`. True: this call displaced the mark, and the caller must wake the consumer. [any thread]
  [[nodiscard]] bool post(Runnable& node) noexcept {
    Runnable* head = head_.load(std::memory_order_relaxed);
    do {
      node.next = head == mark() ? nullptr : head;
      // seq_cst: pairs with try_mark and with the idle word, see core/idle.h. Releases the node's contents to take_all.
    } while (!head_.compare_exchange_weak(head, &node, std::memory_order_seq_cst, std::memory_order_relaxed));
    return head == mark();
  }

  /// Everything posted so far, oldest first, linked through `next`; null when there is nothing. [consumer]
  Runnable* take_all() noexcept {
    if (!has_messages()) return nullptr;
    // acquire: pairs with the release in post; a strand's state passes from worker to worker through this edge.
    Runnable* newest = head_.exchange(nullptr, std::memory_order_acq_rel);
    Runnable* oldest = nullptr;
    while (newest != nullptr) {
      Runnable* older = newest->next;
      newest->next = oldest;
      oldest = newest;
      newest = older;
    }
    return oldest;
  }

  /// Says that the consumer goes away. False when a message came first. [consumer]
  [[nodiscard]] bool try_mark() noexcept {
    Runnable* expected = nullptr;
    return head_.compare_exchange_strong(expected, mark(), std::memory_order_seq_cst, std::memory_order_relaxed);
  }

  /// Clears the mark. True for exactly one caller, who must wake the consumer (or is it). [any thread]
  [[nodiscard]] bool unmark() noexcept {
    Runnable* expected = mark();
    return head_.compare_exchange_strong(expected, nullptr, std::memory_order_seq_cst, std::memory_order_relaxed);
  }

  /// A hint: there is at least one message. [any thread]
  bool has_messages() const noexcept {
    Runnable* head = head_.load(std::memory_order_relaxed);
    return head != nullptr && head != mark();
  }

  /// The consumer is away, and what it did before is visible to the caller. [any thread]
  bool is_away() const noexcept { return head_.load(std::memory_order_acquire) == mark(); }

  /// A hint: the mark is set. [any thread]
  bool marked() const noexcept { return head_.load(std::memory_order_relaxed) == mark(); }

 private:
  static Runnable* mark() noexcept { return &mark_; }

  static inline Runnable mark_;
  typename Atomics::template Atomic<Runnable*> head_;
};

using Inbox = BasicInbox<StdAtomics>;

}  // namespace evlua
