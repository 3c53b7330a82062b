#include "net/http/pace.h"

#include <cerrno>

#include "core/io_await.h"

namespace evlua::http {

/// Under the lock: once it is in the list, it may go on, and be gone, at any moment.
void Pace::Turn::wait() noexcept {
  Pace& pace = pace_;
  pace.lock_.lock();
  pace.waiting_.push_back(*this);
  pace.some_wait_.set();
  pace.lock_.unlock();
}

bool Pace::may_go_on() noexcept {
  if (since_ != worker_.now()) {
    since_ = worker_.now();
    count_ = 0;
  }
  return ++count_ <= in_a_row_;
}

/// Null: nobody waits, or others have their turn first.
Pace::Turn* Pace::next() noexcept {
  lock_.lock();
  if (waiting_.empty()) some_wait_.reset();
  Turn* const first = !waiting_.empty() && may_go_on() ? waiting_.pop_front() : nullptr;
  lock_.unlock();
  return first;
}

/// A sleep of no length ends when nothing else is ready, or when it was everyone else's turn.
Task<void> Pace::run() {
  while (true) {
    const Result<void> woken = co_await some_wait_.wait();
    if (!woken) co_return;
    const Result<std::int32_t> slept = co_await io::sleep_until(worker_.now());
    if (!slept && slept.error().is(ECANCELED)) co_return;
    for (Turn* turn = next(); turn != nullptr; turn = next()) {
      if (of_ == Of::worker) {
        turn->handle_.resume();
      } else {
        turn->home_->enqueue(*turn);
      }
    }
  }
}

}  // namespace evlua::http
