// A worker's own queue of runnable work: bounded, filled by its owner, emptied from the front by the owner and by
// thieves alike.
//
// It is the Chase-Lev ring without the owner's LIFO end: the owner too takes the oldest item, so that old requests
// cannot starve. Since nobody removes at the back, one compare-exchange on `top_` may claim a whole range, which makes
// overflow and stealing half a single step each.
//
// `top_` and `bottom_` count items ever taken and pushed and never wrap in practice (64 bits). Every access that
// decides something is sequentially consistent: no fences, which ThreadSanitizer could not follow, and one order that
// the idle protocol (core/idle.h) can reason about. The deque owns none of the items.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "core/atomics.h"
#include "core/check.h"
#include "core/intrusive.h"
#include "core/lockfree/pause.h"
#include "core/runnable.h"

namespace evlua {

template <std::size_t Capacity = 256, class Atomics = StdAtomics>
class StealingDeque {
  static_assert(Capacity >= 2 && (Capacity & (Capacity - 1)) == 0, "a power of two");

 public:
  static constexpr std::size_t kCapacity = Capacity;

  StealingDeque() = default;
  StealingDeque(const StealingDeque&) = delete;
  StealingDeque& operator=(const StealingDeque&) = delete;

  /// Adds at the back; false, and nothing done, when full. [owner]
  [[nodiscard]] bool push(Runnable& work) noexcept {
    const std::uint64_t bottom = own_bottom();
    if (bottom - top_.load() >= Capacity) return false;  // pairs with the claims: a slot is free once claimed
    slot(bottom).store(&work, std::memory_order_release);
    bottom_.store(bottom + 1);  // publishes the slot: pairs with the loads in claim_half, steal and empty
    return true;
  }

  /// Adds at the back; when full, moves the older half and then `work` to the back of `overflow`. [owner]
  void push(Runnable& work, Queue<Runnable>& overflow) noexcept {
    while (!push(work)) {
      std::uint64_t top = top_.load();
      constexpr std::uint64_t kHalf = Capacity / 2;
      if (own_bottom() - top < Capacity) continue;  // a thief made room
      Runnable* moved[kHalf];
      for (std::uint64_t i = 0; i < kHalf; ++i) moved[i] = slot(top + i).load(std::memory_order_acquire);
      if (!top_.compare_exchange_strong(top, top + kHalf)) continue;  // likewise
      for (Runnable* item : moved) overflow.push_back(*item);
      overflow.push_back(work);
      return;
    }
  }

  /// The oldest item, or null when empty. [owner]
  Runnable* take() noexcept {
    const std::uint64_t bottom = own_bottom();
    std::uint64_t top = top_.load();
    while (top != bottom) {
      Runnable* item = slot(top).load(std::memory_order_acquire);
      if (top_.compare_exchange_strong(top, top + 1)) return item;  // pairs with the thieves' compare-exchanges
    }
    return nullptr;
  }

  /// The oldest item, or null when empty. [any thread]
  Runnable* steal() noexcept {
    std::uint64_t top = top_.load();
    // Loaded after `top`: it can only have grown since. A failed exchange reloads `top`, hence the loop around both.
    while (top < bottom_.load()) {  // pairs with the store in push
      // The slot may be overwritten meanwhile, but only after `top_` has moved on; then the exchange fails.
      Runnable* item = slot(top).load(std::memory_order_acquire);
      if (top_.compare_exchange_strong(top, top + 1)) return item;  // pairs with take and with other thieves
    }
    return nullptr;
  }

  /// Moves half of what is here, rounded up, to the thief's own deque `mine`, except the oldest, which is returned to
  /// be run at once. Null when there was nothing, or when others were quicker a few times: try the next victim.
  /// REQUIRES: `mine` is another deque, and the caller owns it. [thief]
  Runnable* steal_half_into(StealingDeque& mine) noexcept {
    EVLUA_DCHECK(&mine != this);
    const std::uint64_t my_bottom = mine.own_bottom();
    const std::uint64_t room = Capacity - (my_bottom - mine.top_.load());
    std::uint64_t top = top_.load();
    for (int attempt = 0; attempt < kStealAttempts; ++attempt) {
      const std::uint64_t bottom = bottom_.load();  // pairs with the store in push
      if (top >= bottom) return nullptr;
      // At most half the capacity even if `top` is stale and the difference meaningless.
      const std::uint64_t half = std::min<std::uint64_t>((bottom - top + 1) / 2, Capacity / 2);
      const std::uint64_t extra = std::min(half - 1, room);
      Runnable* first = slot(top).load(std::memory_order_acquire);
      // Copied to slots behind my bottom, where nobody looks yet; if the claim fails they are just overwritten.
      for (std::uint64_t i = 0; i < extra; ++i) {
        mine.slot(my_bottom + i).store(slot(top + 1 + i).load(std::memory_order_acquire), std::memory_order_release);
      }
      if (!top_.compare_exchange_strong(top, top + 1 + extra)) continue;  // pairs with take and with other thieves
      if (extra != 0) mine.bottom_.store(my_bottom + extra);              // publishes them, as push does
      return first;
    }
    return nullptr;
  }

  /// Exact for an owner whose deque no thief visits; for others a snapshot that was true at one moment of the single
  /// order, which is what the last re-check before parking needs. [any thread]
  bool empty() const noexcept { return size() == 0; }

  std::size_t size() const noexcept {
    const std::uint64_t top = top_.load();
    const std::uint64_t bottom = bottom_.load();
    return static_cast<std::size_t>(bottom - top);
  }

 private:
  static constexpr int kStealAttempts = 3;

  template <class T>
  using Atomic = typename Atomics::template Atomic<T>;

  // Slots need no more than release and acquire (free on x86): whether a value read is the right one is decided by
  // the compare-exchange on `top_`, never by the slot.
  Atomic<Runnable*>& slot(std::uint64_t index) noexcept { return slots_[index & (Capacity - 1)]; }

  /// Relaxed: only the owner writes it.
  std::uint64_t own_bottom() const noexcept { return bottom_.load(std::memory_order_relaxed); }

  // Apart, since thieves write one and the owner the other.
  alignas(kCacheLine) Atomic<std::uint64_t> top_{0};
  alignas(kCacheLine) Atomic<std::uint64_t> bottom_{0};
  alignas(kCacheLine) Atomic<Runnable*> slots_[Capacity]{};
};

}  // namespace evlua
