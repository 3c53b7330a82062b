// A lock that readers only look at: they read, and read again if somebody wrote meanwhile.
//
// So that reading alone moves no cache line between processors. What it protects is made of atomics: stored with
// release by whoever holds the lock, loaded with acquire by readers, between begin_read and unchanged. Writers exclude
// each other as with SpinLock, whose rules hold: any thread, not recursive, for a handful of instructions.
//
//   std::uint32_t seen;
//   do { seen = lock.begin_read(); x = x_.load(acquire); y = y_.load(acquire); } while (!lock.unchanged(seen));
#pragma once

#include <atomic>
#include <cstdint>

#include "core/atomics.h"
#include "core/lockfree/pause.h"

namespace evlua {

template <class Atomics>
class BasicSeqLock {
 public:
  constexpr BasicSeqLock() noexcept = default;
  BasicSeqLock(const BasicSeqLock&) = delete;
  BasicSeqLock& operator=(const BasicSeqLock&) = delete;

  void lock() noexcept {
    // acquire: pairs with the release in unlock. A single access, so that the cache line comes once and to stay.
    while ((word_.fetch_or(kHeld, std::memory_order_acquire) & kHeld) != 0) wait_until_free();
  }

  void unlock() noexcept {
    // Only the holder writes it, but for those who set the bit that is set.
    word_.store(word_.load(std::memory_order_relaxed) + 1, std::memory_order_release);
  }

  std::uint32_t begin_read() const noexcept {
    std::uint32_t word = 0;
    // acquire: pairs with the release in unlock.
    while (((word = word_.load(std::memory_order_acquire)) & kHeld) != 0) wait_until_free();
    return word;
  }

  /// Nobody has held the lock since begin_read returned `seen`. The loads between were acquire: if one of them saw what
  /// a holder stored, this sees at least that it was held.
  bool unchanged(std::uint32_t seen) const noexcept { return word_.load(std::memory_order_relaxed) == seen; }

 private:
  static constexpr std::uint32_t kHeld = 1;
  static constexpr int kPausesMax = 256;

  /// As SpinLock does: the holder keeps the cache line.
  void wait_until_free() const noexcept {
    for (int pauses = 32; (word_.load(std::memory_order_relaxed) & kHeld) != 0; pauses *= 2) {
      if (pauses > kPausesMax) {
        yield_processor();
        pauses = 32;
      }
      for (int i = 0; i < pauses; ++i) cpu_pause();
    }
  }

  typename Atomics::template Atomic<std::uint32_t> word_{0};
};

using SeqLock = BasicSeqLock<StdAtomics>;

}  // namespace evlua
