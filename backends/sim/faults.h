// What goes wrong in a simulated world, and how often. Probabilities are per operation unless marked otherwise.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/time.h"

namespace evlua {

struct SimFaults {
  // What the caller never sees, other than by order and amount.
  double short_io = 0.25;     ///< fewer bytes are moved than could be
  double interrupted = 0.05;  ///< EINTR, per attempt
  double would_block = 0.05;  ///< EAGAIN in spite of readiness, per attempt

  // What the caller is told.
  double cancelled = 0;      ///< ECANCELED that nobody asked for
  double no_space = 0;       ///< ENOSPC: write, fsync, truncate, mkdir, rename, an open that creates
  double no_descriptor = 0;  ///< EMFILE: accept, open
  double reset = 0;          ///< ECONNRESET: receiving and sending; the connection is lost on both sides

  /// Torture: of all fallible steps (each operation's first attempt) exactly this one fails, counted from 1, with the
  /// error that fits the operation; the probabilities of the second group are then ignored. 0: off.
  std::uint64_t fail_at = 0;

  Duration delay_max = 10 * kMillisecond;  ///< from one stage of an operation to the next
  std::size_t channel_bytes = 64 * 1024;   ///< what a connection holds in each direction
  std::size_t descriptors_max = 1 << 20;   ///< more of them is EMFILE

  /// Everything works at once and in full.
  static constexpr SimFaults none() noexcept {
    SimFaults faults;
    faults.short_io = faults.interrupted = faults.would_block = 0;
    return faults;
  }
};

}  // namespace evlua
