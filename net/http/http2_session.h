// One HTTP/2 connection (RFC 9113), by nghttp2: its streams, each with an exchange of its own, and the two tasks that
// receive and send for all of them. Handlers see no difference from HTTP/1.
//
// Everything here is the connection's worker's. What a handler on another thread writes waits in its exchange, until
// that thread's notice has arrived here. Input is bounded by the windows of flow control, which open as handlers take
// the bytes; output is taken from an exchange only as fast as the client's windows let it go.
#pragma once

#include <nghttp2/nghttp2.h>

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "core/bytes.h"
#include "core/intrusive.h"
#include "core/io_await.h"
#include "core/task.h"
#include "net/http/exchange.h"
#include "net/http/held_output.h"
#include "net/http/rate_watch.h"

namespace evlua::http {

class Connection;
class Http2Session;
class Station;

struct Http2Stream : ListNode {
  static constexpr std::uint64_t kUnknown = ~std::uint64_t{0};

  Http2Session* session = nullptr;
  Exchange* exchange = nullptr;  // null once the handler is done and has said everything
  Bytes out;                     // of the body, on its way
  std::size_t out_at = 0;        // what of it nghttp2 has taken
  HeldOutput::Share held;        // of `out`
  std::int32_t id = 0;
  Instant head_deadline = kNever;  // of the request's head
  Instant handler_deadline = kNever;
  Instant examine_at = kNever;
  Instant linger_deadline = kNever;  // of an answered request's body
  std::uint64_t to_come = kUnknown;  // of the body, if the client says how long it is
  RateWatch body;                    // of the request
  RateWatch response;
  bool handled = false;    // the handler has been called
  bool skipped = false;    // answered, and the rest of its body is little enough to wait for
  bool submitted = false;  // the head of the response was given to nghttp2
  bool last = false;       // nothing comes after `out`
  bool shut = false;       // the client takes no more of it for now, or of anything
  bool closed = false;     // for nghttp2 there is no such stream any more
};

class Http2Session final : private Runnable {
 public:
  explicit Http2Session(Connection& connection) noexcept;
  ~Http2Session();
  Http2Session(const Http2Session&) = delete;
  Http2Session& operator=(const Http2Session&) = delete;

  /// Serves until the connection is to be closed and no exchange is with a handler. `received` is what has come
  /// already.
  Task<void> serve(std::string_view received);

  // As those of Connection.
  void check_deadlines(Instant now) noexcept;
  void stop() noexcept;
  void abandon() noexcept;

 private:
  friend class Exchange;
  struct Callbacks;
  class Wake;

  static constexpr std::uint32_t kStreamsMax = 128;
  static constexpr std::uint32_t kExchangesMax = 2 * kStreamsMax;  // streams taken back still keep their handlers

  static const nghttp2_session_callbacks* callbacks();
  static const nghttp2_option* options();
  static nghttp2_data_provider body_of(Http2Stream& stream) noexcept;

  Task<void> pause();
  Task<void> send_all();
  void receive(std::string_view bytes) noexcept;
  void fill_output() noexcept;
  void wake_sender() noexcept;
  void wake_reader() noexcept;
  void watch_rates(Instant now) noexcept;
  static bool awaits_body(Http2Stream& stream) noexcept;
  void give_up_body(Http2Stream& stream) noexcept;
  enum class Holdup : std::uint8_t;
  Holdup holdup(const Http2Stream& stream) const noexcept;
  void watch_bodies(Duration passed) noexcept;
  void watch_responses(Duration passed) noexcept;
  void lose() noexcept;
  void end_politely() noexcept;
  void time_out(Http2Stream& stream) noexcept;
  void take_turns(const Http2Stream& stream) noexcept;
  void give_notice() noexcept;
  bool finished() const noexcept { return streams_.empty() && (lost_ || ending_); }

  Http2Stream& open(std::int32_t id) noexcept;
  void release(Http2Stream& stream) noexcept;
  void answer(Http2Stream& stream, bool has_body) noexcept;
  void take_output(Http2Stream& stream) noexcept;
  void count_output(Http2Stream& stream) noexcept;
  bool is_shut(std::int32_t id) const noexcept;
  void look_at_window(Http2Stream& stream) noexcept;
  void look_at_windows() noexcept;
  void offer_window(Http2Stream& stream) noexcept;
  void given_back(Http2Stream& stream) noexcept;
  void tell_end(Http2Stream& stream) noexcept;
  void speak(Http2Stream& stream) noexcept;
  void recycle_exchange(Http2Stream& stream) noexcept;
  void consume(std::int32_t id, std::size_t bytes) noexcept;
  void linger(Http2Stream& stream) noexcept;
  void closed(Http2Stream& stream, std::uint32_t error) noexcept;
  void reset(std::int32_t id, std::uint32_t error) noexcept;
  static void handler_spoke(Runnable& node) noexcept;

  struct FreeSession {
    void operator()(nghttp2_session* session) const noexcept { nghttp2_session_del(session); }
  };

  Connection& connection_;
  Station& station_;
  std::unique_ptr<nghttp2_session, FreeSession> session_;
  List<Http2Stream> streams_;
  std::vector<std::unique_ptr<Http2Stream>> spare_streams_;
  std::vector<nghttp2_nv> fields_;  // of the head that is being submitted
  Bytes names_;
  Op* receiving_ = nullptr;  // or the pause before that
  Task<void> sender_;
  std::coroutine_handle<> sender_parked_;
  std::coroutine_handle<> reader_parked_;
  Instant idle_deadline_ = kNever;
  Instant watched_ = 0;          // when watch_rates last looked
  std::uint64_t sent_ = 0;       // since then, of all bodies
  std::uint64_t received_ = 0;   // likewise
  std::uint32_t exchanges_ = 0;  // with handlers, closed streams included
  std::uint32_t resets_ = 0;     // streams that the client took back before they were answered
  std::uint32_t answered_ = 0;
  std::uint32_t refusals_ = 0;  // for now, since the last pause
  bool pausing_ = false;        // nothing is received
  bool shut_ = false;           // the window of the connection
  bool sender_ended_ = false;
  bool broken_ = false;     // nghttp2 makes no sense of what comes
  bool lost_ = false;       // nothing can be received, or nothing shall be
  bool ending_ = false;     // GOAWAY was sent
  bool timed_out_ = false;  // a stream was reset for its client's slowness
  bool noticed_ = false;    // the client was told that GOAWAY is about to come
};

}  // namespace evlua::http
