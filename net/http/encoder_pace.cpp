#include "net/http/encoder_pace.h"

#include <cerrno>

#include "core/io_await.h"

namespace evlua::http {

/// Under the lock: once it is in the list, it may go on, and be gone, at any moment.
void EncoderPace::Turn::wait() noexcept {
  EncoderPace& pace = pace_;
  pace.lock_.lock();
  pace.waiting_.push_back(*this);
  pace.some_wait_.set();
  pace.lock_.unlock();
}

EncoderPace::Turn* EncoderPace::next() noexcept {
  lock_.lock();
  Turn* first = waiting_.pop_front();
  if (first == nullptr) some_wait_.reset();
  lock_.unlock();
  return first;
}

/// A sleep of no length ends when nothing else is ready, or when it was everyone else's turn.
Task<void> EncoderPace::run() {
  while (true) {
    const Result<void> woken = co_await some_wait_.wait();
    if (!woken) co_return;
    const Result<std::int32_t> slept = co_await io::sleep_until(worker_.now());
    if (!slept && slept.error().is(ECANCELED)) co_return;
    Turn* first = next();
    if (first != nullptr) first->home_->enqueue(*first);
  }
}

}  // namespace evlua::http
