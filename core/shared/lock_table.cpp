#include "core/shared/lock_table.h"

#include <mutex>

#include "core/check.h"
#include "core/random_seed.h"
#include "core/shared/dict_hash.h"

namespace evlua {

std::size_t LockTable::Hash::operator()(std::string_view name) const noexcept {
  static const std::uint64_t seed = random_seed();
  return detail::hash_key(name, seed);
}

bool LockTable::try_lock(std::string_view name) {
  const std::lock_guard guard(mutex_);
  return held_.try_emplace(std::string(name)).second;
}

bool LockTable::take_or_queue(const std::string& name, Waiter& waiter) {
  const std::lock_guard guard(mutex_);
  const auto [place, is_new] = held_.try_emplace(name);
  if (!is_new) place->second.push_back(waiter);
  return is_new;
}

bool LockTable::leave(Waiter& waiter) {
  const std::lock_guard guard(mutex_);
  if (waiter.linked()) List<Waiter>::erase(waiter);
  return waiter.owns;
}

Task<Result<void>> LockTable::lock(std::string name, Instant deadline) {
  Waiter waiter;
  const bool taken = take_or_queue(name, waiter);
  if (taken) co_return Result<void>();
  Event::Wait wait = waiter.granted.wait(deadline);
  const Result<void> woken = co_await wait;
  const bool owns = leave(waiter);
  if (owns) co_return Result<void>();
  co_return fail(woken ? Error{ECANCELED, ErrorDomain::system, OpCode::task} : woken.error());
}

void LockTable::unlock(std::string_view name) {
  const std::lock_guard guard(mutex_);
  const auto place = held_.find(name);
  EVLUA_CHECK(place != held_.end());
  Waiter* next = place->second.pop_front();
  if (next == nullptr) {
    held_.erase(place);
    return;
  }
  next->owns = true;
  next->granted.set();  // under the mutex: the waiter cannot go before it has had it
}

std::size_t LockTable::size() {
  const std::lock_guard guard(mutex_);
  return held_.size();
}

}  // namespace evlua
