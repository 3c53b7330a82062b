// A lock for a handful of instructions. It spins on a plain load, and gives up the processor when the holder seems to
// have lost its own.
//
// Any thread. Not recursive, not fair. Never held across a system call, an allocation or a co_await; for anything
// longer take FutexMutex. BasicLockable and Lockable: works with std::lock_guard and std::unique_lock.
#pragma once

#include <atomic>

#include "core/atomics.h"
#include "core/lockfree/pause.h"

namespace evlua {

template <class Atomics>
class BasicSpinLock {
 public:
  constexpr BasicSpinLock() noexcept = default;
  BasicSpinLock(const BasicSpinLock&) = delete;
  BasicSpinLock& operator=(const BasicSpinLock&) = delete;

  void lock() noexcept {
    while (!try_lock()) wait_until_free();
  }

  [[nodiscard]] bool try_lock() noexcept {
    // acquire: pairs with the release in unlock.
    return !locked_.exchange(true, std::memory_order_acquire);
  }

  void unlock() noexcept { locked_.store(false, std::memory_order_release); }

 private:
  static constexpr int kPausesMax = 256;

  /// Looks at the lock ever more rarely: the holder keeps the cache line, and a thread that locks again and again does
  /// so many times before the line moves.
  void wait_until_free() const noexcept {
    for (int pauses = 32; locked_.load(std::memory_order_relaxed); pauses *= 2) {
      if (pauses > kPausesMax) {
        // The holder may be off its processor: with more threads than processors spinning on would only delay it.
        yield_processor();
        pauses = 32;
      }
      for (int i = 0; i < pauses; ++i) cpu_pause();
    }
  }

  typename Atomics::template Atomic<bool> locked_{false};
};

using SpinLock = BasicSpinLock<StdAtomics>;

}  // namespace evlua
