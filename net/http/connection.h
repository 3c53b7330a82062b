// One accepted connection: the loop that reads requests, has them answered, and sends the answers in order.
//
// It lives on one worker, its station's, from accept to close; everything here is for that worker, but for what the
// owner of a deferred exchange may use (input, fd, names). It deletes itself when its loop has ended. While it waits
// for a request it holds no buffer and no exchange.
#pragma once

#include <netinet/in.h>

#include <coroutine>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "core/buffer.h"
#include "core/bytes.h"
#include "core/intrusive.h"
#include "core/io_await.h"
#include "core/task.h"
#include "net/address.h"
#include "net/http/address_count.h"
#include "net/http/body_memory.h"
#include "net/http/exchange.h"
#include "net/http/held_output.h"
#include "net/http/http2_session.h"
#include "net/http/patience.h"
#include "net/http/proxy_protocol.h"
#include "net/tls/context_slot.h"
#include "net/tls/engine.h"

namespace evlua::http {

class Station;

class Connection final : public ListNode, private Runnable {
 public:
  /// Takes over `fd`. Call start() next.
  Connection(Station& station, int fd, const sockaddr_in6& peer, tls::ContextSlot* tls) noexcept;
  void start() noexcept;
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  /// Counts it for the address of its peer, unless that is exempt. False: there are too many.
  bool takes_its_place() noexcept;

  // -- for the station ------------------------------------------------------------------------------------------------

  /// The sweep: ends the wait that has lasted too long.
  void check_deadline(Instant now) noexcept {
    if (http2_ != nullptr) http2_->check_deadlines(now);
    if (waiting_ != nullptr && now >= deadline_) time_out(now);
    if (now >= handler_deadline_) expire();
    if (now >= examine_at_) examine(now);
  }
  /// The server stops: closes after the response under way or, if it is idle, the one that may be on its way.
  void stop() noexcept;
  /// The grace period is over: whatever it waits for ends now.
  void abandon() noexcept;

  // -- for the owner of the exchange ----------------------------------------------------------------------------------

  int fd() const noexcept { return fd_; }
  /// Where the connection's loop runs.
  Executor& home() noexcept;
  /// The response to come is the last one. [any thread]
  bool stopping() const noexcept;
  /// Who is connected, or who a PROXY header says is.
  std::string remote() const;
  void append_remote_host(Bytes& out) const noexcept;
  std::string local() const;
  /// For measuring; 0 when nobody wants to know.
  Instant clock() const noexcept;
  Instant came() const noexcept { return came_; }
  /// Whose connection it is, see client_network.
  std::uint64_t network() const noexcept { return client_network(reinterpret_cast<const sockaddr*>(&peer_)); }
  /// remote() is trusted to say for whom it asks.
  bool peer_is_trusted() const noexcept;
  /// What was received and not consumed.
  std::string_view& input() noexcept { return input_; }
  void take_input(Lease lease) noexcept {
    lease_ = std::move(lease);
    input_ = {lease_.chars(), lease_.size()};
  }
  /// As take_input, of what the connection's side has received for the exchange; `bytes` is exchanged for a spare one.
  void take_input(Bytes& bytes) noexcept;
  /// Gives the receive buffer back when nothing in it is needed.
  void release_consumed_input() noexcept;
  Bytes& output() noexcept { return output_; }
  /// Of its requests' bodies. [any thread, while one of its exchanges is with a handler]
  BodyAllowance& body_allowance() noexcept { return body_allowance_; }
  /// Of its streams. [likewise]
  HeldOutput& held_output() noexcept { return held_output_; }
  /// Null for a connection that is not encrypted.
  const tls::Session* tls() const noexcept { return secure_ != nullptr ? &secure_->engine.session() : nullptr; }

 private:
  friend class Exchange;
  friend class Http2Session;

  /// Where in a request's life we are between two waits.
  enum class Phase : std::uint8_t {
    head,      ///< reading a request head
    rest,      ///< a head was read; its body must be receivable from elsewhere
    handler,   ///< the exchange is deferred
    answered,  ///< the exchange is ours again
    drain,     ///< answered, and the rest of the body is skipped
    closing,
  };
  /// What the loop must wait for; `again`: nothing.
  enum class Next : std::uint8_t { again, receive, pause, rest, send, file, handler, http2, close };

  class HandlerWait;

  /// The TLS side of a connection. The engine is the worker's, so the worker receives for whoever has the exchange.
  struct Secure : Runnable {
    explicit Secure(std::shared_ptr<const tls::ServerContext> context) : engine(std::move(context)) {}

    tls::Engine engine;
    Bytes plain;  // `input_` lies here
    Connection* connection = nullptr;
    Op* receiving = nullptr;  // of `feed`
    Task<void> feed;
    bool feeding = false;
  };

  /// Bits of `bits_` that do not come from the handler's side.
  static constexpr std::uint8_t kFeedEnded = 0x80;
  /// A connection with a request that was refused for now is not read for so long.
  static constexpr Duration kPauseAfterRefusal = 200 * kMillisecond;
  /// What is read at once of a file that is not in memory.
  static constexpr std::uint64_t kDiskPiece = 256 * 1024;

  Task<void> serve();
  Task<bool> begin();
  bool announced_by_proxy() const noexcept;
  Task<bool> take_proxy_header();
  bool believe(const ProxyHeader& header);
  Task<bool> shake_hands();
  void tell_failed_handshake() const;
  Task<void> send_sealed();
  Task<void> send_plain(std::string_view bytes);
  bool feed_ended() noexcept;
  Task<void> feed();
  void begin_feed() noexcept;
  void decrypt(std::string_view sealed, Bytes& plain) noexcept;
  /// The peer has said over TLS that it sends no more, or something that nothing can follow.
  bool hears_no_more() const noexcept {
    return secure_ != nullptr && secure_->engine.state() != tls::Engine::State::open;
  }
  bool must_seal() const noexcept { return secure_ != nullptr && !secure_->engine.outgoing().empty(); }
  Task<void> serve_http2();
  bool begins_http2(std::string_view so_far) const noexcept;
  Task<void> take_leave();
  Task<void> linger();
  Task<void> take_rest();
  Task<void> pause();
  /// What nothing is in between two requests.
  void give_back_idle() noexcept;
  void keep_input() noexcept;
  Task<void> send_attached();
  Task<void> seal_attached();
  Result<std::size_t> seal_cached(int file, std::uint64_t offset, std::uint64_t size) noexcept;
  void seal(std::string_view bytes) noexcept;
  Task<void> send_from_disk(int file, std::uint64_t offset, std::uint64_t size);
  Next advance() noexcept;
  Next read_head() noexcept;
  bool has_whole_body(const RequestParser& parser) const noexcept;
  Next answer(std::string_view head) noexcept;
  void begin_head() noexcept;
  /// `came`: what there is of the request.
  Next refuse(int status, std::string_view came) noexcept;
  Next end_exchange() noexcept;
  void tell_end(std::string_view refused_line, bool refused) noexcept;
  Next skip_body() noexcept;
  Next next_request() noexcept;
  Next close_now() noexcept;
  void take_pending() noexcept;
  void begin_send(Op& op) noexcept;
  void end_send(Instant ended, std::uint64_t taken) noexcept;
  bool send_is_late(Instant now) noexcept;
  void begin_receive(Op& op) noexcept;
  RecvAwait receive() noexcept;
  void take_received(Result<Lease> received) noexcept;
  void receive_failed() noexcept;
  void release_all() noexcept;
  void send_failed(const Error& error) noexcept;
  void time_out(Instant now) noexcept;
  void expire() noexcept;
  void examine(Instant now) noexcept;
  /// Between requests: nothing of the next one was received.
  bool idle() const noexcept { return phase_ == Phase::head && head_deadline_ == kNever; }
  static void handler_spoke(Runnable& node) noexcept;

  Station& station_;
  Exchange* exchange_ = nullptr;  // null while idle
  Op* waiting_ = nullptr;         // the operation the loop waits for
  Instant deadline_ = kNever;     // of that wait
  Instant came_ = 0;              // since then what we have received waits for us
  Instant wait_began_ = 0;        // of a send, or of a piece of a body that is skipped
  Patience sending_;              // for the peer to take what we send
  Instant handler_deadline_ = kNever;
  Instant examine_at_ = kNever;
  Instant head_deadline_ = kNever;  // set while a head has begun and not ended
  std::coroutine_handle<> parked_;  // the loop, while it waits for the handler
  std::unique_ptr<Secure> secure_;
  std::unique_ptr<Http2Session> http2_;
  Lease lease_;
  std::string_view input_;
  Bytes output_;
  Task<void> task_;
  Error error_;                       // why output is impossible; code 0 when it is not
  std::int32_t unacknowledged_ = -1;  // what the kernel holds of ours, when we last looked during this send
  std::uint32_t taken_ahead_ = 0;     // the peer was credited with, but the kernel has not taken from us yet
  std::uint32_t skipped_bytes_ = 0;
  std::uint32_t requests_ = 0;
  BodyAllowance body_allowance_;
  HeldOutput held_output_;
  int fd_;
  sockaddr_in6 peer_;                    // or a sockaddr_in, or nothing but a family
  std::unique_ptr<net::Address> local_;  // as a PROXY header says
  Phase phase_ = Phase::head;
  std::uint8_t bits_ = 0;   // from the handler's side, not yet looked at
  bool has_place_ = false;  // it counts for its peer's address
  bool timed_out_ = false;
  bool served_ = false;   // a request has been answered
  bool refused_ = false;  // the last one, for now
  bool ahead_ = false;    // the backend receives ahead
  bool reset_ = false;    // close with RST: the peer must not take what it got for whole
  bool linger_ = false;   // the peer may still be sending: closing at once could destroy our answer
};

}  // namespace evlua::http
