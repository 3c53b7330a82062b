// One request and its response, and the seam between the HTTP front and whoever answers.
//
// An Exchange belongs to exactly one side at a time. The connection's task owns it until it calls Handler::handle. From
// then on it is the handler's: either handle finishes the response and returns true, and it goes back at that moment;
// or the handler keeps it, returns false, and gives it back later by complete(), from any thread. Only the owner may
// call anything here. Before an exchange leaves the thread that runs handle, and at the latest before handle returns
// false, the handler calls defer() (read_body, write, flush and complete do so by themselves when called inside
// handle).
//
// Views of the request (method, target, fields) are valid until defer(), and from defer() until the exchange is given
// back: what was taken before defer() must be taken again. A view from a body read is valid until the next body read.
//
// If the client goes away, nothing happens until the handler writes: it then gets EPIPE or ECONNRESET, and completes
// as usual.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "core/buffer.h"
#include "core/bytes.h"
#include "core/error.h"
#include "core/event.h"
#include "core/lockfree/futex_mutex.h"
#include "core/task.h"
#include "core/time.h"
#include "net/http/chunked.h"
#include "net/http/compressor.h"
#include "net/http/decompressor.h"
#include "net/http/encoder_place.h"
#include "net/http/file_body.h"
#include "net/http/forwarded.h"
#include "net/http/held_output.h"
#include "net/http/limits.h"
#include "net/http/parser.h"
#include "net/http/patience.h"
#include "net/http/response.h"
#include "net/http/trace_context.h"
#include "net/http/trailers.h"
#include "net/tls/engine.h"

namespace evlua::http {

class BodyMemory;
class Connection;
class Exchange;
struct Http2Stream;

/// Who answers. One per VM; called on the worker threads whose connections were given to it.
class Handler {
 public:
  /// A request head was read. True: the response is finished (if the handler left it open, it is finished now). False:
  /// exchange.complete() comes later. Runs on the connection's worker; must not block.
  virtual bool handle(Exchange& exchange) noexcept = 0;

  /// The server stops and its grace period is over: end work on this exchange, which was deferred and is not given
  /// back yet as far as the connection's worker knows, soon. Its socket is already shut down. Called on that worker,
  /// whoever owns the exchange; it only stays valid for this call.
  virtual void abandon(Exchange& exchange) noexcept { static_cast<void>(exchange); }

  /// A deferred exchange has lasted longer than Limits::handler_timeout. As abandon, but the client still listens.
  virtual void expire(Exchange& exchange) noexcept { static_cast<void>(exchange); }

  /// A deferred exchange has lasted longer than Limits::slow_after: report where it is. As expire, it only stays valid
  /// for this call; called again when twice the time has passed.
  virtual void examine(Exchange& exchange) noexcept { static_cast<void>(exchange); }

 protected:
  ~Handler() = default;
};

class Exchange {
 public:
  Exchange() = default;
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;

  // -- request --------------------------------------------------------------------------------------------------------

  std::string_view method() const noexcept { return parser_.method(head_); }
  bool is_head() const noexcept { return parser_.is_head(); }
  /// As sent.
  std::string_view target() const noexcept { return parser_.target(head_); }
  /// The part before the question mark, not decoded.
  std::string_view path() const noexcept { return parser_.path(head_); }
  /// The part behind it, not decoded; empty when there is none.
  std::string_view query_string() const noexcept { return parser_.query(head_); }
  /// Whom the client asked for: the target's authority, else the Host field.
  std::string_view host() const noexcept { return parser_.host(head_); }
  /// 1.0, 1.1 or 2.0
  int version_major() const noexcept { return parser_.version_major(); }
  int version_minor() const noexcept { return parser_.version_minor(); }

  /// The first field of that name, whatever its case.
  std::optional<std::string_view> header(std::string_view name) const noexcept { return parser_.find(head_, name); }
  /// The list that all fields of that name make; `room` must live as long.
  std::optional<std::string_view> header_list(std::string_view name, std::string& room) const;
  std::size_t header_count() const noexcept { return parser_.field_count(); }
  HeaderField header_at(std::size_t index) const noexcept { return parser_.field(head_, index); }
  template <class Visit>
  void for_each_header(Visit visit) const {
    for (std::size_t index = 0; index < header_count(); ++index) visit(header_at(index));
  }

  /// Who is connected: "127.0.0.1:5123"; for a Unix-domain client "unix:".
  std::string remote() const;
  std::string local() const;
  /// How the connection is encrypted; null when it is not.
  const tls::Session* tls() const noexcept;
  /// "127.0.0.1", "::1" or "unix:", appended.
  void append_remote_host(Bytes& out) const noexcept;
  // What trusted proxies say counts here, see forwarded.h. The first of these calls reads the fields.

  /// As remote(), or whom the proxy speaks for: without a port if none is known, "unknown" or "_name" if it hides it.
  std::string client() { return knows_client() && !client_->remote.empty() ? client_->remote : remote(); }
  /// The address of it alone, as append_remote_host writes it; empty if no proxy speaks for anybody.
  std::string_view named_host();
  /// "http" or "https"
  std::string_view scheme();
  /// As host(), or whom the client asked the proxy for.
  std::string_view client_host() { return knows_client() && !client_->host.empty() ? client_->host : host(); }
  /// Different for every exchange of the process.
  std::uint64_t id() const noexcept { return id_; }
  static constexpr std::size_t kRequestIdRoom = 32;
  /// The same for logs, different for every process, too; or what the client calls it, see Limits::request_ids.
  std::string_view request_id(std::array<char, kRequestIdRoom>& room) const noexcept;
  /// When its head was complete; 0 when nobody measures.
  Instant began() const noexcept { return began_; }
  /// When it had come, as the worker counts time: since then it waits to be handled.
  Instant came() const noexcept { return came_; }
  /// Whom it is counted for, see client_network: client(), that is. [owner]
  std::uint64_t client_network();
  /// Who is to keep to a client's share of what there is: client_network(), or 0 for nobody, as a trusted proxy that
  /// does not say for whom it asks. [owner]
  std::uint64_t sharing_network();
  /// Which trace the request is part of, as the client says or as is made up here. [owner]
  const TraceContext& trace() noexcept;
  /// The connection may serve another request after this one, as things stand.
  bool keep_alive() const noexcept { return keep_alive_; }
  /// The next response head will say `Connection: close`.
  void close_connection() noexcept { keep_alive_ = false; }
  const Limits& limits() const noexcept { return *limits_; }

  // -- request body ---------------------------------------------------------------------------------------------------

  bool has_body() const noexcept { return parser_.body_kind() != BodyKind::none; }
  /// Known for a body with Content-Length; 0 when there is no body.
  std::optional<std::uint64_t> content_length() const noexcept;

  // What is read of a body with a Content-Encoding is decoded, unless that was declined. EINVAL for a coding that is
  // not known, EPROTO for a body that is not what it claims to be, Errc::too_large for one that expands beyond the
  // limits.

  /// Whether the body is to be decoded if it is encoded. False: reading has begun, so it is too late to say.
  bool decode_body(bool wanted) noexcept;
  /// It is encoded in a way that cannot be decoded: no read will succeed.
  bool has_unknown_coding() noexcept { return body_form() == BodyForm::unreadable; }

  /// What has arrived already, without waiting: true with at most `max` bytes in `out`, an empty view at the end of the
  /// body, or an error. False: read_body would wait. REQUIRES: max > 0.
  bool try_read_body(std::size_t max, Result<std::string_view>& out) noexcept;

  /// The next bytes, at most `max`; an empty view at the end. Sends "100 Continue" first if the client waits for it.
  /// ETIMEDOUT when nothing comes in time, ECONNRESET when the client ended early, EPROTO for a broken chunk: the
  /// connection closes after the response then. REQUIRES: max > 0.
  Task<Result<std::string_view>> read_body(std::size_t max, Instant deadline = kNever);

  /// Everything, or Errc::too_large when it is more than `max` bytes, decoded.
  Task<Result<std::string>> read_whole_body(std::size_t max, Instant deadline = kNever);

  /// The body was read to its end (a read has said so), and nothing was wrong with it.
  bool body_read() const noexcept;
  /// A read has failed, and so would the next.
  bool body_failed() const noexcept {
    return body_broken_ || body_form_ == BodyForm::unreadable || (decoding_ != nullptr && decoding_->failure.code != 0);
  }
  /// The fields that came behind the body; null if there are none, or unless body_read().
  const Trailers* trailers() const noexcept { return body_read() ? trailers_.get() : nullptr; }
  /// The status that answers a request whose body could not be read: 400 when it was broken, 408 when it did not come,
  /// 413 when it was more than the reader took, 503 when bodies took all memory there is for them, 415 for a coding
  /// that we do not know; 0 when nothing of that has happened.
  int body_refusal() const noexcept;

  // -- response -------------------------------------------------------------------------------------------------------

  /// EINVAL for a status that is not final or a reason that cannot be sent; EALREADY when the head has been sent.
  Result<void> set_status(int status, std::string_view reason = {});
  int status() const noexcept { return response_.status(); }
  /// Replaces. EINVAL for what is no valid field; EALREADY when the head has been sent.
  Result<void> set_header(std::string_view name, std::string_view value);
  Result<void> add_header(std::string_view name, std::string_view value);
  Result<void> remove_header(std::string_view name);
  bool has_header(std::string_view name) const noexcept { return response_.has(name); }
  std::optional<std::string_view> response_header(std::string_view name) const noexcept { return response_.find(name); }
  bool headers_sent() const noexcept { return headers_sent_; }
  /// Whether this response may be compressed, if the server does so and the client takes it.
  void allow_compression(bool allowed) noexcept { may_compress_ = allowed; }

  /// Whether a response of that size, as it stands, would be encoded for this client.
  bool would_be_encoded(std::size_t size) const { return coding_for(size).has_value(); }
  /// Whether it would for another client: the response depends on what this one accepts.
  bool varies_by_coding(std::size_t size) const noexcept { return may_be_encoded(size); }
  /// The same of a response whose content is not there yet, as far as that can be told.
  bool may_vary_by_coding() const noexcept;
  /// Adds "Vary: Accept-Encoding" unless that is said already.
  void vary_by_coding();
  /// A place for its encoder is this response's until it ends. False: there is none, it will go out as it is.
  bool take_encoder_place();

  /// The whole response at once. EALREADY when it has begun; EMSGSIZE when a Content-Length was set that differs.
  Result<void> send(std::string_view body);
  /// To compress a body of that size would hold up the worker: send leaves it as it is, send_in_turns does not.
  bool is_sent_in_turns(std::size_t size) const;
  /// As send; others have their turn while it is compressed. Fails only when cancelled. REQUIRES: is_sent_in_turns.
  Task<Result<void>> send_in_turns(std::string_view body);
  /// A body of that size is too much to be held until the client takes it, with what its other streams hold (HTTP/2):
  /// send would do so, send_as_taken does not.
  bool is_sent_as_taken(std::size_t size) noexcept;
  /// As send, by and by. Fails only when cancelled. REQUIRES: is_sent_as_taken.
  Task<Result<void>> send_as_taken(std::string_view body);

  /// The whole response: takes `body`, which is sent from the page cache once the exchange is given back. False: that
  /// cannot be (HTTP/2 frames it).
  bool attach(std::unique_ptr<FileBody>& body);

  /// Streams: the head first, then `chunk`, which must stay valid until the task ends. Returns when it is on its way
  /// and the bytes that wait for the client are below a mark. An empty chunk sends the head alone; of the answer to
  /// HEAD there is nothing more: EPIPE.
  Task<Result<void>> write(std::string_view chunk, Instant deadline = kNever);
  /// As write, of something longer that is read as there is room: what it is compressed to may wait for more of it.
  Task<Result<void>> write_on(std::string_view chunk);
  /// Returns how much write_on should be given next, when the client has opened a window for it (HTTP/2) and, if it is
  /// compressed, it is our turn to do so. Whoever waits here need hold nothing. REQUIRES: headers_sent.
  Task<Result<std::size_t>> room();
  /// As write, without waiting: false, and nothing is done, when write would wait. REQUIRES: deferred.
  bool try_write(std::string_view chunk, Result<void>& out) noexcept;
  /// Returns when the kernel has taken everything that was written.
  Task<Result<void>> flush(Instant deadline = kNever);
  /// Ends a streamed response, or sends the head with an empty body. Nothing happens the second time. EMSGSIZE when
  /// less was written than Content-Length promised: the connection is then cut, so that the client notices.
  Result<void> finish();
  bool finished() const noexcept { return finished_; }

  /// A plain error response. When the head was sent already the connection is cut, so that the client notices.
  void fail(int status) noexcept;
  /// As fail(503), to be tried again later.
  void fail_for_now() noexcept;

  /// Of the body of the response, as far as they were handed on: compressed, but not framed.
  std::uint64_t body_bytes() const noexcept { return body_bytes_; }

  /// The connection was lost or cut: nothing that is written gets there. Known after a write has failed.
  bool broken() noexcept;

  // -- hand-over ------------------------------------------------------------------------------------------------------

  /// See above. Moves the head out of the receive buffer; calling it again does nothing.
  void defer() noexcept;
  bool deferred() const noexcept { return deferred_; }
  /// Gives the exchange back; it is finished if it was not, and must not be touched afterwards. [owner, any thread]
  void complete() noexcept;
  /// Calls `act` unless it has been given back, which it is not before `act` has returned. [connection's worker]
  template <class Act>
  void while_deferred(Act act) noexcept {
    lock_.lock();
    if (!given_back_) act();
    lock_.unlock();
  }

  /// For the handler's own use. `user` is null and `storage` undefined when handle is called.
  void* user = nullptr;
  alignas(std::max_align_t) std::array<std::byte, 80> storage;

 private:
  friend class Connection;
  friend class Http2Session;
  friend class Station;

  /// Bits that the handler's side sends to the connection's.
  static constexpr std::uint8_t kOutput = 1;
  static constexpr std::uint8_t kDone = 2;
  static constexpr std::uint8_t kInput = 4;     ///< body bytes are wanted, or were taken; see fed_
  static constexpr std::uint8_t kContinue = 8;  ///< HTTP/2: send "100 Continue"

  /// What is appended in one go, under the lock.
  static constexpr std::size_t kSliceBytes = 64 * 1024;
  /// What is compressed in one go: a few milliseconds at the highest levels.
  static constexpr std::size_t kPackedInOneGo = 16 * 1024;

  // -- its life, and whose request it is: exchange.cpp [connection's worker] --

  void begin(Connection& connection, const Limits& limits) noexcept;
  void begin(Connection& connection, const Limits& limits, Http2Stream& stream) noexcept;
  /// A head was read: `head` lies in the receive buffer or in head_bytes_.
  void start(std::string_view head, std::uint64_t id, bool may_persist) noexcept;
  void reset() noexcept;
  void reset_stream() noexcept;
  /// Calls the handler; true when the exchange is ours again.
  bool be_handled_by(Handler& handler) noexcept;
  void announce_id() noexcept;  // [owner]
  bool knows_client();          // [owner]

  // -- between the sides: exchange_sides.cpp [connection's worker] --

  /// What the handler's side has asked for since last time.
  std::uint8_t take_bits() noexcept;
  /// Body bytes, which `bytes` gives up, or why there are none.
  void deliver(Bytes& bytes, const Result<void>& outcome) noexcept;
  /// The same of HTTP/2: some more bytes; `ended`: and these are the last.
  void deliver(std::string_view bytes, bool ended) noexcept;
  /// HTTP/2: a field that came behind the body. False: too much of them.
  bool deliver_trailer(std::string_view name, std::string_view value) noexcept;
  /// HTTP/2: there is some of the response that its stream has not taken yet.
  bool has_output() noexcept;
  /// The handler waits for the client to send more of the body, see fed_.
  bool awaits_body() noexcept;
  /// HTTP/2: the client has taken too long to. The handler's read fails.
  void give_up_body() noexcept;
  /// HTTP/2: the client has room for some more of the response, and nothing is on its way.
  void offer_window(std::size_t bytes) noexcept;
  /// HTTP/2: the handler waits for that.
  bool awaits_window() noexcept;
  /// HTTP/2: whether the client takes any more of this response for now.
  void set_shut(bool shut) noexcept;
  /// HTTP/2: the stream is gone. Reads and writes fail from now on.
  void break_off(const Error& error) noexcept;

  // -- the same: exchange_sides.cpp [owner] --

  void notify(std::uint8_t bits) noexcept;
  /// Where response bytes go, locked if the exchange is deferred.
  Bytes& lock_output() noexcept;
  void unlock_output() noexcept;
  void count_pending() noexcept;
  bool is_held_back() const noexcept;
  void end_output() noexcept;
  Task<Result<void>> wait_below(std::size_t mark, Instant deadline);
  Task<Result<std::size_t>> await_window();
  Task<Result<void>> await_delivery(Instant deadline);
  /// What was delivered becomes the connection's input. False: there is nothing.
  bool take_arrived() noexcept;

  // -- request body: exchange_body.cpp [owner] --

  /// The next piece of the body within the connection's input, as it was sent; false when that is used up.
  bool next_piece(std::size_t max, Result<std::string_view>& out) noexcept;
  bool next_of_stream(std::size_t max, Result<std::string_view>& out) noexcept;
  void end_chunked() noexcept;
  Task<Result<void>> receive(Instant deadline);
  void send_continue() noexcept;
  bool hold(BodyMemory& memory, std::size_t bytes);
  void tell_over_share();

  // -- one with a Content-Encoding: exchange_decoding.cpp [owner] --

  /// What reading has to do, known when it begins.
  enum class BodyForm : std::uint8_t { undecided, plain, encoded, unreadable };
  /// A body that is being decoded.
  struct Decoding {
    std::unique_ptr<Decompressor> decompressor;
    std::string_view input;      // of the body, not decoded yet
    Bytes input_bytes;           // where it lies after defer()
    Bytes piece;                 // what was handed out last
    std::uint64_t received = 0;  // of the body, all in all
    std::uint64_t expanded = 0;
    Error failure;      // code 0: none
    bool full = false;  // the last piece took all the room there was: there may be more without any input
    bool ended = false;
  };

  BodyForm body_form() noexcept;
  void begin_decoding(ContentCoding coding) noexcept;
  bool next_decoded(std::size_t max, Result<std::string_view>& out) noexcept;
  Result<std::string_view> end_decoding() noexcept;
  void keep_undecoded() noexcept;

  // -- response: exchange_response.cpp [owner] --

  bool sends_body() const noexcept { return !parser_.is_head() && status_has_body(response_.status()); }
  ResponseHead::Persistence persistence(Framing framing) noexcept;
  Result<void> check_writable() noexcept;
  Result<void> send_whole(std::string_view body, bool length_known);
  Task<Result<void>> write_whole(std::string_view body);
  std::size_t most_at_once() noexcept;
  void start_stream() noexcept;
  Result<void> prepare_write(std::string_view& chunk) noexcept;
  void append_output(std::string_view piece, bool last) noexcept;
  void append_chunk(Bytes& out, std::string_view chunk) noexcept;
  void send_failure(int status, bool for_now) noexcept;
  void cut() noexcept;

  // -- compression: exchange_encoding.cpp [owner] --

  bool may_be_encoded(std::size_t size) const noexcept;
  std::optional<Coding> coding_for(std::size_t size) const;
  bool response_lists(std::string_view name, std::string_view token) const noexcept;
  void announce_coding(Coding coding);
  std::string_view encode_whole(std::string_view body, Bytes& packed);
  Task<Result<void>> turn_to_compress(Instant deadline);
  void begin_compression();
  std::string_view pack(std::string_view chunk, Compressor::Then then) noexcept;
  void end_compression() noexcept;

  Connection* connection_ = nullptr;
  const Limits* limits_ = nullptr;
  std::string_view head_;  // in the receive buffer, or in head_bytes_
  std::uint64_t id_ = 0;
  Instant began_ = 0;  // when the head was complete; 0: nobody wants to know
  Instant came_ = 0;
  std::uint64_t body_bytes_ = 0;          // of the response
  std::uint64_t received_bytes_ = 0;      // by the handler's side
  TraceContext trace_;                    // its span is 0 until somebody asks for it
  std::uint64_t body_remaining_ = 0;      // BodyKind::length
  std::uint64_t response_remaining_ = 0;  // Framing::length while streaming
  Patience patience_;                     // for the body to come, but of a stream
  ChunkedDecoder chunked_;
  ResponseHead response_;
  std::unique_ptr<Decoding> decoding_;      // BodyForm::encoded
  std::unique_ptr<Trailers> trailers_;      // with HTTP/2 the connection's side fills it until the body has ended
  std::optional<Coding> coding_;            // of a streamed body
  std::unique_ptr<Compressor> compressor_;  // once there is something for it
  EncoderPlace place_;
  Bytes packed_;      // what it has made of the last chunk
  Bytes head_bytes_;  // a head that came in pieces, or was moved here by defer
  std::unique_ptr<FileBody> attached_;
  std::unique_ptr<const ForwardedClient> client_;  // once somebody has asked
  Bytes pending_;                                  // deferred: output on its way to the connection, under lock_
  HeldOutput::Share held_;                         // stream_: of pending_
  Framing framing_ = Framing::none;
  bool keep_alive_ = true;
  bool may_compress_ = true;
  bool body_ended_ = true;
  bool body_broken_ = false;
  bool decode_wanted_ = true;
  BodyForm body_form_ = BodyForm::undecided;
  std::int16_t body_refusal_ = 0;
  bool continue_wanted_ = false;
  bool fed_ = false;               // the connection's side receives, and delivers
  bool input_last_ = false;        // stream_: nothing comes after input_
  Http2Stream* stream_ = nullptr;  // null with HTTP/1
  Bytes input_bytes_;              // stream_: where input_ lies
  std::string_view input_;         // stream_: of the body, not read yet
  bool headers_sent_ = false;
  bool finished_ = false;
  bool refused_for_now_ = false;
  bool cut_ = false;
  bool deferred_ = false;

  // Between the sides of a deferred exchange.
  FutexMutex lock_;
  bool given_back_ = false;
  bool posted_ = false;     // node_ is on its way to the connection
  std::uint8_t bits_ = 0;   // for it
  bool sending_ = false;    // the connection has output that the kernel has not taken
  bool waiting_ = false;    // someone waits for drained_
  bool awaited_ = false;    // nothing is delivered, and the handler waits for it
  bool delivered_ = false;  // there is something in arrived_ or delivery_
  bool arrived_last_ = false;
  bool output_ended_ = false;                      // stream_: nothing comes after pending_
  bool head_ready_ = false;                        // stream_: the head may be sent, and does not change any more
  std::optional<std::uint64_t> announced_length_;  // stream_: as the head says
  std::size_t taken_ = 0;                          // stream_: bytes of the body that were taken, for its flow control
  std::size_t window_ = 0;                         // stream_: what the client has room for
  bool window_awaited_ = false;                    // stream_: the handler waits for that
  bool shut_ = false;                              // stream_: the client has none, or the connection has none
  Bytes arrived_;
  Result<void> delivery_;
  Event delivered_event_;
  Error error_;  // why output is impossible; code 0 when it is not
  Event drained_;
  struct Node : Runnable {
    Exchange* exchange = nullptr;
  } node_;

  RequestParser parser_;
};

}  // namespace evlua::http
