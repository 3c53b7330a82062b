// A lock for a handful of instructions. It spins on a plain load, and gives up the processor when the holder seems to
// have lost its own.
//
// Any thread. Not recursive, not fair. Never held across a system call, an allocation or a co_await; for anything
// longer take FutexMutex. BasicLockable and Lockable: works with std::lock_guard and std::unique_lock.
#pragma once

#include <atomic>
#include <thread>

#include "core/lockfree/pause.h"

namespace evlua {

class SpinLock {
 public:
  constexpr SpinLock() noexcept = default;
  SpinLock(const SpinLock&) = delete;
  SpinLock& operator=(const SpinLock&) = delete;

  void lock() noexcept {
    while (!try_lock()) wait_until_free();
  }

  [[nodiscard]] bool try_lock() noexcept {
    // acquire: pairs with the release in unlock.
    return !locked_.exchange(true, std::memory_order_acquire);
  }

  void unlock() noexcept { locked_.store(false, std::memory_order_release); }

 private:
  static constexpr int kSpinsMax = 100;

  /// Reads only, so that waiting threads share the cache line instead of fighting for it.
  void wait_until_free() const noexcept {
    int spins = 0;
    while (locked_.load(std::memory_order_relaxed)) {
      if (++spins < kSpinsMax) {
        cpu_pause();
      } else {
        // The holder may be off its processor: with more threads than processors spinning on would only delay it.
        std::this_thread::yield();
        spins = 0;
      }
    }
  }

  std::atomic<bool> locked_{false};
};

}  // namespace evlua
