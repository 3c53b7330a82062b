// Requests that take long: those under way, with what their handlers wait for, and the latest of those that have ended.
// A few of them, for people to look at. [any thread]
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "core/lockfree/futex_mutex.h"
#include "core/time.h"
#include "net/http/exchange.h"
#include "net/http/request_log.h"

namespace evlua::http {

class SlowRequests {
 public:
  struct Entry {
    std::uint64_t exchange = 0;  ///< Exchange::id
    std::string id;
    std::string request;  ///< method and target, not escaped; perhaps cut
    std::string traceback;
    Instant began = 0;
    Duration duration = 0;  ///< so far, when somebody looked, or in all
    int status = 0;         ///< 0: it has not ended
  };

  /// Its handler waits, or computes, at `traceback`. By whoever owns the exchange.
  void under_way(const Exchange& exchange, std::string traceback);
  /// It has ended; if it took long.
  void ended(const Exchange& exchange, const ExchangeEnd& end);
  /// The newest first.
  std::vector<Entry> list();

 private:
  static constexpr std::size_t kEntriesMax = 40;
  static constexpr std::size_t kRequestMax = 256;
  static constexpr std::size_t kTracebackMax = 8 * 1024;

  Entry& find_or_add(const Exchange& exchange);

  FutexMutex lock_;
  std::deque<Entry> entries_;  // the newest first
};

}  // namespace evlua::http
