#include "net/http/http2_session.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "core/check.h"
#include "core/worker.h"
#include "net/http/connection.h"
#include "net/http/station.h"

namespace evlua::http {

namespace {

constexpr std::uint32_t kStreamWindow = 256 * 1024;
constexpr std::int32_t kConnectionWindow = 1024 * 1024;
constexpr Duration kPausePerRefusal = 25 * kMillisecond;  // as of six connections of HTTP/1, or so

}  // namespace

Http2Session::Http2Session(Connection& connection) noexcept : connection_(connection), station_(connection.station_) {
  nghttp2_session* session = nullptr;
  EVLUA_CHECK(nghttp2_session_server_new2(&session, callbacks(), this, options()) == 0);
  session_.reset(session);
  const std::array<nghttp2_settings_entry, 4> settings = {{
      {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, kStreamsMax},
      {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, kStreamWindow},
      {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, station_.limits().header_block_bytes},
      {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
  }};
  EVLUA_CHECK(nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, settings.data(), settings.size()) == 0);
  EVLUA_CHECK(nghttp2_session_set_local_window_size(session, NGHTTP2_FLAG_NONE, 0, kConnectionWindow) == 0);
}

Http2Session::~Http2Session() { EVLUA_CHECK(streams_.empty()); }

class Http2Session::Wake {
 public:
  explicit Wake(std::coroutine_handle<>& place) noexcept : place_(place) {}
  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> waiting) noexcept { place_ = waiting; }
  void await_resume() const noexcept {}

 private:
  std::coroutine_handle<>& place_;
};

void Http2Session::wake_sender() noexcept {
  if (sender_parked_) return std::exchange(sender_parked_, nullptr).resume();
  wake_reader();  // a handler may have been the last to be waited for
}

void Http2Session::wake_reader() noexcept {
  if (reader_parked_ && finished() && sender_ended_) std::exchange(reader_parked_, nullptr).resume();
}

Task<void> Http2Session::serve(std::string_view received) {
  watched_ = station_.worker().now();
  idle_deadline_ = deadline_after(watched_, station_.limits().header_timeout);
  if (!received.empty()) receive(received);
  run = [](Runnable& sender) noexcept {
    auto& self = static_cast<Http2Session&>(sender);
    self.sender_ended_ = true;
    self.wake_reader();
  };
  sender_ = send_all();
  sender_.start(TaskContext{&connection_.home(), nullptr, kNever}, *this);
  while (!broken_ && !lost_ && !finished()) {
    if (refusals_ != 0) {
      co_await pause();
      continue;
    }
    RecvAwait receiving(connection_.fd_, RecvAwait::Mode::once);
    receiving_ = &receiving;
    const Result<Lease> lease = co_await receiving;
    receiving_ = nullptr;
    connection_.came_ = receiving.done_at;
    if (!lease || lease->empty()) {
      if (!finished()) lose();
      break;
    }
    station_.counters().bytes_in.add(lease->size());
    std::string_view bytes(lease->chars(), lease->size());
    if (connection_.secure_ != nullptr) {
      connection_.decrypt(bytes, connection_.secure_->plain);
      bytes = connection_.secure_->plain.view();
    }
    if (!bytes.empty() && !lost_) receive(bytes);  // nobody could be answered any more
    if (connection_.hears_no_more()) lose();
    if (connection_.secure_ != nullptr) station_.give_back(connection_.secure_->plain);
    wake_sender();
  }
  wake_sender();
  while (!finished() || !sender_ended_) co_await Wake(reader_parked_);
  connection_.linger_ = !lost_;
}

/// As Connection::pause, for each of them: what is refused costs as little however it is asked for. Answers go out.
Task<void> Http2Session::pause() {
  const Duration lasts = std::max(Connection::kPauseAfterRefusal, std::exchange(refusals_, 0) * kPausePerRefusal);
  IoAwait pausing = io::sleep_until(deadline_after(station_.worker().now(), lasts));
  receiving_ = &pausing;
  pausing_ = true;
  co_await pausing;
  pausing_ = false;
  receiving_ = nullptr;
}

void Http2Session::receive(std::string_view bytes) noexcept {
  const auto* data = reinterpret_cast<const std::uint8_t*>(bytes.data());
  const ssize_t taken = nghttp2_session_mem_recv(session_.get(), data, bytes.size());
  if (taken == static_cast<ssize_t>(bytes.size())) return;
  broken_ = true;
  nghttp2_session_terminate_session(session_.get(),
                                    taken == NGHTTP2_ERR_FLOODED ? NGHTTP2_ENHANCE_YOUR_CALM : NGHTTP2_PROTOCOL_ERROR);
}

Task<void> Http2Session::send_all() {
  while (true) {
    fill_output();
    Bytes& output = connection_.output_;
    const bool speaks = !output.empty() || connection_.must_seal();
    if (speaks && connection_.error_.code == 0) {
      if (connection_.secure_ != nullptr) {
        co_await connection_.send_sealed();
      } else {
        co_await connection_.send_plain(output.view());
        output.clear();
      }
      if (connection_.error_.code != 0) lose();
      continue;
    }
    output.clear();
    station_.give_back(output);
    if (finished()) break;
    // nghttp2 has ended it, and all was said.
    const bool reads = !broken_ && nghttp2_session_want_read(session_.get()) != 0;
    if (!reads && !lost_) {
      lose();
      if (finished()) break;
    }
    co_await Wake(sender_parked_);
  }
  if (receiving_ != nullptr) Worker::cancel(*receiving_);
}

void Http2Session::fill_output() noexcept {
  Bytes& output = connection_.output_;
  while (connection_.error_.code == 0 && output.size() < station_.limits().output_bytes) {
    station_.take_buffer(output);
    const std::uint8_t* data = nullptr;
    const ssize_t size = nghttp2_session_mem_send(session_.get(), &data);
    if (size < 0) lose();
    if (size <= 0) break;
    output.append({reinterpret_cast<const char*>(data), static_cast<std::size_t>(size)});
  }
}

/// Nothing can be received or sent any more.
void Http2Session::lose() noexcept {
  lost_ = true;
  if (connection_.error_.code == 0) connection_.error_ = Error{ECONNRESET, ErrorDomain::system, OpCode::recv};
  streams_.for_each([this](Http2Stream& stream) { closed(stream, NGHTTP2_CONNECT_ERROR); });
  if (receiving_ != nullptr) Worker::cancel(*receiving_);
}

/// GOAWAY, then what is under way, then the end.
void Http2Session::end_politely() noexcept {
  if (std::exchange(ending_, true)) return;
  nghttp2_submit_goaway(session_.get(), NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(session_.get()),
                        NGHTTP2_NO_ERROR, nullptr, 0);
}

void Http2Session::stop() noexcept {
  if (streams_.empty()) {
    end_politely();
  } else {
    give_notice();
  }
  wake_sender();
}

/// Requests may be on their way: the real GOAWAY follows with the next sweep (RFC 9113, 6.8).
void Http2Session::give_notice() noexcept {
  if (!std::exchange(noticed_, true)) nghttp2_submit_shutdown_notice(session_.get());
}

void Http2Session::abandon() noexcept {
  streams_.for_each([this](Http2Stream& stream) {
    if (stream.exchange != nullptr && stream.handled) station_.handler().abandon(*stream.exchange);
  });
  lose();
  wake_sender();
}

void Http2Session::check_deadlines(Instant now) noexcept {
  if (lost_) return;
  if (noticed_ || (streams_.empty() && now >= idle_deadline_)) end_politely();
  watch_rates(now);
  streams_.for_each([this, now](Http2Stream& stream) {
    if (stream.closed) return;
    if (now >= stream.head_deadline) time_out(stream);
    if (stream.skipped && noticed_) linger(stream);  // the server does not stop for that
    if (now >= stream.linger_deadline) {
      stream.linger_deadline = kNever;
      reset(stream.id, NGHTTP2_NO_ERROR);
    }
    if (now >= stream.handler_deadline) {
      stream.handler_deadline = kNever;
      if (stream.exchange != nullptr) station_.handler().expire(*stream.exchange);
    }
    if (now >= stream.examine_at && stream.exchange != nullptr) {
      stream.examine_at = deadline_after(now, now - stream.exchange->began_);
      station_.handler().examine(*stream.exchange);
    }
  });
  wake_sender();
}

/// No other frame can come before a head has ended (RFC 9113, 4.3). A client that takes nothing may do so on one stream
/// and not on others: that costs it the connection only when it has no other.
void Http2Session::time_out(Http2Stream& stream) noexcept {
  if (stream.head_deadline != kNever) end_politely();
  stream.head_deadline = kNever;
  timed_out_ = true;
  reset(stream.id, NGHTTP2_CANCEL);
}

}  // namespace evlua::http
