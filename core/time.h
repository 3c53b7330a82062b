// Time as the runtime counts it: nanoseconds of the monotonic clock.
#pragma once

#include <cstdint>
#include <limits>

namespace evlua {

/// A point on the monotonic clock, in nanoseconds. The simulator supplies a virtual one.
using Instant = std::int64_t;

/// Nanoseconds.
using Duration = std::int64_t;

/// The deadline of a wait that has none.
inline constexpr Instant kNever = std::numeric_limits<Instant>::max();

inline constexpr Duration kMicrosecond = 1'000;
inline constexpr Duration kMillisecond = 1'000'000;
inline constexpr Duration kSecond = 1'000'000'000;

/// CLOCK_MONOTONIC. [any thread]
Instant monotonic_now() noexcept;

/// The processor time that the calling thread has used.
Instant thread_cpu_time() noexcept;

/// `now + after`, saturating at kNever; a negative `after` counts as zero.
constexpr Instant deadline_after(Instant now, Duration after) noexcept {
  if (after <= 0) return now;
  return after >= kNever - now ? kNever : now + after;
}

/// Seconds as Lua gives them; NaN and negatives become 0, huge values become kNever.
constexpr Duration duration_from_seconds(double seconds) noexcept {
  if (!(seconds > 0)) return 0;
  return seconds >= 9.0e9 ? kNever : static_cast<Duration>(seconds * 1e9);
}

}  // namespace evlua
