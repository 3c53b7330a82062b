// What every spinning loop needs: a polite pause, and the distance that keeps two words off one cache line.
#pragma once

#include <atomic>
#include <cstddef>
#include <thread>

namespace evlua {

/// A constant, not std::hardware_destructive_interference_size: that one may change with the compiler's flags, and
/// these sizes are part of class layouts.
inline constexpr std::size_t kCacheLine = 64;

/// Tells the processor that this is a spinning loop: frees resources for the sibling thread and saves power.
inline void cpu_pause() noexcept {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
  asm volatile("yield" ::: "memory");
#endif
}

/// For a simulator that has several workers on one thread: it turns to another of them, or, unless it `must`, may do
/// so. Null elsewhere.
inline constinit std::atomic<void (*)(bool must) noexcept> turn_to_another_worker{nullptr};

/// Another worker may go on here, in a simulator.
inline void may_turn() noexcept {
  if (const auto turn = turn_to_another_worker.load(std::memory_order_relaxed)) turn(false);
}

/// The caller waits for another thread's next few instructions, which may have lost its processor.
inline void yield_processor() noexcept {
  if (const auto turn = turn_to_another_worker.load(std::memory_order_relaxed)) return turn(true);
  std::this_thread::yield();
}

}  // namespace evlua
