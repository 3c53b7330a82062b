// A FIFO for many producers and one consumer, intrusive and unbounded. Enqueueing is wait-free: one exchange and one
// store, whatever the others do.
//
// The price is a short gap: a producer first swings the end of the queue to its node and then links the node to its
// predecessor. Between those two steps its item, and all items enqueued after it, cannot be reached, though the queue
// is not empty. `try_pop` then returns null; a consumer that goes to sleep on null must be woken by the producer
// after enqueue, as usual, and a consumer that cannot wait tells the cases apart by `empty`.
//
// The queue owns no nodes: a node must stay alive from enqueue until it was popped. (After D. Vyukov's intrusive MPSC
// queue.) Where the consumer's sleep matters too, use core/inbox.h.
#pragma once

#include <atomic>
#include <type_traits>

#include "core/atomics.h"
#include "core/lockfree/pause.h"

namespace evlua {

/// Base of what is queued.
template <class Atomics>
struct BasicMpscNode {
  typename Atomics::template Atomic<BasicMpscNode*> mpsc_next{nullptr};
};
using MpscNode = BasicMpscNode<StdAtomics>;

template <class T, class Atomics = StdAtomics>
class MpscQueue {
  using Node = BasicMpscNode<Atomics>;
  static_assert(std::is_base_of_v<Node, T>);

 public:
  MpscQueue() noexcept = default;
  MpscQueue(const MpscQueue&) = delete;
  MpscQueue& operator=(const MpscQueue&) = delete;

  /// Adds `item` at the back. Wait-free. REQUIRES: it is in no queue. [any thread]
  void enqueue(T& item) noexcept { enqueue_node(item); }

  /// The oldest item; null when there is none, or while its producer is between its two steps. [consumer]
  T* try_pop() noexcept {
    Node* first = first_;
    Node* next = first->mpsc_next.load(std::memory_order_acquire);  // pairs with the store in enqueue_node
    if (first == &stub_) {
      if (next == nullptr) return nullptr;
      first_ = first = next;
      next = first->mpsc_next.load(std::memory_order_acquire);  // likewise
    }
    if (next == nullptr) {
      // `first` looks like the only item. It can be handed out only with a successor in its place: the stub.
      if (first != last_.load(std::memory_order_acquire)) return nullptr;  // a producer is between its steps
      enqueue_node(stub_);
      next = first->mpsc_next.load(std::memory_order_acquire);  // likewise
      if (next == nullptr) return nullptr;  // another producer came before the stub and is between its steps
    }
    first_ = next;
    return static_cast<T*>(first);
  }

  /// As try_pop, but waits out a producer that is between its two steps. Null only when empty. [consumer]
  T* pop() noexcept {
    for (;;) {
      if (T* item = try_pop(); item != nullptr) return item;
      if (empty()) return nullptr;
      cpu_pause();
    }
  }

  /// False as soon as any producer has begun to enqueue. [consumer]
  bool empty() const noexcept {
    // The stub is the end of the queue and also its beginning: nothing was enqueued behind it.
    return first_ == &stub_ && last_.load(std::memory_order_acquire) == &stub_;
  }

 private:
  void enqueue_node(Node& node) noexcept {
    node.mpsc_next.store(nullptr, std::memory_order_relaxed);
    // release: the next producer, or the consumer, that reads our node from `last_` sees its link cleared.
    // acquire: we write into the previous node, whose producer cleared its link before.
    Node* previous = last_.exchange(&node, std::memory_order_acq_rel);
    previous->mpsc_next.store(&node, std::memory_order_release);  // pairs with the loads in try_pop
  }

  Node stub_;
  alignas(kCacheLine) typename Atomics::template Atomic<Node*> last_{&stub_};  // producers
  alignas(kCacheLine) Node* first_{&stub_};                                    // consumer
};

}  // namespace evlua
