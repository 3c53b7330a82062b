// What one worker's part of a server counts. Its worker writes, anybody reads.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "core/own_counter.h"
#include "core/time.h"

namespace evlua::http {

/// Upper bounds of the buckets of how long requests take.
inline constexpr std::array<Duration, 17> kDurationBounds = {
    50 * kMicrosecond,   100 * kMicrosecond, 250 * kMicrosecond, 500 * kMicrosecond, 1 * kMillisecond,
    2500 * kMicrosecond, 5 * kMillisecond,   10 * kMillisecond,  25 * kMillisecond,  50 * kMillisecond,
    100 * kMillisecond,  250 * kMillisecond, 500 * kMillisecond, 1 * kSecond,        2500 * kMillisecond,
    5 * kSecond,         10 * kSecond};

struct StationCounters {
  OwnCounter accepted, closed;  ///< connections
  OwnCounter accept_failures;   ///< no descriptors or memory: connections wait
  OwnCounter turned_away;       ///< connections of addresses that had too many
  OwnCounter full;              ///< times that as many were open as are allowed, and others had to wait
  OwnCounter handshakes, handshake_failures;
  OwnCounter streams;              ///< of HTTP/2
  OwnCounter bytes_in, bytes_out;  ///< as they go over the sockets

  // Only while somebody observes:
  std::array<OwnCounter, 5> statuses;  ///< 1xx to 5xx
  OwnCounter refused;                  ///< requests that could not be read; in `statuses`, too
  OwnCounter aborted;                  ///< responses that did not go out whole
  std::array<OwnCounter, kDurationBounds.size() + 1> durations;
  OwnCounter duration_sum;  ///< ns

  void count_duration(Duration duration) noexcept {
    std::size_t bucket = 0;
    while (bucket < kDurationBounds.size() && duration > kDurationBounds[bucket]) ++bucket;
    durations[bucket].add();
    duration_sum.add(static_cast<std::uint64_t>(duration));
  }
};

}  // namespace evlua::http
