// The loop is split in two: `serve` waits, `advance` does everything that needs no waiting. Pipelined requests are
// answered within one advance, their answers gathered in one buffer that is sent when the input is used up or enough
// is pending.
#include "net/http/connection.h"

#include <arpa/inet.h>
#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <utility>

#include "core/log.h"
#include "core/worker.h"
#include "net/address.h"
#include "net/http/station.h"

namespace evlua::http {

namespace {

constexpr std::string_view kHttp2Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

}  // namespace

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

/// Who speaks for many is not counted, nor whom a PROXY header is still to name.
bool Connection::takes_its_place() noexcept {
  if (station_.limits().connections_per_address == 0 || peer_.sin6_family == AF_UNIX) return true;
  if (announced_by_proxy() || peer_is_trusted()) return true;
  has_place_ = station_.takes_place(reinterpret_cast<const sockaddr*>(&peer_));
  return has_place_;
}

void Connection::start() noexcept {
  task_ = serve();
  // No CancelState: stop and abandon reach every wait directly, since all of them are this worker's.
  task_.start(TaskContext{&home(), nullptr, kNever}, *this);
}

Executor& Connection::home() noexcept { return station_.worker().pinned(); }

bool Connection::stopping() const noexcept { return station_.stopping(); }

std::string Connection::remote() const {
  const auto* peer = reinterpret_cast<const sockaddr*>(&peer_);
  switch (peer->sa_family) {
    case AF_INET: return net::Address::from(peer, sizeof(sockaddr_in)).to_string();
    case AF_INET6: return net::Address::from(peer, sizeof(sockaddr_in6)).to_string();
    default: return "unix:";  // clients rarely bind a path, and its room would be spent on every connection
  }
}

void Connection::append_remote_host(Bytes& out) const noexcept {
  const auto* peer = reinterpret_cast<const sockaddr*>(&peer_);
  char* to = out.reserve(INET6_ADDRSTRLEN);
  if (peer->sa_family == AF_INET) {  // by hand: inet_ntop takes ten times as long
    char* const from = to;
    std::array<std::uint8_t, 4> parts{};
    std::memcpy(parts.data(), &reinterpret_cast<const sockaddr_in&>(peer_).sin_addr, parts.size());
    for (const std::uint8_t part : parts) {
      to = std::to_chars(to, to + 3, part).ptr;
      *to++ = '.';
    }
    out.commit(static_cast<std::size_t>(to - from) - 1);
  } else if (peer->sa_family == AF_INET6 && ::inet_ntop(AF_INET6, &peer_.sin6_addr, to, INET6_ADDRSTRLEN) != nullptr) {
    out.commit(std::strlen(to));
  } else {
    out.append("unix:");
  }
}

Instant Connection::clock() const noexcept { return station_.clock(); }

std::string Connection::local() const {
  if (local_ != nullptr) return local_->to_string();
  sockaddr_storage storage{};
  socklen_t size = sizeof storage;
  if (::getsockname(fd_, reinterpret_cast<sockaddr*>(&storage), &size) != 0) return {};
  return net::Address::from(reinterpret_cast<const sockaddr*>(&storage), size).to_string();
}

bool Connection::peer_is_trusted() const noexcept {
  return station_.limits().trusted_proxies.contains(reinterpret_cast<const sockaddr*>(&peer_));
}

void Connection::release_consumed_input() noexcept {
  if (!input_.empty()) return;
  lease_.reset();
  if (secure_ != nullptr) station_.give_back(secure_->plain);
}

void Connection::take_input(Bytes& bytes) noexcept {
  secure_->plain.swap(bytes);
  bytes.clear();
  input_ = secure_->plain.view();
}

// -- PROXY protocol ---------------------------------------------------------------------------------------------------

bool Connection::announced_by_proxy() const noexcept {
  return station_.limits().proxy_protocol.contains(reinterpret_cast<const sockaddr*>(&peer_));
}

/// False: it is not served.
bool Connection::believe(const ProxyHeader& header) {
  if (!header.has_addresses) return true;
  peer_ = {};
  if (header.source.is_unix()) {
    peer_.sin6_family = AF_UNIX;
  } else {
    std::memcpy(&peer_, header.source.get(), header.source.length());
  }
  local_ = std::make_unique<net::Address>(header.destination);
  return takes_its_place();
}

/// What comes behind the header is input. False: there is no valid header.
Task<bool> Connection::take_proxy_header() {
  const Limits& limits = station_.limits();
  const Duration patience =
      stopping() ? std::min(limits.header_timeout, limits.stop_idle_timeout) : limits.header_timeout;
  deadline_ = deadline_after(station_.worker().now(), patience);
  Bytes so_far;
  while (error_.code == 0) {
    RecvAwait receiving(fd_);
    waiting_ = &receiving;
    Result<Lease> received = co_await receiving;
    waiting_ = nullptr;
    if (!received || received->empty()) break;
    const std::size_t before = so_far.size();
    take_input(std::move(*received));
    if (before != 0) so_far.append(input_);
    const ProxyHeader header = parse_proxy_header(before != 0 ? so_far.view() : input_);
    if (header.outcome == ProxyHeader::Outcome::invalid) break;
    if (header.outcome == ProxyHeader::Outcome::complete) {
      came_ = receiving.done_at;
      if (!believe(header)) break;
      input_.remove_prefix(header.size - before);
      release_consumed_input();
      co_return error_.code == 0;
    }
    if (before == 0) so_far.append(input_);
    input_ = {};
    lease_.reset();
  }
  if (error_.code == 0) error_ = Error{EPROTO, ErrorDomain::system, OpCode::recv};
  co_return false;
}

// -- sending ----------------------------------------------------------------------------------------------------------

/// Sends as it is.
Task<void> Connection::send_plain(std::string_view bytes) {
  while (!bytes.empty() && error_.code == 0) {
    IoAwait send = io::send(fd_, bytes.data(), static_cast<std::uint32_t>(bytes.size()));
    begin_send(send);
    const Result<std::int32_t> taken = co_await send;
    waiting_ = nullptr;
    if (taken) {
      end_send(send.done_at, static_cast<std::uint64_t>(*taken));
      bytes.remove_prefix(static_cast<std::size_t>(*taken));
    } else {
      send_failed(taken.error());
    }
  }
}

/// The file that is the body of the response, from the page cache to the socket.
Task<void> Connection::send_attached() {
  const std::unique_ptr<FileBody> body = std::move(exchange_->attached_);
  for (FileBody::Part& part : body->parts) {
    if (!part.head.empty()) co_await send_plain(part.head);
    while (part.size > 0 && error_.code == 0) {
      const Result<std::size_t> sent = send_cached(fd_, body->file.fd, part.offset, part.size);
      std::uint64_t done = sent ? *sent : 0;
      if (!sent && sent.error().is(EAGAIN)) {
        IoAwait writable = io::poll(fd_, POLLOUT);
        begin_send(writable);
        const Result<std::int32_t> ready = co_await writable;
        waiting_ = nullptr;
        if (ready) {
          end_send(writable.done_at, 0);
        } else {
          send_failed(ready.error());
        }
      } else if (!sent && sent.error().is(EXDEV)) {
        done = std::min<std::uint64_t>(part.size, kDiskPiece);
        co_await send_from_disk(body->file.fd, part.offset, done);
      } else if (!sent || done == 0) {  // 0: it has become shorter, and the client must notice
        send_failed(sent ? Error{EIO, ErrorDomain::system, OpCode::read} : sent.error());
      }
      part.offset += done;
      part.size -= done;
      exchange_->body_bytes_ += done;
      if (!sent) continue;
      end_send(wait_began_, done);
    }
  }
  if (!body->tail.empty()) co_await send_plain(body->tail);
}

Task<void> Connection::send_from_disk(int file, std::uint64_t offset, std::uint64_t size) {
  const auto buffer = std::make_unique<char[]>(static_cast<std::size_t>(size));
  while (size > 0 && error_.code == 0) {
    IoAwait reading = io::read(file, buffer.get(), static_cast<std::uint32_t>(size), static_cast<std::int64_t>(offset));
    const Result<std::int32_t> got = co_await reading;
    if (!got || *got == 0) {
      send_failed(got ? Error{EIO, ErrorDomain::system, OpCode::read} : got.error());
      co_return;
    }
    const std::string_view piece(buffer.get(), static_cast<std::size_t>(*got));
    co_await send_plain(piece);
    offset += static_cast<std::uint64_t>(*got);
    size -= static_cast<std::uint64_t>(*got);
  }
}

/// From here to the end.
Task<void> Connection::serve_http2() {
  http2_ = std::make_unique<Http2Session>(*this);
  const std::string_view stored = exchange_ != nullptr ? exchange_->head_bytes_.view() : std::string_view();
  co_await http2_->serve(stored.empty() ? input_ : stored);
  input_ = {};
  (void)close_now();
}

// -- waiting ----------------------------------------------------------------------------------------------------------

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

void Connection::take_received(Result<Lease> received) noexcept {
  if (received) station_.counters().bytes_in.add(received->size());
  if (!received || received->empty()) {
    receive_failed();
  } else if (secure_ == nullptr) {
    take_input(std::move(*received));
  } else {
    const bool more = decrypt({received->chars(), received->size()});
    input_ = secure_->plain.view();
    if (!more && input_.empty()) receive_failed();
  }
  if (phase_ != Phase::drain) return;
  const Limits& limits = station_.limits();
  exchange_->patience_.spend(station_.worker().now() - wait_began_, input_.size(), limits.body_timeout,
                             limits.min_rate);
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

/// A client that has kept its connection once will do so again: the backend need not wait to be asked.
RecvAwait Connection::receive() noexcept {
  if (phase_ == Phase::head && served_) ahead_ = true;
  return RecvAwait(fd_, ahead_ ? RecvAwait::Mode::ahead : RecvAwait::Mode::once);
}

/// The next sweep looks whether it lasts.
void Connection::begin_send(Op& op) noexcept {
  waiting_ = &op;
  timed_out_ = false;
  wait_began_ = deadline_ = station_.worker().now();
  unacknowledged_ = -1;
}

/// `taken`: by the kernel, which holds it for the peer, at `ended`; since then we had other things to do.
void Connection::end_send(Instant ended, std::uint64_t taken) noexcept {
  station_.counters().bytes_out.add(taken);
  const std::uint64_t known = std::min<std::uint64_t>(taken, taken_ahead_);
  taken_ahead_ -= static_cast<std::uint32_t>(known);
  const Limits& limits = station_.limits();
  sending_.spend(ended - wait_began_, taken - known, limits.send_timeout, limits.min_rate);
}

/// A kernel that has no room for more may still be sending what it has: the peer takes that, so it counts.
bool Connection::send_is_late(Instant now) noexcept {
  int held = 0;
  if (::ioctl(fd_, SIOCOUTQ, &held) != 0) held = 0;
  const int before = std::exchange(unacknowledged_, held);
  if (before > held) {
    const auto taken = static_cast<std::uint32_t>(before - held);
    const Limits& limits = station_.limits();
    sending_.spend(now - wait_began_, taken, limits.send_timeout, limits.min_rate);
    wait_began_ = now;
    taken_ahead_ += taken;
  }
  deadline_ = deadline_after(wait_began_, sending_.left());
  return now >= deadline_;
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

void Connection::give_back_idle() noexcept {
  if (exchange_ != nullptr) station_.give_back(std::exchange(exchange_, nullptr));
  station_.give_back(output_);
  if (secure_ != nullptr && input_.empty()) station_.give_back(secure_->plain);
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

void Connection::receive_failed() noexcept {
  const bool late = std::exchange(timed_out_, false);
  if (phase_ == Phase::head && head_deadline_ != kNever && late) {
    refuse(408, exchange_->head_bytes_.view());
  } else {
    close_now();
  }
}

void Connection::send_failed(const Error& error) noexcept {
  if (error_.code != 0) return;
  error_ = timed_out_ ? Error{ETIMEDOUT, ErrorDomain::system, OpCode::send} : error;
  reset_ = reset_ || timed_out_;  // the kernel shall not go on sending what it has
  const bool ended = phase_ == Phase::head || phase_ == Phase::drain || (phase_ == Phase::closing && !output_.empty());
  if (ended && served_ && http2_ == nullptr) station_.counters().aborted.add();  // its end was told as good
}

// -- working ----------------------------------------------------------------------------------------------------------

Connection::Next Connection::advance() noexcept {
  while (true) {
    Next step = Next::again;
    switch (phase_) {
      case Phase::head: step = error_.code == 0 ? read_head() : close_now(); break;
      case Phase::rest: step = error_.code == 0 ? answer(exchange_->head_bytes_.view()) : close_now(); break;
      case Phase::handler: {
        const std::uint8_t bits = std::exchange(bits_, std::uint8_t{0});
        if ((bits & Exchange::kInput) != 0) begin_feed();
        if ((bits & Exchange::kDone) != 0) {
          phase_ = Phase::answered;
        } else {
          take_pending();
          if (output_.empty()) station_.give_back(output_);  // the handler may take its time
          step = Next::handler;
        }
        break;
      }
      case Phase::answered: step = feed_ended() ? end_exchange() : Next::handler; break;
      case Phase::drain: step = error_.code == 0 ? skip_body() : close_now(); break;
      case Phase::closing: step = Next::close; break;
    }
    if (step != Next::again) return step;
  }
}

Connection::Next Connection::read_head() noexcept {
  if (input_.empty()) return Next::receive;
  const Limits& limits = station_.limits();
  if (exchange_ == nullptr) {
    exchange_ = station_.take_exchange();
    exchange_->begin(*this, limits);
  }
  Bytes& stored = exchange_->head_bytes_;
  const std::size_t before = stored.size();
  if (before != 0) stored.append(input_);
  const std::string_view so_far = before != 0 ? stored.view() : input_;
  if (!served_ && so_far[0] == 'P' && begins_http2(so_far)) {
    if (before == 0) stored.append(input_);
    input_ = {};
    if (so_far.size() >= kHttp2Preface.size()) return Next::http2;
    begin_head();
    return Next::receive;
  }
  RequestParser& parser = exchange_->parser_;
  switch (parser.parse(so_far, limits)) {
    case RequestParser::Outcome::refused: return refuse(parser.refusal(), so_far);
    case RequestParser::Outcome::incomplete:
      if (before == 0) stored.append(input_);
      input_ = {};
      lease_.reset();
      begin_head();
      return Next::receive;
    case RequestParser::Outcome::complete: break;
  }
  input_.remove_prefix(parser.head_bytes() - before);
  if (before != 0) stored.truncate(parser.head_bytes());
  const std::string_view head = so_far.substr(0, parser.head_bytes());
  // Nobody has proved here whose origin that would be (RFC 9110 7.4), unless it was to a proxy of ours.
  if (parser.asks_for_https() && secure_ == nullptr && !peer_is_trusted()) return refuse(421, so_far);
  if (!ahead_ || secure_ != nullptr || has_whole_body(parser)) return answer(head);
  // The rest of the body may be received on another worker.
  if (before == 0) stored.append(head);
  phase_ = Phase::rest;
  return Next::rest;
}

/// With prior knowledge a client begins with a request that is none (RFC 9113, 3.4). "PR" may become PROPFIND still.
bool Connection::begins_http2(std::string_view so_far) const noexcept {
  if (!station_.limits().http2) return false;
  if (secure_ != nullptr && secure_->engine.session().has_alpn) return false;  // HTTP/1.1 was agreed on
  const std::string_view part = so_far.substr(0, kHttp2Preface.size());
  return part.size() > 2 && kHttp2Preface.starts_with(part);
}

void Connection::begin_head() noexcept {
  if (head_deadline_ != kNever) return;
  head_deadline_ = deadline_after(station_.worker().now(), station_.limits().header_timeout);
}

bool Connection::has_whole_body(const RequestParser& parser) const noexcept {
  switch (parser.body_kind()) {
    case BodyKind::none: return true;
    case BodyKind::length: return parser.content_length() <= input_.size();
    case BodyKind::chunked:
    case BodyKind::stream: return false;
  }
  return false;
}

Connection::Next Connection::answer(std::string_view head) noexcept {
  head_deadline_ = kNever;
  station_.take_buffer(output_);
  exchange_->start(head, station_.next_id(), ++requests_ != station_.limits().requests_per_connection);
  phase_ = exchange_->be_handled_by(station_.handler()) ? Phase::answered : Phase::handler;
  if (phase_ == Phase::handler && station_.limits().handler_timeout != kNever) {
    handler_deadline_ = deadline_after(station_.worker().now(), station_.limits().handler_timeout);
  }
  if (phase_ == Phase::handler && station_.observed()) {
    examine_at_ = deadline_after(exchange_->began_, station_.limits().slow_after);
  }
  return Next::again;
}

Connection::Next Connection::refuse(int status, std::string_view came) noexcept {
  station_.take_buffer(output_);
  exchange_->start({}, station_.next_id(), false);
  exchange_->fail(status);
  tell_end(came.substr(0, came.find_first_of("\r\n")), true);
  linger_ = true;
  return close_now();
}

Connection::Next Connection::close_now() noexcept {
  phase_ = Phase::closing;
  if (error_.code != 0) linger_ = false;
  return Next::close;
}

void Connection::tell_end(std::string_view refused_line, bool refused) noexcept {
  if (!station_.observed()) return;
  ExchangeEnd end;
  end.refused = refused;
  end.refused_line = refused_line;
  end.aborted = error_.code != 0 || exchange_->cut_;
  station_.exchange_ended(*exchange_, end);
}

/// Moves what the handler's side has written to where it is sent from, and tells it how things stand.
void Connection::take_pending() noexcept {
  Exchange& exchange = *exchange_;
  exchange.lock_.lock();
  if (error_.code != 0) {
    exchange.error_ = error_;
    exchange.pending_.clear();
  } else if (output_.empty()) {
    output_.swap(exchange.pending_);
  }
  exchange.sending_ = !output_.empty();
  const bool wake = std::exchange(exchange.waiting_, false);
  exchange.lock_.unlock();
  if (wake) exchange.drained_.set();
}

Connection::Next Connection::end_exchange() noexcept {
  Exchange& exchange = *exchange_;
  served_ = true;
  refused_ = exchange.refused_for_now_;
  handler_deadline_ = examine_at_ = kNever;
  if (exchange.deferred_) {
    if (output_.empty()) {
      output_.swap(exchange.pending_);
    } else {
      output_.append(exchange.pending_.view());
    }
  } else if (!exchange.finished_) {
    static_cast<void>(exchange.finish());
  }
  if (exchange.attached_ != nullptr && error_.code == 0) return Next::file;
  station_.counters().bytes_in.add(exchange.received_bytes_);
  tell_end({}, false);
  if (error_.code != 0) return close_now();
  if (!exchange.keep_alive_) {
    // Unless the client announced that it sends no more, it may be sending. Where the end of the connection ends the
    // body, a reset by what came late would make a whole answer half of one.
    linger_ = exchange.parser_.keep_alive() || !exchange.body_ended_ || !input_.empty() ||
              exchange.framing_ == Framing::close;
    // Whoever reads to the end of the connection must not take half an answer for a whole one.
    reset_ = exchange.cut_ && exchange.framing_ == Framing::close;
    if (exchange.cut_) linger_ = false;
    return close_now();
  }
  if (exchange.body_ended_) return next_request();
  skipped_bytes_ = 0;
  phase_ = Phase::drain;
  return Next::again;
}

Connection::Next Connection::skip_body() noexcept {
  Result<std::string_view> piece;
  while (exchange_->next_piece(SIZE_MAX, piece)) {
    if (piece && piece->empty()) return next_request();
    if (piece) skipped_bytes_ += static_cast<std::uint32_t>(piece->size());
    if (!piece || skipped_bytes_ > station_.limits().drain_bytes) {
      linger_ = true;
      return close_now();
    }
  }
  return Next::receive;
}

Connection::Next Connection::next_request() noexcept {
  exchange_->reset();
  phase_ = Phase::head;
  came_ = station_.worker().backend().now();  // what was pipelined has waited for its client's own requests
  release_consumed_input();
  if (refused_ && !input_.empty()) return Next::pause;
  return output_.size() >= station_.limits().output_bytes ? Next::send : Next::again;
}

void Connection::handler_spoke(Runnable& node) noexcept {
  Exchange& exchange = *static_cast<Exchange::Node&>(node).exchange;
  Connection& connection = *exchange.connection_;
  connection.bits_ |= exchange.take_bits();
  if (connection.parked_) std::exchange(connection.parked_, nullptr).resume();
}

}  // namespace evlua::http
