// Overload: which requests are started, and which are refused because they, or those behind them, would wait too long.
//
// What counts is how long a request waits for the processor: until now, from when its head had come, in the worker's
// queues or for a Lua state; or from now on, where handlers compute in turns and each turn takes long. As long as that
// is short now and then, there are bursts and nothing more. When for a whole interval everybody had to wait longer than
// the target, there is more to do than can be done: from then on whoever would wait for too long is refused, until
// nobody had to be for some time. An error soon, for some, instead of one late for all. Clients who got more than their
// share lately are refused first.
//
// A worker has one. [any thread, unless marked]
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "core/lockfree/futex_mutex.h"
#include "core/time.h"

namespace evlua::http {

class Exchange;

class Admission {
 public:
  struct Options {
    Duration target = kNever;          ///< how long requests may wait, when they always do; kNever: for ever
    std::uint32_t queue_max = 10'000;  ///< that wait for a Lua state
  };
  explicit Admission(const Options& options) noexcept : options_(options) {}

  /// Where a request is asked about: as it comes, or at the head of the queue.
  enum class At : std::uint8_t { arrival, head_of_queue };

  /// May it be started? It has waited since Exchange::came, and will wait for `expected` when it has begun. [owner of
  /// the exchange]
  bool admits(Exchange& exchange, Instant now, Duration expected, At at) noexcept;
  /// It was, and has ended; its slices were cut so often. [owner of the exchange]
  void charge(Exchange& exchange, std::uint32_t cuts) noexcept;

  /// One more waits for a Lua state. False: there are too many.
  bool enter_queue() noexcept;
  void leave_queue() noexcept { queued_.fetch_sub(1, std::memory_order_relaxed); }

 private:
  static constexpr std::size_t kBuckets = 256;

  /// What a client has had lately, and what one has in the mean.
  struct Account {
    double own;
    double share;
  };

  void in_time(At at) noexcept;
  bool admits_late(Exchange& exchange, Instant now, Duration expected, At at) noexcept;
  bool admits_strictly(Exchange& exchange, Instant now, Duration expected) noexcept;
  Account account_of(std::uint64_t network, Instant now) noexcept;
  void begin_window(Instant now) noexcept;

  const Options options_;
  std::atomic<std::uint32_t> queued_{0};
  std::atomic<Instant> late_since_{kNever};  // since then all had to wait for longer than the target
  std::atomic<Instant> strict_until_{0};     // overload, or not long ago

  /// Who had how much while strict. Addresses share buckets.
  struct Window {
    std::array<std::uint64_t, kBuckets> used{};
    std::uint64_t all = 0;
  };
  FutexMutex lock_;
  Instant window_ends_ = 0;
  Window now_;
  Window before_;
  unsigned clients_ = 0;  // in the window before, and new ones in this
};

}  // namespace evlua::http
