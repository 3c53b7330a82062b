#include "net/http/slow_requests.h"

#include <algorithm>
#include <mutex>
#include <utility>

namespace evlua::http {

void SlowRequests::under_way(const Exchange& exchange, std::string traceback) {
  if (traceback.size() > kTracebackMax) traceback.resize(kTracebackMax);
  const std::lock_guard guard(lock_);
  Entry& entry = find_or_add(exchange);
  entry.traceback = std::move(traceback);
  entry.duration = monotonic_now() - entry.began;
}

void SlowRequests::ended(const Exchange& exchange, const ExchangeEnd& end) {
  if (end.refused) return;
  const std::lock_guard guard(lock_);
  Entry& entry = find_or_add(exchange);
  entry.duration = end.duration;
  entry.status = end.status;
}

SlowRequests::Entry& SlowRequests::find_or_add(const Exchange& exchange) {
  const auto found = std::find_if(entries_.begin(), entries_.end(),
                                  [&](const Entry& entry) { return entry.exchange == exchange.id(); });
  if (found != entries_.end()) return *found;
  // What has ended goes first.
  if (entries_.size() >= kEntriesMax) {
    const auto oldest =
        std::find_if(entries_.rbegin(), entries_.rend(), [](const Entry& entry) { return entry.status != 0; });
    entries_.erase(oldest == entries_.rend() ? entries_.end() - 1 : oldest.base() - 1);
  }
  Entry& entry = entries_.emplace_front();
  std::array<char, Exchange::kRequestIdRoom> room;
  entry.exchange = exchange.id();
  entry.id = exchange.request_id(room);
  entry.request = std::string(exchange.method()) + " " + std::string(exchange.target().substr(0, kRequestMax));
  entry.began = exchange.began();
  return entry;
}

std::vector<SlowRequests::Entry> SlowRequests::list() {
  const std::lock_guard guard(lock_);
  return {entries_.begin(), entries_.end()};
}

}  // namespace evlua::http
