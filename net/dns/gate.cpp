#include "net/dns/gate.h"

namespace evlua::net {

Task<Result<void>> Gate::enter(Instant deadline) {
  Waiter waiter;
  lock_.lock();
  const bool is_free = free_ > 0 && waiters_.empty();
  if (is_free) {
    --free_;
  } else {
    waiters_.push_back(waiter);
  }
  lock_.unlock();
  if (is_free) co_return Result<void>();
  const Result<void> waited = co_await waiter.admitted.wait(deadline);
  lock_.lock();  // leave may be about to admit us, or may not have let go of the event yet
  const bool admitted = waiter.is_admitted;
  if (!admitted) List<Waiter>::erase(waiter);
  lock_.unlock();
  if (waited || !admitted) co_return waited;
  leave();
  co_return waited;
}

void Gate::leave() noexcept {
  lock_.lock();
  Waiter* next = waiters_.pop_front();
  if (next == nullptr) {
    ++free_;
  } else {
    next->is_admitted = true;
    next->admitted.set();
  }
  lock_.unlock();
}

}  // namespace evlua::net
