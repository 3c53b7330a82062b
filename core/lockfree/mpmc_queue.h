// A bounded FIFO for many producers and many consumers, by value. A full queue refuses, an empty one gives nothing:
// neither ever waits.
//
// Each cell of the ring carries a sequence number that says whose turn it is: with position p, value p means free for
// the producer of p, p + 1 filled for the consumer of p, p + capacity free for the next round. Producers compete only
// with producers (on `tail_`), consumers with consumers (on `head_`). Not lock-free in the strict sense: a thread that
// stops between claiming a cell and filling it holds up the consumer of that one cell; try_pop then says "empty".
// (After D. Vyukov's bounded MPMC queue.)
//
// T is moved in and out and its moves must not throw. Items left in the queue are destroyed with it. [any thread]
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <optional>
#include <type_traits>
#include <utility>

#include "core/check.h"
#include "core/lockfree/pause.h"

namespace evlua {

template <class T>
class MpmcQueue {
  static_assert(std::is_nothrow_move_constructible_v<T> && std::is_nothrow_destructible_v<T>);

 public:
  /// REQUIRES: `capacity` is a power of two, at least 2.
  explicit MpmcQueue(std::size_t capacity) : mask_(capacity - 1), cells_(std::make_unique<Cell[]>(capacity)) {
    EVLUA_CHECK(capacity >= 2 && (capacity & mask_) == 0);
    for (std::size_t i = 0; i < capacity; ++i) cells_[i].sequence.store(i, std::memory_order_relaxed);
  }
  MpmcQueue(const MpmcQueue&) = delete;
  MpmcQueue& operator=(const MpmcQueue&) = delete;
  ~MpmcQueue() {
    while (try_pop()) {
    }
  }

  /// Adds at the back; false when full, and `item` is then untouched.
  [[nodiscard]] bool try_push(T&& item) noexcept {
    std::size_t position = tail_.load(std::memory_order_relaxed);
    for (;;) {
      Cell& cell = cells_[position & mask_];
      const std::size_t sequence = cell.sequence.load(std::memory_order_acquire);  // pairs with the store in try_pop
      const auto behind = static_cast<std::ptrdiff_t>(sequence - position);
      if (behind < 0) return false;  // still holds the item of the previous round
      if (behind > 0) {
        position = tail_.load(std::memory_order_relaxed);  // another producer has taken this position
      } else if (tail_.compare_exchange_weak(position, position + 1, std::memory_order_relaxed)) {
        ::new (static_cast<void*>(cell.storage)) T(std::move(item));
        cell.sequence.store(position + 1, std::memory_order_release);  // pairs with the load in try_pop
        return true;
      }
    }
  }
  [[nodiscard]] bool try_push(const T& item) noexcept requires std::is_nothrow_copy_constructible_v<T> {
    return try_push(T(item));
  }

  /// Takes the oldest item; nothing when empty.
  std::optional<T> try_pop() noexcept {
    std::size_t position = head_.load(std::memory_order_relaxed);
    for (;;) {
      Cell& cell = cells_[position & mask_];
      const std::size_t sequence = cell.sequence.load(std::memory_order_acquire);  // pairs with the store in try_push
      const auto behind = static_cast<std::ptrdiff_t>(sequence - (position + 1));
      if (behind < 0) return std::nullopt;  // not filled yet
      if (behind > 0) {
        position = head_.load(std::memory_order_relaxed);  // another consumer has taken this position
      } else if (head_.compare_exchange_weak(position, position + 1, std::memory_order_relaxed)) {
        T* held = std::launder(reinterpret_cast<T*>(cell.storage));
        std::optional<T> item(std::move(*held));
        held->~T();
        cell.sequence.store(position + mask_ + 1, std::memory_order_release);  // pairs with the load in try_push
        return item;
      }
    }
  }

  std::size_t capacity() const noexcept { return mask_ + 1; }

  /// How many items there were a moment ago.
  std::size_t size_hint() const noexcept {
    const std::size_t head = head_.load(std::memory_order_relaxed);
    const std::size_t tail = tail_.load(std::memory_order_relaxed);
    const auto count = static_cast<std::ptrdiff_t>(tail - head);
    return count < 0 ? 0 : static_cast<std::size_t>(count) > capacity() ? capacity() : static_cast<std::size_t>(count);
  }

 private:
  struct Cell {
    std::atomic<std::size_t> sequence;
    alignas(T) std::byte storage[sizeof(T)];
  };

  const std::size_t mask_;
  const std::unique_ptr<Cell[]> cells_;
  alignas(kCacheLine) std::atomic<std::size_t> tail_{0};
  alignas(kCacheLine) std::atomic<std::size_t> head_{0};
};

}  // namespace evlua
