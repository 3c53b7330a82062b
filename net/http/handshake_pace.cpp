#include "net/http/handshake_pace.h"

#include <cerrno>

#include "core/io_await.h"

namespace evlua::http {

bool HandshakePace::may_go_on() noexcept {
  if (since_ != worker_.now()) {
    since_ = worker_.now();
    in_a_row_ = 0;
  }
  return ++in_a_row_ <= kInARow;
}

/// A sleep of no length ends when nothing else is ready, or when it was everyone else's turn.
Task<void> HandshakePace::run() {
  while (true) {
    const Result<void> woken = co_await some_wait_.wait();
    if (!woken) co_return;
    const Result<std::int32_t> slept = co_await io::sleep_until(worker_.now());
    if (!slept && slept.error().is(ECANCELED)) co_return;
    while (!waiting_.empty() && may_go_on()) waiting_.pop_front()->handle_.resume();
    if (waiting_.empty()) some_wait_.reset();
  }
}

}  // namespace evlua::http
