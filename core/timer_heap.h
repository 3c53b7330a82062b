// Deadlines in order: an intrusive 4-ary heap. A node lives in the frame that waits and knows its place in the heap,
// so taking a deadline back costs O(log n) and no search.
//
// Owner thread only: each worker has one heap, and a timer never moves to another. The heap stores a copy of each key
// beside the pointer; four children then fill one cache line and are compared without touching the nodes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/check.h"
#include "core/time.h"

namespace evlua {

/// One deadline. It must stay put, and `deadline` must not change, while it is queued.
struct TimerNode {
  static constexpr std::uint32_t kNotQueued = 0xffffffff;

  Instant deadline = kNever;
  std::uint32_t heap_index = kNotQueued;  ///< kept by TimerHeap
  std::uint32_t sequence = 0;             ///< kept by TimerHeap: orders equal deadlines by insertion

  bool queued() const noexcept { return heap_index != kNotQueued; }
};
static_assert(sizeof(TimerNode) == 16, "a deadline is embedded in every operation");

class TimerHeap {
 public:
  TimerHeap() = default;
  TimerHeap(const TimerHeap&) = delete;
  TimerHeap& operator=(const TimerHeap&) = delete;
  ~TimerHeap() { EVLUA_DCHECK(entries_.empty()); }

  /// Queues `node` under its deadline. REQUIRES: it is not queued.
  void insert(TimerNode& node) noexcept {
    EVLUA_CHECK(!node.queued() && entries_.size() < TimerNode::kNotQueued);
    node.sequence = next_sequence_++;
    entries_.push_back({node.deadline, &node});
    sift_up(entries_.size() - 1, {node.deadline, &node});
  }

  /// Takes `node` out; nothing happens when it is not queued. REQUIRES: it is not queued in another heap.
  void erase(TimerNode& node) noexcept {
    if (!node.queued()) return;
    EVLUA_DCHECK(node.heap_index < entries_.size() && entries_[node.heap_index].node == &node);
    remove_at(node.heap_index);
  }

  /// Takes out the earliest node whose deadline is not after `now`, or returns null. Equal deadlines come out in the
  /// order they were inserted.
  TimerNode* pop_due(Instant now) noexcept {
    if (entries_.empty() || entries_.front().deadline > now) return nullptr;
    TimerNode* node = entries_.front().node;
    remove_at(0);
    return node;
  }

  /// kNever when the heap is empty.
  Instant next_deadline() const noexcept { return entries_.empty() ? kNever : entries_.front().deadline; }

  std::size_t size() const noexcept { return entries_.size(); }
  bool empty() const noexcept { return entries_.empty(); }

 private:
  friend struct Inspector;  // of tests/sim

  struct Entry {
    Instant deadline;
    TimerNode* node;
  };
  static constexpr std::size_t kArity = 4;

  static bool before(const Entry& a, const Entry& b) noexcept {
    if (a.deadline != b.deadline) return a.deadline < b.deadline;
    // The difference, not the values: the counter may wrap while timers wait.
    return static_cast<std::int32_t>(a.node->sequence - b.node->sequence) < 0;
  }

  void place(std::size_t index, const Entry& entry) noexcept {
    entries_[index] = entry;
    entry.node->heap_index = static_cast<std::uint32_t>(index);
  }

  /// Puts `entry` at the hole `index` or above it.
  void sift_up(std::size_t index, Entry entry) noexcept {
    while (index > 0) {
      const std::size_t parent = (index - 1) / kArity;
      if (!before(entry, entries_[parent])) break;
      place(index, entries_[parent]);
      index = parent;
    }
    place(index, entry);
  }

  /// Puts `entry` at the hole `index` or below it.
  void sift_down(std::size_t index, Entry entry) noexcept {
    const std::size_t count = entries_.size();
    for (;;) {
      const std::size_t first = index * kArity + 1;
      if (first >= count) break;
      const std::size_t end = first + kArity < count ? first + kArity : count;
      std::size_t least = first;
      for (std::size_t child = first + 1; child < end; ++child) {
        if (before(entries_[child], entries_[least])) least = child;
      }
      if (!before(entries_[least], entry)) break;
      place(index, entries_[least]);
      index = least;
    }
    place(index, entry);
  }

  void remove_at(std::size_t index) noexcept {
    entries_[index].node->heap_index = TimerNode::kNotQueued;
    const Entry last = entries_.back();
    entries_.pop_back();
    if (index == entries_.size()) return;
    if (index > 0 && before(last, entries_[(index - 1) / kArity])) {
      sift_up(index, last);
    } else {
      sift_down(index, last);
    }
  }

  std::vector<Entry> entries_;
  std::uint32_t next_sequence_ = 0;
};

}  // namespace evlua
