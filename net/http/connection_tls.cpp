// The TLS side of a connection: the handshake, what is sealed and opened, and files on their way through it. The engine
// does no I/O: what it says is sent, and what was received is given to it, here.
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <utility>

#include "core/log.h"
#include "core/worker.h"
#include "net/http/connection.h"
#include "net/http/station.h"

namespace evlua::http {

namespace {

constexpr std::size_t kSealBytes = 64 * 1024;
/// The answer of a port with TLS to a client without.
std::string https_hint() {
  return "HTTP/1.1 400 Bad Request\r\nDate: " + std::string(ResponseHead::standard_date()) +
         "\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 38\r\nConnection: close\r\n\r\n"
         "This port speaks HTTPS, and not HTTP.\n";
}

/// A client with Nagle's algorithm sends its request only when the end of its handshake is acknowledged. That goes
/// along with our next bytes, which are the answer: the kernel would wait 40 ms for them.
void acknowledge(int fd) noexcept {
  const int on = 1;
  static_cast<void>(::setsockopt(fd, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof on));
}

}  // namespace

/// False: there is nobody to serve.
Task<bool> Connection::shake_hands() {
  tls::Engine& engine = secure_->engine;
  deadline_ = deadline_after(station_.worker().now(), station_.limits().handshake_timeout);
  const Instant deadline = deadline_;
  Lease received = std::move(lease_);
  std::string_view sealed = std::exchange(input_, {});  // what came behind a PROXY header
  char first = '\0';                                    // of the connection
  while (engine.state() == tls::Engine::State::handshake) {
    if (sealed.empty()) {
      RecvAwait receiving(fd_);
      waiting_ = &receiving;
      deadline_ = deadline;
      Result<Lease> more = co_await receiving;
      waiting_ = nullptr;
      if (!more || more->empty()) co_return false;
      station_.counters().bytes_in.add(more->size());
      received = std::move(*more);
      sealed = {received.chars(), received.size()};
    }
    Pace::Turn turn(station_.handshakes());
    co_await turn;
    if (error_.code != 0) co_return false;
    if (first == '\0') first = sealed[0];
    decrypt(std::exchange(sealed, {}), secure_->plain);
    received.reset();  // who waits holds no buffer
    input_ = secure_->plain.view();
    const bool spoke_http = engine.state() == tls::Engine::State::failed && first >= 'A' && first <= 'Z';
    if (spoke_http) engine.outgoing().clear();
    co_await send_sealed();
    if (spoke_http) {
      linger_ = true;
      const std::string text = https_hint();
      co_await send_plain(text);
    }
    if (error_.code != 0) co_return false;
  }
  if (engine.state() == tls::Engine::State::open && !engine.session().http2 && input_.empty()) acknowledge(fd_);
  came_ = station_.worker().now();
  co_return engine.state() != tls::Engine::State::failed;
}

void Connection::tell_failed_handshake() const {
  if (!Log::on(LogLevel::debug)) return;
  const std::string& why = secure_->engine.error();
  Log::debug("no TLS with %s: %s", remote().c_str(), why.empty() ? "it ended or took too long" : why.c_str());
}

/// Encrypts and sends what is in `output_`, and what the engine itself has to say.
Task<void> Connection::send_sealed() {
  tls::Engine& engine = secure_->engine;
  std::string_view plain = output_.view();
  Bytes sealed;  // `feed` may have the engine say more meanwhile
  while (error_.code == 0 && (!plain.empty() || !engine.outgoing().empty())) {
    station_.take_buffer(engine.outgoing());
    const std::string_view slice = plain.substr(0, kSealBytes);
    plain.remove_prefix(slice.size());
    seal(slice);
    sealed.clear();
    sealed.swap(engine.outgoing());
    co_await send_plain(sealed.view());
  }
  station_.give_back(sealed);
  station_.give_back(engine.outgoing());
  output_.clear();
}

void Connection::seal(std::string_view bytes) noexcept {
  if (bytes.empty() || error_.code != 0 || secure_->engine.send(bytes)) return;
  send_failed(Error{EPROTO, ErrorDomain::system, OpCode::protocol});
}

/// Into `plain`, whatever was there.
void Connection::decrypt(std::string_view sealed, Bytes& plain) noexcept {
  plain.clear();
  station_.take_buffer(plain);
  (void)secure_->engine.receive(sealed, plain);
}

/// The same over TLS, the head of the response included.
Task<void> Connection::seal_attached() {
  const std::unique_ptr<FileBody> body = std::move(exchange_->attached_);
  tls::Engine& engine = secure_->engine;
  seal(output_.view());
  output_.clear();
  Bytes sealed;
  for (FileBody::Part& part : body->parts) {
    seal(part.head);
    while (part.size > 0 && error_.code == 0) {
      const Result<std::size_t> taken = seal_cached(body->file.fd, part.offset, part.size);
      std::uint64_t done = taken ? *taken : 0;
      if (!taken && taken.error().is(EAGAIN)) {
        done = std::min<std::uint64_t>(part.size, kDiskPiece);
        co_await send_from_disk(body->file.fd, part.offset, done);
      } else if (done == 0) {  // it has become shorter, and the client must notice
        send_failed(taken ? Error{EIO, ErrorDomain::system, OpCode::read} : taken.error());
      }
      part.offset += done;
      part.size -= done;
      exchange_->body_bytes_ += done;
      if (engine.outgoing().size() < kSealBytes) continue;
      sealed.clear();
      sealed.swap(engine.outgoing());
      co_await send_plain(sealed.view());
    }
  }
  seal(body->tail);
  station_.give_back(sealed);
  co_await send_sealed();
}

/// What is in memory, in pieces that stay in the processor's cache on their way; EAGAIN when it is not.
Result<std::size_t> Connection::seal_cached(int file, std::uint64_t offset, std::uint64_t size) noexcept {
  Bytes piece;
  station_.take_buffer(piece);
  const auto most = static_cast<std::size_t>(std::min<std::uint64_t>(size, piece.capacity()));
  const Result<std::size_t> got = read_cached(file, piece.data(), most, offset);
  if (got) seal({piece.data(), *got});
  station_.give_back(piece);
  return got;
}

// -- receiving for the handler's side ---------------------------------------------------------------------------------

/// Receives for the handler's side, which cannot; and which may have given up waiting, and read what it has.
Task<void> Connection::feed() {
  Exchange& exchange = *exchange_;
  Result<void> outcome;
  Bytes plain;
  // What has come when it is ended may be part of a record: nobody would end another receive.
  while (plain.empty() && phase_ == Phase::handler) {
    if (hears_no_more()) {
      outcome = evlua::fail(ECONNRESET, OpCode::recv);
      break;
    }
    RecvAwait receiving = receive();
    secure_->receiving = &receiving;
    Result<Lease> received = co_await receiving;
    secure_->receiving = nullptr;
    if (!received || received->empty()) {
      outcome = evlua::fail(received ? Error{ECONNRESET, ErrorDomain::system, OpCode::recv} : received.error());
      break;
    }
    station_.counters().bytes_in.add(received->size());
    decrypt({received->chars(), received->size()}, plain);
  }
  exchange.deliver(plain, outcome);
  station_.give_back(plain);
}

/// Unless what was asked for has come by now.
void Connection::begin_feed() noexcept {
  if (secure_->feeding || !exchange_->awaits_body()) return;
  secure_->feeding = true;
  secure_->run = [](Runnable& self) noexcept {
    auto& secure = static_cast<Secure&>(self);
    secure.feeding = false;
    secure.connection->bits_ |= kFeedEnded;
    if (secure.connection->parked_) std::exchange(secure.connection->parked_, nullptr).resume();
  };
  secure_->feed = feed();
  secure_->feed.start(TaskContext{&home(), nullptr, kNever}, *secure_);
}

/// A receive for the handler's side may outlast its interest.
bool Connection::feed_ended() noexcept {
  bits_ = 0;
  if (secure_ == nullptr) return true;
  if (secure_->feeding) {
    if (secure_->receiving != nullptr) Worker::cancel(*secure_->receiving);
    return false;
  }
  exchange_->take_arrived();
  return true;
}

}  // namespace evlua::http
