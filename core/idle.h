// Who sleeps and who looks for work: one word, so that new work wakes a worker when it must and not otherwise.
//
// The rules
// - A worker without work *searches*: it visits the other deques and the injection queue. At most half of the workers
//   search at once (rounded up).
// - Nobody is woken while someone searches: the searcher will find the work.
// - Whoever is the last to stop searching re-checks every queue afterwards: work that came while it searched woke
//   nobody, on the strength of its search. So does whoever parks, searching or not: when the last searcher found work
//   and wanted to wake another, this one may not have counted as parked yet.
//
// A worker that parks
//   1. sets the mark on its inbox (Inbox::try_mark; a message that came first ends the attempt),
//   2. calls park(), then re-checks every queue; if there is work it clears its own mark as if it had slept,
//   3. else sleeps in the backend's wait.
// A worker that stops searching because it found work calls end_search(), and if that returns true and any queue still
// has work, wakes one more (if should_wake).
// A worker that wakes up clears its mark itself. True: it woke by itself (deadline, completion) and calls unpark_self.
// False: somebody else cleared the mark, counts this worker as searching, and this worker ends that with end_search or
// park as any searcher does.
//
// Whoever makes stealable work visible calls should_wake() after that; if true, it clears the mark of any parked
// worker by Inbox::unmark; if one succeeded, it calls unparked_by_wake() and wakes that worker. Whoever displaces a
// mark with a message (Inbox::post returned true) likewise calls unparked_by_wake() and wakes.
//
// Why no wake-up is lost: the publishing store of the work, the load in should_wake, the marks, the updates of this
// word and the loads of the re-check are all sequentially consistent. Either should_wake comes before the update by
// which a worker parks or ends the last search, and the re-check after it sees the work; or it comes after, sees nobody
// searching, and then the mark, set before that update, is visible too.
//
// Whoever clears a foreign mark counts only after clearing, so for a moment the word may count fewer searching and
// unparked workers than there are, even fewer than none. The error is always on the side of waking once too often:
// never too seldom. All of this is [any thread] unless marked.
#pragma once

#include <atomic>
#include <cstdint>

#include "core/atomics.h"

namespace evlua {

template <class Atomics>
class BasicIdleState {
 public:
  /// All workers are up and none searches.
  explicit BasicIdleState(std::uint32_t workers) noexcept
      : workers_(static_cast<std::int32_t>(workers)), word_(workers_ * kUnparked) {}
  BasicIdleState(const BasicIdleState&) = delete;
  BasicIdleState& operator=(const BasicIdleState&) = delete;

  /// Counts the caller as searching, unless half of the workers do already. [worker, not searching]
  [[nodiscard]] bool try_start_search() noexcept {
    std::int64_t word = word_.load(std::memory_order_relaxed);
    do {
      if (2 * searching_in(word) >= workers_) return false;
    } while (
        !word_.compare_exchange_weak(word, word + kSearching, std::memory_order_seq_cst, std::memory_order_relaxed));
    return true;
  }

  /// The caller no longer searches. True: it was the last one, and must re-check the queues. [worker, searching]
  [[nodiscard]] bool end_search() noexcept {
    return searching_in(word_.fetch_sub(kSearching)) <= 1;  // pairs with the load in should_wake
  }

  /// The caller's mark is set and it is about to sleep; it must re-check every queue first. `searching` says whether
  /// it was counted as such, which ends here. [worker]
  void park(bool searching) noexcept {
    word_.fetch_sub(kUnparked + (searching ? kSearching : 0));  // pairs with the load in should_wake
  }

  /// The caller cleared its own mark: it is up and not searching. [worker, parked]
  void unpark_self() noexcept { word_.fetch_add(kUnparked); }

  /// The caller cleared another worker's mark. That worker counts as up and searching from here on.
  void unparked_by_wake() noexcept { word_.fetch_add(kUnparked + kSearching); }

  /// New work is visible: is it worth looking for a parked worker? Nobody searches and someone may be parked.
  [[nodiscard]] bool should_wake() const noexcept {
    const std::int64_t word = word_.load();  // pairs with end_search and park
    return searching_in(word) <= 0 && unparked_in(word) < workers_;
  }

  /// For statistics and tests: exact at rest.
  std::int32_t searching() const noexcept { return searching_in(word_.load(std::memory_order_relaxed)); }
  std::int32_t parked() const noexcept { return workers_ - unparked_in(word_.load(std::memory_order_relaxed)); }
  std::int32_t workers() const noexcept { return workers_; }

 private:
  // unparked * 2^32 + searching, where either may be negative for a moment: plain sums stay exact.
  static constexpr std::int64_t kSearching = 1;
  static constexpr std::int64_t kUnparked = std::int64_t{1} << 32;

  static std::int32_t searching_in(std::int64_t word) noexcept { return static_cast<std::int32_t>(word); }
  static std::int32_t unparked_in(std::int64_t word) noexcept {
    return static_cast<std::int32_t>((word - searching_in(word)) / kUnparked);
  }

  const std::int32_t workers_;
  typename Atomics::template Atomic<std::int64_t> word_;
};

using IdleState = BasicIdleState<StdAtomics>;

}  // namespace evlua
