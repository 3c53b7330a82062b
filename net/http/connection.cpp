// A connection's life: what it waits for, and in which order.
//
// The loop is split in two: `serve` waits, `advance` (connection_requests.cpp) does everything that needs no waiting.
#include "net/http/connection.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "core/worker.h"
#include "net/http/station.h"

namespace evlua::http {

/// The loop waits for the handler's side to say something.
class Connection::HandlerWait {
 public:
  explicit HandlerWait(Connection& connection) noexcept : connection_(connection) {}
  bool await_ready() const noexcept { return connection_.bits_ != 0; }
  void await_suspend(std::coroutine_handle<> loop) noexcept { connection_.parked_ = loop; }
  void await_resume() const noexcept {}

 private:
  Connection& connection_;
};

Connection::Connection(Station& station, int fd, const sockaddr_in6& peer, tls::ContextSlot* tls) noexcept
    : Runnable([](Runnable& self) noexcept {
        auto& connection = static_cast<Connection&>(self);
        connection.station_.ended(connection);
      }),
      station_(station),
      fd_(fd),
      peer_(peer) {
  sending_.refill(station.limits().send_timeout);
  if (tls == nullptr) return;
  secure_ = std::make_unique<Secure>(tls->get());
  secure_->connection = this;
}

Connection::~Connection() {
  if (has_place_) station_.leaves_place(reinterpret_cast<const sockaddr*>(&peer_));
}

void Connection::start() noexcept {
  task_ = serve();
  // No CancelState: stop and abandon reach every wait directly, since all of them are this worker's.
  task_.start(TaskContext{&home(), nullptr, kNever}, *this);
}

Executor& Connection::home() noexcept { return station_.worker().pinned(); }
bool Connection::stopping() const noexcept { return station_.stopping(); }
Instant Connection::clock() const noexcept { return station_.clock(); }

/// What comes before the first request. False: there is nobody to serve.
Task<bool> Connection::begin() {
  if (announced_by_proxy()) {
    const bool named = co_await take_proxy_header();
    if (!named) co_return false;
  }
  if (secure_ == nullptr) co_return true;
  const bool shaken = co_await shake_hands();
  (shaken ? station_.counters().handshakes : station_.counters().handshake_failures).add();
  if (!shaken) tell_failed_handshake();
  co_return shaken;
}

Task<void> Connection::serve() {
  if (secure_ != nullptr || announced_by_proxy()) {
    const bool begun = co_await begin();
    if (!begun) {
      (void)close_now();
    } else if (secure_ != nullptr && secure_->engine.session().http2) {
      co_await serve_http2();
    }
  }
  while (true) {
    const Next step = advance();
    if (secure_ != nullptr && step == Next::file) {
      co_await seal_attached();
      continue;
    }
    if (secure_ != nullptr) {
      const bool sends = !output_.empty() || must_seal();
      if (sends) co_await send_sealed();
      if (sends && (step == Next::handler || step == Next::send)) continue;
    } else if (!output_.empty()) {
      std::size_t sent = 0;
      while (sent < output_.size() && error_.code == 0) {
        const int flags = step == Next::file ? MSG_MORE : 0;
        IoAwait send = io::send(fd_, output_.data() + sent, static_cast<std::uint32_t>(output_.size() - sent), flags);
        begin_send(send);
        const Result<std::int32_t> taken = co_await send;
        waiting_ = nullptr;
        if (taken) {
          end_send(send.done_at, static_cast<std::uint64_t>(*taken));
          sent += static_cast<std::size_t>(*taken);
        } else {
          send_failed(taken.error());
        }
      }
      output_.clear();
      if (step == Next::handler || step == Next::send) continue;  // there may be more by now
    }
    if (step == Next::close) break;
    if (step == Next::file) {
      co_await send_attached();
      continue;
    }
    if (step == Next::http2) {
      co_await serve_http2();
      continue;
    }
    if (step == Next::handler) {
      co_await HandlerWait(*this);
    } else if (step == Next::rest) {
      co_await take_rest();
    } else if (step == Next::pause) {
      co_await pause();
      came_ = station_.worker().now();
    } else if (step == Next::receive && hears_no_more()) {
      (void)close_now();
    } else if (step == Next::receive) {
      if (refused_) co_await pause();
      RecvAwait receiving = receive();
      begin_receive(receiving);
      Result<Lease> received = co_await receiving;
      waiting_ = nullptr;
      came_ = receiving.done_at;
      take_received(std::move(received));
    }
  }
  co_await take_leave();
  release_all();
  station_.worker().close_later(fd_);
}

/// From here to the end.
Task<void> Connection::serve_http2() {
  http2_ = std::make_unique<Http2Session>(*this);
  const std::string_view stored = exchange_ != nullptr ? exchange_->head_bytes_.view() : std::string_view();
  co_await http2_->serve(stored.empty() ? input_ : stored);
  input_ = {};
  (void)close_now();
}

/// What the peer is told at the end.
Task<void> Connection::take_leave() {
  if (secure_ != nullptr && error_.code == 0 && !reset_) {
    secure_->engine.end();
    co_await send_sealed();
  }
  if (linger_) co_await linger();
  if (reset_) {
    const struct linger none = {1, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &none, sizeof none);
  }
}

/// Ends our side and discards what still comes in, for a while, until the peer ends its side.
Task<void> Connection::linger() {
  lease_.reset();
  station_.worker().backend().shut_down(fd_, SHUT_WR);
  deadline_ = deadline_after(station_.worker().now(), station_.limits().linger_timeout);
  std::uint64_t discarded = 0;
  while (discarded < station_.limits().drain_bytes && error_.code == 0) {
    RecvAwait receiving = receive();
    waiting_ = &receiving;
    const Result<Lease> received = co_await receiving;
    waiting_ = nullptr;
    if (!received || received->empty()) break;
    discarded += received->size();
  }
}

void Connection::release_all() noexcept {
  if (exchange_ != nullptr) {
    exchange_->reset();
    station_.give_back(exchange_);
  }
  station_.give_back(output_);
  input_ = {};
  release_consumed_input();
}

void Connection::begin_receive(Op& op) noexcept {
  const Limits& limits = station_.limits();
  const Instant now = station_.worker().now();
  waiting_ = &op;
  timed_out_ = false;
  if (phase_ == Phase::drain) {
    wait_began_ = now;
    deadline_ = deadline_after(now, exchange_->patience_.left());
  } else if (head_deadline_ != kNever) {
    deadline_ = head_deadline_;
  } else {
    const Duration idle_for = served_ ? limits.keep_alive_timeout : limits.header_timeout;
    deadline_ = deadline_after(now, stopping() ? std::min(idle_for, limits.stop_idle_timeout) : idle_for);
    give_back_idle();
  }
}

/// A client that has kept its connection once will do so again: the backend need not wait to be asked.
RecvAwait Connection::receive() noexcept {
  if (phase_ == Phase::head && served_) ahead_ = true;
  return RecvAwait(fd_, ahead_ ? RecvAwait::Mode::ahead : RecvAwait::Mode::once);
}

void Connection::take_received(Result<Lease> received) noexcept {
  if (received) station_.counters().bytes_in.add(received->size());
  if (!received || received->empty()) {
    receive_failed();
  } else if (secure_ == nullptr) {
    take_input(std::move(*received));
  } else {
    decrypt({received->chars(), received->size()}, secure_->plain);
    input_ = secure_->plain.view();
  }
  if (phase_ != Phase::drain) return;
  const Limits& limits = station_.limits();
  exchange_->patience_.spend(station_.worker().now() - wait_began_, input_.size(), limits.body_timeout,
                             limits.min_rate);
}

void Connection::receive_failed() noexcept {
  const bool late = std::exchange(timed_out_, false);
  if (phase_ == Phase::head && head_deadline_ != kNever && late) {
    refuse(408, exchange_->head_bytes_.view());
  } else {
    close_now();
  }
}

void Connection::take_input(Bytes& bytes) noexcept {
  secure_->plain.swap(bytes);
  bytes.clear();
  input_ = secure_->plain.view();
}

void Connection::release_consumed_input() noexcept {
  if (!input_.empty()) return;
  lease_.reset();
  if (secure_ != nullptr) station_.give_back(secure_->plain);
}

/// The backend's buffers are for those who do not wait.
void Connection::keep_input() noexcept {
  if (input_.empty() || secure_ != nullptr) return;
  Lease kept = Lease::joined(input_, {});
  if (kept.empty()) {
    error_ = Error{ENOMEM, ErrorDomain::system, OpCode::recv};
    input_ = {};
  }
  take_input(std::move(kept));
}

void Connection::give_back_idle() noexcept {
  if (exchange_ != nullptr) station_.give_back(std::exchange(exchange_, nullptr));
  station_.give_back(output_);
  if (secure_ != nullptr && input_.empty()) station_.give_back(secure_->plain);
}

/// Ends receiving ahead. What came of the body already is input like any other.
Task<void> Connection::take_rest() {
  RecvAwait rest(fd_, RecvAwait::Mode::rest);
  Result<Lease> received = co_await rest;
  ahead_ = false;
  if (!received || received->empty()) co_return;
  station_.counters().bytes_in.add(received->size());
  if (!input_.empty()) {
    received = Lease::joined(input_, {received->chars(), received->size()});
    if (received->empty()) error_ = Error{ENOMEM, ErrorDomain::system, OpCode::recv};
  }
  take_input(std::move(*received));
}

/// A client that asks again at once, and again, must not cost more than those that are served. What it has sent already
/// waits, too.
Task<void> Connection::pause() {
  refused_ = false;
  keep_input();
  if (head_deadline_ == kNever && phase_ == Phase::head) give_back_idle();
  co_await io::sleep_until(deadline_after(station_.worker().now(), kPauseAfterRefusal));
}

void Connection::time_out(Instant now) noexcept {
  if (waiting_->code != OpCode::recv && !send_is_late(now)) return;
  timed_out_ = true;
  deadline_ = kNever;
  Worker::cancel(*waiting_);
}

void Connection::expire() noexcept {
  handler_deadline_ = kNever;
  if (phase_ == Phase::handler) station_.handler().expire(*exchange_);
}

/// Next time when it has lasted twice as long.
void Connection::examine(Instant now) noexcept {
  examine_at_ = deadline_after(now, now - exchange_->began_);
  if (phase_ == Phase::handler) station_.handler().examine(*exchange_);
}

void Connection::stop() noexcept {
  if (http2_ != nullptr) return http2_->stop();
  if (!idle() || waiting_ == nullptr || waiting_->code != OpCode::recv) return;
  deadline_ = std::min(deadline_, deadline_after(station_.worker().now(), station_.limits().stop_idle_timeout));
}

void Connection::abandon() noexcept {
  if (error_.code == 0) error_ = Error{ECANCELED, ErrorDomain::system, OpCode::send};
  if (waiting_ != nullptr) Worker::cancel(*waiting_);
  station_.worker().backend().shut_down(fd_, SHUT_RDWR);  // ends a receive of the handler's side, wherever it is
  if (secure_ != nullptr && secure_->receiving != nullptr) Worker::cancel(*secure_->receiving);
  if (http2_ != nullptr) return http2_->abandon();
  if (phase_ != Phase::handler) return;
  station_.handler().abandon(*exchange_);
  if (parked_) std::exchange(parked_, nullptr).resume();
}

}  // namespace evlua::http
