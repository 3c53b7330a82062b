// Lock-free stacks over a fixed array, safe against ABA: the head is an index and a tag in one 64-bit word, and every
// change raises the tag, so a head that was popped and pushed again in the meantime is not mistaken for the old one.
// Indices instead of pointers leave room for a 32-bit tag without a double-width exchange. A thread would have to sleep
// through exactly 2^32 changes to be fooled.
//
// The array lives as long as the stack, so a slow reader never touches freed memory: at worst it reads a stale link,
// and its exchange then fails. [any thread]
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <optional>
#include <type_traits>
#include <utility>

#include "core/atomics.h"
#include "core/check.h"
#include "core/lockfree/pause.h"

namespace evlua {

/// A stack of the numbers 0 ... capacity-1, each on it at most once: a free list for any array.
template <class Atomics>
class BasicIndexStack {
 public:
  static constexpr std::uint32_t kNone = 0xffffffff;

  explicit BasicIndexStack(std::uint32_t capacity)
      : capacity_(capacity), links_(std::make_unique<Atomic<std::uint32_t>[]>(capacity)) {
    EVLUA_CHECK(capacity < kNone);
  }
  BasicIndexStack(const BasicIndexStack&) = delete;
  BasicIndexStack& operator=(const BasicIndexStack&) = delete;

  /// REQUIRES: `index` is not on the stack.
  void push(std::uint32_t index) noexcept {
    EVLUA_DCHECK(index < capacity_);
    std::uint64_t head = head_.load(std::memory_order_relaxed);
    std::uint64_t replacement = 0;
    do {
      links_[index].store(index_of(head), std::memory_order_relaxed);
      replacement = word(tag_of(head) + 1, index);
      // release: pairs with the acquire in pop, which then sees the link and whatever the index stands for.
    } while (!head_.compare_exchange_weak(head, replacement, std::memory_order_release, std::memory_order_relaxed));
  }

  /// The index pushed last, or kNone when the stack is empty.
  std::uint32_t pop() noexcept {
    std::uint64_t head = head_.load(std::memory_order_acquire);  // pairs with the exchange in push
    for (;;) {
      const std::uint32_t index = index_of(head);
      if (index == kNone) return kNone;
      // May be stale if another thread popped `index` just now; then the tag has moved on and the exchange fails.
      const std::uint32_t below = links_[index].load(std::memory_order_relaxed);
      if (head_.compare_exchange_weak(head, word(tag_of(head) + 1, below), std::memory_order_acq_rel,
                                      std::memory_order_acquire)) {
        return index;
      }
    }
  }

  bool empty() const noexcept { return index_of(head_.load(std::memory_order_relaxed)) == kNone; }
  std::uint32_t capacity() const noexcept { return capacity_; }

 private:
  template <class T>
  using Atomic = typename Atomics::template Atomic<T>;

  static constexpr std::uint64_t word(std::uint32_t tag, std::uint32_t index) noexcept {
    return std::uint64_t{tag} << 32 | index;
  }
  static constexpr std::uint32_t index_of(std::uint64_t head) noexcept { return static_cast<std::uint32_t>(head); }
  static constexpr std::uint32_t tag_of(std::uint64_t head) noexcept { return static_cast<std::uint32_t>(head >> 32); }

  const std::uint32_t capacity_;
  const std::unique_ptr<Atomic<std::uint32_t>[]> links_;
  alignas(kCacheLine) Atomic<std::uint64_t> head_{word(0, kNone)};
};

using IndexStack = BasicIndexStack<StdAtomics>;

/// A bounded stack of values. T is moved in and out and its moves must not throw. Items left are destroyed with it.
template <class T>
class LockFreeStack {
  static_assert(std::is_nothrow_move_constructible_v<T> && std::is_nothrow_destructible_v<T>);

 public:
  explicit LockFreeStack(std::uint32_t capacity)
      : cells_(std::make_unique<Cell[]>(capacity)), free_(capacity), used_(capacity) {
    for (std::uint32_t index = capacity; index-- > 0;) free_.push(index);
  }
  ~LockFreeStack() {
    while (try_pop()) {
    }
  }

  /// False when full, and `item` is then untouched.
  [[nodiscard]] bool try_push(T&& item) noexcept {
    const std::uint32_t index = free_.pop();
    if (index == IndexStack::kNone) return false;
    ::new (static_cast<void*>(cells_[index].storage)) T(std::move(item));
    used_.push(index);  // publishes the item: pairs with the pop in try_pop
    return true;
  }
  [[nodiscard]] bool try_push(const T& item) noexcept requires std::is_nothrow_copy_constructible_v<T> {
    return try_push(T(item));
  }

  /// The item pushed last; nothing when empty.
  std::optional<T> try_pop() noexcept {
    const std::uint32_t index = used_.pop();
    if (index == IndexStack::kNone) return std::nullopt;
    T* held = std::launder(reinterpret_cast<T*>(cells_[index].storage));
    std::optional<T> item(std::move(*held));
    held->~T();
    free_.push(index);  // pairs with the pop in try_push
    return item;
  }

  bool empty() const noexcept { return used_.empty(); }
  std::uint32_t capacity() const noexcept { return free_.capacity(); }

 private:
  struct Cell {
    alignas(T) std::byte storage[sizeof(T)];
  };

  const std::unique_ptr<Cell[]> cells_;
  IndexStack free_;
  IndexStack used_;
};

}  // namespace evlua
