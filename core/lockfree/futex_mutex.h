// A mutex of four bytes. Uncontended it is one exchange to lock and one to unlock; a thread that finds it held spins
// briefly and then sleeps in the kernel.
//
// The word is 0 free, 1 held, 2 held and somebody may sleep. Only unlocking from 2 costs a system call. Not recursive,
// not fair. Lockable: works with std::lock_guard and std::unique_lock. Never held across a co_await. [any thread]
// (After U. Drepper, "Futexes Are Tricky".)
#pragma once

#include <atomic>
#include <cstdint>

#include "core/lockfree/futex.h"
#include "core/lockfree/pause.h"

namespace evlua {

class FutexMutex {
 public:
  constexpr FutexMutex() noexcept = default;
  FutexMutex(const FutexMutex&) = delete;
  FutexMutex& operator=(const FutexMutex&) = delete;

  void lock() noexcept {
    if (!try_lock()) lock_slowly();
  }

  [[nodiscard]] bool try_lock() noexcept {
    std::uint32_t expected = kFree;
    // acquire: pairs with the exchange in unlock.
    return word_.compare_exchange_strong(expected, kHeld, std::memory_order_acquire, std::memory_order_relaxed);
  }

  void unlock() noexcept {
    // release: pairs with the acquiring exchanges. Nothing but the address is used afterwards, so the next holder may
    // already be destroying the mutex.
    if (word_.exchange(kFree, std::memory_order_release) == kContended) futex_wake_one(word_);
  }

 private:
  static constexpr std::uint32_t kFree = 0;
  static constexpr std::uint32_t kHeld = 1;
  static constexpr std::uint32_t kContended = 2;
  static constexpr int kSpinsMax = 100;

  void lock_slowly() noexcept {
    for (int spins = 0; spins < kSpinsMax; ++spins) {
      cpu_pause();
      if (word_.load(std::memory_order_relaxed) == kFree && try_lock()) return;
    }
    // From here on the lock is taken as contended: we cannot know whether others still sleep, and a wake too many is
    // cheaper than one too few. acquire: pairs with the exchange in unlock.
    while (word_.exchange(kContended, std::memory_order_acquire) != kFree) {
      if (turn_to_another_worker.load(std::memory_order_relaxed) != nullptr) {
        yield_processor();
      } else {
        futex_wait(word_, kContended);
      }
    }
  }

  std::atomic<std::uint32_t> word_{kFree};
};

}  // namespace evlua
