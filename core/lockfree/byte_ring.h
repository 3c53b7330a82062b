// A bounded queue of byte strings between one producer and one consumer, each of which never waits for the other: a
// full ring refuses. What the consumer sees ends where a string ends, so that it may write out all of it in one piece.
//
// Positions count all bytes that ever went through; their place in the ring is what is left over of the capacity.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstring>
#include <memory>
#include <string_view>

#include "core/atomics.h"
#include "core/check.h"
#include "core/lockfree/pause.h"

namespace evlua {

template <class Atomics>
class BasicByteRing {
 public:
  /// REQUIRES: `capacity` is a power of two. Memory is touched only as far as it is used.
  explicit BasicByteRing(std::size_t capacity) : mask_(capacity - 1), bytes_(new char[capacity]) {
    EVLUA_CHECK(capacity != 0 && (capacity & mask_) == 0);
  }
  BasicByteRing(const BasicByteRing&) = delete;
  BasicByteRing& operator=(const BasicByteRing&) = delete;

  std::size_t capacity() const noexcept { return mask_ + 1; }

  /// All of it, or false and nothing. [producer]
  [[nodiscard]] bool push(std::string_view text) noexcept {
    const std::size_t tail = tail_.load(std::memory_order_relaxed);
    if (capacity() - (tail - known_head_) < text.size()) {
      known_head_ = head_.load(std::memory_order_acquire);  // pairs with the store in consume
      if (capacity() - (tail - known_head_) < text.size()) return false;
    }
    const std::size_t at = tail & mask_;
    const std::size_t first = std::min(text.size(), capacity() - at);
    std::memcpy(bytes_.get() + at, text.data(), first);
    std::memcpy(bytes_.get(), text.data() + first, text.size() - first);
    // Pairs with the load in peek. seq_cst and not release: who pushes may look next whether the consumer sleeps.
    tail_.store(tail + text.size());
    return true;
  }
  /// More than half of it is in use. [producer]
  bool is_half_full() noexcept {
    const std::size_t tail = tail_.load(std::memory_order_relaxed);
    if (tail - known_head_ <= capacity() / 2) return false;
    known_head_ = head_.load(std::memory_order_acquire);  // pairs with the store in consume
    return tail - known_head_ > capacity() / 2;
  }

  /// What is in it, in one piece or two; the second is empty then. [consumer]
  std::array<std::string_view, 2> peek() const noexcept {
    const std::size_t head = head_.load(std::memory_order_relaxed);
    const std::size_t size = tail_.load() - head;  // pairs with the store in push
    const std::size_t at = head & mask_;
    const std::size_t first = std::min(size, capacity() - at);
    return {std::string_view(bytes_.get() + at, first), std::string_view(bytes_.get(), size - first)};
  }
  bool empty() const noexcept { return tail_.load() == head_.load(std::memory_order_relaxed); }
  /// REQUIRES: peek has shown so many. [consumer]
  void consume(std::size_t size) noexcept {
    // release: pairs with the load in push; what was read may be written over from here on.
    head_.store(head_.load(std::memory_order_relaxed) + size, std::memory_order_release);
  }

 private:
  const std::size_t mask_;
  const std::unique_ptr<char[]> bytes_;
  alignas(kCacheLine) typename Atomics::template Atomic<std::size_t> tail_{0};
  std::size_t known_head_ = 0;  // what the producer last saw of it
  alignas(kCacheLine) typename Atomics::template Atomic<std::size_t> head_{0};
};

using ByteRing = BasicByteRing<StdAtomics>;

}  // namespace evlua
