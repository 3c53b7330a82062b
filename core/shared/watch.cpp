#include "core/shared/watch.h"

#include <cerrno>
#include <mutex>
#include <new>
#include <utility>

namespace evlua {

WatchList::~WatchList() { EVLUA_CHECK(watches_.empty()); }

void WatchList::tell(std::string_view key) {
  const std::lock_guard guard(lock_);
  watches_.for_each([key](Watch& watch) { watch.changed(key); });
}

void WatchList::tell_all() {
  const std::lock_guard guard(lock_);
  watches_.for_each([](Watch& watch) {
    if (watch.key_.has_value()) return watch.changed(*watch.key_);
    watch.missed_ = true;
    watch.told_.set();
  });
}

Watch::Watch(WatchList& list, std::optional<std::string> key) : list_(list), key_(std::move(key)) {
  const std::lock_guard guard(list_.lock_);
  list_.watches_.push_back(*this);
  list_.count_.fetch_add(1);
}

void Watch::close() {
  const std::lock_guard guard(list_.lock_);
  if (!linked()) return;
  List<Watch>::erase(*this);
  list_.count_.fetch_sub(1);
  told_.set();
}

void Watch::changed(std::string_view key) {
  if (key_.has_value() && *key_ != key) return;
  if (pending_.contains(key)) return;
  if (order_.size() == kKeysMax || bytes_ + key.size() > kBytesMax || !keep(key)) missed_ = true;
  told_.set();
}

/// False when there is no memory.
bool Watch::keep(std::string_view key) noexcept {
  try {
    const std::string& kept = order_.emplace_back(key);
    bytes_ += kept.size();
    pending_.insert(kept);
    return true;
  } catch (const std::bad_alloc&) {
    return false;
  }
}

std::optional<Result<std::string>> Watch::take() {
  const std::lock_guard guard(list_.lock_);
  if (!linked()) return fail(EBADF, OpCode::task);
  if (std::exchange(missed_, false)) return fail(ENOBUFS, OpCode::task);
  if (order_.empty()) {
    told_.reset();
    return std::nullopt;
  }
  pending_.erase(order_.front());
  std::string key = std::move(order_.front());
  bytes_ -= key.size();
  order_.pop_front();
  return key;
}

Task<Result<std::string>> Watch::next(Instant deadline) {
  if (waited_for_) co_return fail(EBUSY, OpCode::task);
  waited_for_ = true;
  std::optional<Result<std::string>> taken = take();
  while (!taken.has_value()) {
    Event::Wait wait = told_.wait(deadline);
    const Result<void> told = co_await wait;
    taken = take();
    if (!told && !taken.has_value()) taken = fail(told.error());
  }
  waited_for_ = false;
  co_return std::move(*taken);
}

}  // namespace evlua
