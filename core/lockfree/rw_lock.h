// A reader-writer lock: many readers or one writer. Waiting threads spin briefly and then sleep in the kernel.
//
// Writers are not starved: from the moment a writer asks, new readers wait, and the writer enters when the readers
// inside have left. (Readers can be, by writers that follow each other without a pause.) Writers queue among
// themselves on a mutex. Not recursive, for readers either: a reader that reads again while a writer waits would wait
// for itself. SharedLockable: works with std::shared_lock and std::unique_lock. Never held across a co_await.
// [any thread]
//
// The word: the number of readers inside, a bit for a writer (inside, or waiting for readers to leave), and a bit for
// "somebody may sleep on this word".
#pragma once

#include <atomic>
#include <cstdint>

#include "core/lockfree/futex.h"
#include "core/lockfree/futex_mutex.h"
#include "core/lockfree/pause.h"

namespace evlua {

class RwLock {
 public:
  constexpr RwLock() noexcept = default;
  RwLock(const RwLock&) = delete;
  RwLock& operator=(const RwLock&) = delete;

  void lock() noexcept {
    writers_.lock();
    std::uint32_t word = word_.fetch_or(kWriter, std::memory_order_acquire) | kWriter;
    for (int spins = 0; readers_in(word) != 0; word = word_.load(std::memory_order_acquire)) {
      sleep_or_spin(word, spins);  // acquire: pairs with the release in unlock_shared
    }
  }

  [[nodiscard]] bool try_lock() noexcept {
    if (!writers_.try_lock()) return false;
    std::uint32_t expected = 0;
    // acquire: pairs with the releases in unlock_shared and unlock.
    if (word_.compare_exchange_strong(expected, kWriter, std::memory_order_acquire, std::memory_order_relaxed)) {
      return true;
    }
    writers_.unlock();
    return false;
  }

  void unlock() noexcept {
    // release: pairs with the acquire in lock_shared; the next writer is paired through writers_.
    const std::uint32_t before = word_.exchange(0, std::memory_order_release);
    if ((before & kSleepers) != 0) futex_wake_all(word_);
    writers_.unlock();
  }

  void lock_shared() noexcept {
    for (int spins = 0; !try_lock_shared();) {
      const std::uint32_t word = word_.load(std::memory_order_relaxed);
      if ((word & kWriter) != 0) sleep_or_spin(word, spins);
    }
  }

  [[nodiscard]] bool try_lock_shared() noexcept {
    std::uint32_t word = word_.load(std::memory_order_relaxed);
    do {
      if ((word & kWriter) != 0) return false;
      // acquire: pairs with the release in unlock.
    } while (!word_.compare_exchange_weak(word, word + 1, std::memory_order_acquire, std::memory_order_relaxed));
    return true;
  }

  void unlock_shared() noexcept {
    const std::uint32_t before = word_.fetch_sub(1, std::memory_order_release);  // pairs with the loads in lock
    // The last one out, and the writer sleeps. (Readers that sleep here too are woken with it and sleep again.)
    if (before == (kWriter | kSleepers | 1)) futex_wake_all(word_);
  }

 private:
  static constexpr std::uint32_t kWriter = 1u << 31;
  static constexpr std::uint32_t kSleepers = 1u << 30;
  static constexpr int kSpinsMax = 100;

  static constexpr std::uint32_t readers_in(std::uint32_t word) noexcept { return word & ~(kWriter | kSleepers); }

  /// Waits a little for `word` to change; after a while, until it does. kSleepers is set only beside kWriter, and the
  /// writer's unlock clears both.
  void sleep_or_spin(std::uint32_t word, int& spins) noexcept {
    if (++spins < kSpinsMax) {
      cpu_pause();
      return;
    }
    const std::uint32_t with_sleepers = word | kSleepers;
    if (word == with_sleepers ||
        word_.compare_exchange_strong(word, with_sleepers, std::memory_order_relaxed, std::memory_order_relaxed)) {
      futex_wait(word_, with_sleepers);
    }
  }

  FutexMutex writers_;
  std::atomic<std::uint32_t> word_{0};
};

}  // namespace evlua
