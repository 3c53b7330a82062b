// Watch: who waits for changes of a Dict, or of one key of it.
#pragma once

#include <atomic>
#include <cstddef>
#include <deque>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "core/error.h"
#include "core/event.h"
#include "core/intrusive.h"
#include "core/lockfree/futex_mutex.h"
#include "core/task.h"

namespace evlua {

class Watch;

/// The watches of one Dict. [any thread]
class WatchList {
 public:
  WatchList() = default;
  ~WatchList();
  WatchList(const WatchList&) = delete;
  WatchList& operator=(const WatchList&) = delete;

  bool empty() const noexcept { return count_.load(std::memory_order_relaxed) == 0; }
  /// `key` has changed.
  void tell(std::string_view key);
  /// Everything may have changed.
  void tell_all();

 private:
  friend class Watch;

  FutexMutex lock_;
  std::atomic<std::size_t> count_{0};
  List<Watch> watches_;
};

/// Collects the keys that change; a key that changes again before it is taken is told once.
class Watch : public ListNode {
 public:
  static constexpr std::size_t kKeysMax = 4096;
  static constexpr std::size_t kBytesMax = std::size_t{1} << 20;

  /// From now on. Without `key` every key is watched.
  Watch(WatchList& list, std::optional<std::string> key);
  ~Watch() { close(); }

  /// The next key that has changed. ENOBUFS (once) when more keys have changed than are kept: some were not told.
  /// EBADF when the watch is closed, EBUSY while another call waits. [one thread at a time]
  Task<Result<std::string>> next(Instant deadline);
  void close();

 private:
  friend class WatchList;

  /// Under the list's lock.
  void changed(std::string_view key);
  bool keep(std::string_view key) noexcept;

  /// A result for `next`, or nothing: then `told_` will be set.
  std::optional<Result<std::string>> take();

  WatchList& list_;
  const std::optional<std::string> key_;
  std::deque<std::string> order_;
  std::size_t bytes_ = 0;               // of what is in order_
  std::set<std::string_view> pending_;  // of what is in order_
  bool missed_ = false;
  bool waited_for_ = false;
  Event told_;
};

}  // namespace evlua
