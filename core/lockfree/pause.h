// What every spinning loop needs: a polite pause, and the distance that keeps two words off one cache line.
#pragma once

#include <cstddef>

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

}  // namespace evlua
