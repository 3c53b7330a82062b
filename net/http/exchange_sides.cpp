// What passes between the two sides of an exchange, the connection's and the handler's.
//
// Until defer(), everything happens on the connection's worker, and output goes straight into the connection's buffer
// behind the responses of earlier pipelined requests. After defer() the handler may be on any thread: output goes into
// `pending_` under `lock_`, and one node tells the connection's task, on its own worker, that there is some (kOutput)
// or that the exchange is its own again (kDone). Only the connection's task sends. Body bytes are received by the
// handler's side itself, since nobody else receives meanwhile; where that cannot be (fed_) they are delivered.
#include <cerrno>
#include <utility>

#include "net/http/connection.h"
#include "net/http/exchange.h"

namespace evlua::http {

void Exchange::notify(std::uint8_t bits) noexcept {
  if (!deferred_) return;
  Connection& connection = *connection_;
  lock_.lock();
  bits_ |= bits;
  if ((bits & kDone) != 0) given_back_ = true;
  const bool post = !std::exchange(posted_, true);
  lock_.unlock();
  // Without posting, the node is on its way already, and with kDone this exchange may be gone by now.
  if (post) connection.home().enqueue(node_);
}

std::uint8_t Exchange::take_bits() noexcept {
  lock_.lock();
  posted_ = false;
  const std::uint8_t bits = std::exchange(bits_, std::uint8_t{0});
  lock_.unlock();
  return bits;
}

Bytes& Exchange::lock_output() noexcept {
  if (!deferred_) return stream_ == nullptr ? connection_->output() : pending_;
  lock_.lock();
  return pending_;
}

void Exchange::unlock_output() noexcept {
  count_pending();
  if (deferred_) lock_.unlock();
}

/// What goes out as it is written does not count, but for the rest, for which nobody could be made to wait any more.
/// REQUIRES: lock_, if deferred
void Exchange::count_pending() noexcept {
  if (stream_ == nullptr) return;
  const bool counts = shut_ || output_ended_;
  held_.set(connection_->held_output(), counts ? pending_.size() : 0);
}

/// Its client takes nothing, and has let too much gather: nothing is added to what there is. REQUIRES: lock_, if
/// deferred
bool Exchange::is_held_back() const noexcept {
  return shut_ && !connection_->held_output().fits(1, limits_->output_bytes);
}

void Exchange::set_shut(bool shut) noexcept {
  lock_.lock();
  shut_ = shut;
  count_pending();
  lock_.unlock();
}

/// HTTP/2: what is pending is the rest.
void Exchange::end_output() noexcept {
  static_cast<void>(lock_output());
  head_ready_ = output_ended_ = true;
  unlock_output();
  notify(kOutput);
}

bool Exchange::has_output() noexcept {
  lock_.lock();
  const bool any = !pending_.empty();
  lock_.unlock();
  return any;
}

Task<Result<void>> Exchange::wait_below(std::size_t mark, Instant deadline) {
  while (true) {
    lock_.lock();
    const Error error = error_;
    const bool drained = pending_.size() < mark && (mark > 1 || !sending_) && (pending_.empty() || !is_held_back());
    if (!drained && error.code == 0) {
      drained_.reset();
      waiting_ = true;
    }
    lock_.unlock();
    if (error.code != 0) co_return evlua::fail(error);
    if (drained) co_return Result<void>();
    const Result<void> woken = co_await drained_.wait(deadline);
    if (!woken) co_return woken;
  }
}

/// nghttp2 asks for more only when the stream's window is open, and so is the connection's.
Task<Result<std::size_t>> Exchange::await_window() {
  while (true) {
    lock_.lock();
    const Error error = error_;
    const std::size_t window = std::exchange(window_, 0);
    window_awaited_ = waiting_ = window == 0 && error.code == 0;
    if (waiting_) drained_.reset();
    lock_.unlock();
    if (error.code != 0) co_return evlua::fail(error);
    if (window != 0) co_return window;
    const Result<void> woken = co_await drained_.wait();
    if (!woken) co_return evlua::fail(woken.error());
  }
}

void Exchange::offer_window(std::size_t bytes) noexcept {
  lock_.lock();
  window_ = bytes;
  const bool wake = std::exchange(waiting_, false);
  lock_.unlock();
  if (wake) drained_.set();
}

bool Exchange::awaits_window() noexcept {
  lock_.lock();
  const bool awaited = window_awaited_;
  lock_.unlock();
  return awaited;
}

void Exchange::deliver(Bytes& bytes, const Result<void>& outcome) noexcept {
  lock_.lock();
  if (arrived_.empty()) {
    arrived_.swap(bytes);
  } else {
    arrived_.append(bytes.view());
  }
  delivery_ = outcome;
  delivered_ = true;
  lock_.unlock();
  delivered_event_.set();
}

void Exchange::deliver(std::string_view bytes, bool ended) noexcept {
  lock_.lock();
  arrived_.append(bytes);
  arrived_last_ |= ended;
  delivered_ = true;
  lock_.unlock();
  if (deferred_) delivered_event_.set();
}

bool Exchange::deliver_trailer(std::string_view name, std::string_view value) noexcept {
  // The handler's side does not look before the end of the body was delivered.
  if (trailers_ == nullptr) trailers_ = std::make_unique<Trailers>();
  trailers_->add(name, value);
  return trailers_->section_bytes() <= limits_->trailer_bytes;
}

/// Waits until the connection's side has delivered something.
Task<Result<void>> Exchange::await_delivery(Instant deadline) {
  lock_.lock();
  const bool ask = !delivered_;
  if (ask) delivered_event_.reset();
  awaited_ = ask;
  lock_.unlock();
  if (ask) notify(kInput);
  const Result<void> woken = co_await delivered_event_.wait(deadline);
  lock_.lock();
  awaited_ = false;
  if (!woken) {
    lock_.unlock();
    co_return woken;
  }
  delivered_ = false;
  const Result<void> outcome = std::exchange(delivery_, {});
  lock_.unlock();
  if (stream_ == nullptr) (void)take_arrived();
  co_return outcome;
}

bool Exchange::take_arrived() noexcept {
  lock_.lock();
  const bool any = !arrived_.empty();
  if (any && stream_ == nullptr) connection_->take_input(arrived_);
  if (any && stream_ != nullptr) {
    input_bytes_.swap(arrived_);
    arrived_.clear();
    input_ = input_bytes_.view();
    taken_ += input_.size();
  }
  input_last_ = arrived_last_;
  lock_.unlock();
  if (any && stream_ != nullptr) notify(kInput);
  return any;
}

bool Exchange::awaits_body() noexcept {
  lock_.lock();
  const bool awaited = awaited_ && !delivered_;
  lock_.unlock();
  return awaited;
}

void Exchange::give_up_body() noexcept {
  lock_.lock();
  delivery_ = evlua::fail(ETIMEDOUT, OpCode::recv);
  delivered_ = true;
  lock_.unlock();
  delivered_event_.set();
}

void Exchange::break_off(const Error& error) noexcept {
  lock_.lock();
  delivery_ = evlua::fail(error);
  delivered_ = true;
  error_ = error;
  pending_.clear();
  count_pending();
  const bool wake = std::exchange(waiting_, false);
  lock_.unlock();
  if (!deferred_) return;
  delivered_event_.set();
  if (wake) drained_.set();
}

bool Exchange::broken() noexcept {
  if (!deferred_) return false;
  lock_.lock();
  const bool broken = error_.code != 0;
  lock_.unlock();
  return broken;
}

}  // namespace evlua::http
