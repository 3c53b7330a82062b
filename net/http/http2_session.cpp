#include "net/http/http2_session.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <utility>

#include "core/check.h"
#include "core/worker.h"
#include "net/http/connection.h"
#include "net/http/station.h"
#include "net/http/syntax.h"

namespace evlua::http {

namespace {

constexpr std::uint32_t kStreamsMax = 128;
constexpr std::uint32_t kStreamWindow = 256 * 1024;
constexpr std::int32_t kConnectionWindow = 1024 * 1024;
constexpr std::uint32_t kExchangesMax = 2 * kStreamsMax;  // streams taken back still keep their handlers
constexpr std::uint32_t kResetsMax = 200;                 // beyond that, not more than are answered
constexpr Duration kPausePerRefusal = 25 * kMillisecond;  // as of six connections of HTTP/1, or so
constexpr std::size_t kSpareStreams = 32;
constexpr std::size_t kOutBytesKept = 16 * 1024;

nghttp2_nv field(std::string_view name, std::string_view value) noexcept {
  return {reinterpret_cast<std::uint8_t*>(const_cast<char*>(name.data())),
          reinterpret_cast<std::uint8_t*>(const_cast<char*>(value.data())), name.size(), value.size(),
          NGHTTP2_NV_FLAG_NONE};
}

std::string_view text(const std::uint8_t* bytes, std::size_t size) noexcept {
  return {reinterpret_cast<const char*>(bytes), size};
}

/// Fields that speak of an HTTP/1 connection (RFC 9113, 8.2.2).
bool concerns_connection(std::string_view name) noexcept {
  return name == "connection" || name == "keep-alive" || name == "proxy-connection" || name == "upgrade" ||
         name == "transfer-encoding";
}

}  // namespace

// -- what nghttp2 tells us ------------------------------------------------------------------------------------------

struct Http2Session::Callbacks {
  static Http2Session& self(void* user) { return *static_cast<Http2Session*>(user); }
  static Http2Stream* stream_of(nghttp2_session* session, std::int32_t id) {
    return static_cast<Http2Stream*>(nghttp2_session_get_stream_user_data(session, id));
  }

  static int begin_headers(nghttp2_session* session, const nghttp2_frame* frame, void* user) {
    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST) return 0;
    Http2Session& own = self(user);
    if (own.exchanges_ >= kExchangesMax) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, &own.open(frame->hd.stream_id));
    return 0;
  }

  static int header(nghttp2_session* session, const nghttp2_frame* frame, const std::uint8_t* name,
                    std::size_t name_size, const std::uint8_t* value, std::size_t value_size, std::uint8_t,
                    void* user) {
    if (frame->hd.type != NGHTTP2_HEADERS) return 0;
    Http2Stream* stream = stream_of(session, frame->hd.stream_id);
    if (stream == nullptr || stream->exchange == nullptr) return 0;
    Exchange& exchange = *stream->exchange;
    if (frame->headers.cat != NGHTTP2_HCAT_REQUEST) {
      const bool fits = exchange.deliver_trailer(text(name, name_size), text(value, value_size));
      return fits ? 0 : NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;  // resets the stream
    }
    exchange.parser_.add_field(exchange.head_bytes_, text(name, name_size), text(value, value_size),
                               self(user).station_.limits());
    return 0;
  }

  static int frame_received(nghttp2_session* session, const nghttp2_frame* frame, void* user) {
    if (frame->hd.type == NGHTTP2_SETTINGS) self(user).look_at_windows();
    if (frame->hd.type == NGHTTP2_WINDOW_UPDATE) window_opened(session, frame->hd.stream_id, user);
    if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA) return 0;
    Http2Stream* stream = stream_of(session, frame->hd.stream_id);
    if (stream == nullptr || stream->exchange == nullptr) return 0;
    const bool ends = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    if (!stream->handled) {
      self(user).answer(*stream, !ends);
    } else if (ends) {
      stream->exchange->deliver({}, true);
    }
    return 0;
  }

  static void window_opened(nghttp2_session* session, std::int32_t id, void* user) {
    Http2Stream* stream = id != 0 ? stream_of(session, id) : nullptr;
    if (stream != nullptr) self(user).look_at_window(*stream);
    if (id == 0 && self(user).shut_) self(user).look_at_windows();
  }

  static int data(nghttp2_session* session, std::uint8_t, std::int32_t id, const std::uint8_t* bytes, std::size_t size,
                  void* user) {
    Http2Stream* stream = stream_of(session, id);
    if (stream != nullptr) {
      stream->body.moved(size);
      if (stream->to_come != Http2Stream::kUnknown) stream->to_come -= std::min<std::uint64_t>(size, stream->to_come);
      self(user).received_ += size;
    }
    if (stream == nullptr || stream->exchange == nullptr || stream->closed) {
      self(user).consume(id, size);  // nobody reads it
    } else {
      stream->exchange->deliver(text(bytes, size), false);
    }
    return 0;
  }

  static int frame_sent(nghttp2_session* session, const nghttp2_frame* frame, void* user) {
    const bool data = frame->hd.type == NGHTTP2_DATA;
    const bool ends = (frame->hd.type == NGHTTP2_HEADERS || data) && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    if (!data && !ends) return 0;
    Http2Session& own = self(user);
    if (data && !own.shut_ && nghttp2_session_get_remote_window_size(session) <= 0) own.look_at_windows();
    Http2Stream* stream = stream_of(session, frame->hd.stream_id);
    if (stream == nullptr) return 0;
    if (!ends) {
      own.look_at_window(*stream);
    } else if (nghttp2_session_get_stream_remote_close(session, stream->id) == 0) {
      // Answered: the rest of the request is of no use (RFC 9113, 8.1). But there are clients, curl for one, to whom a
      // reset that comes at once takes the answer away.
      own.linger(*stream);
    }
    return 0;
  }

  static int stream_closed(nghttp2_session* session, std::int32_t id, std::uint32_t error, void* user) {
    Http2Stream* stream = stream_of(session, id);
    if (stream != nullptr) self(user).closed(*stream, error);
    return 0;
  }

  static ssize_t read_body(nghttp2_session*, std::int32_t, std::uint8_t*, std::size_t size, std::uint32_t* flags,
                           nghttp2_data_source* source, void* user) {
    auto& stream = *static_cast<Http2Stream*>(source->ptr);
    if (stream.out_at == stream.out.size() && !stream.last) self(user).take_output(stream);
    const std::size_t left = stream.out.size() - stream.out_at;
    if (left == 0 && !stream.last) {
      self(user).offer_window(stream);
      return NGHTTP2_ERR_DEFERRED;
    }
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (left <= size && stream.last) *flags |= NGHTTP2_DATA_FLAG_EOF;
    return static_cast<ssize_t>(std::min(left, size));
  }

  static int send_body(nghttp2_session*, nghttp2_frame*, const std::uint8_t* head, std::size_t size,
                       nghttp2_data_source* source, void* user) {
    Http2Session& own = self(user);
    auto& stream = *static_cast<Http2Stream*>(source->ptr);
    Bytes& output = own.connection_.output_;
    if (output.size() >= own.station_.limits().output_bytes) return NGHTTP2_ERR_WOULDBLOCK;
    output.append(text(head, 9));
    output.append(stream.out.view().substr(stream.out_at, size));
    stream.out_at += size;
    stream.response.moved(size);
    own.sent_ += size;
    own.count_output(stream);
    return 0;
  }

  static const nghttp2_session_callbacks* all() {
    static nghttp2_session_callbacks* const made = [] {
      nghttp2_session_callbacks* callbacks = nullptr;
      EVLUA_CHECK(nghttp2_session_callbacks_new(&callbacks) == 0);
      nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, begin_headers);
      nghttp2_session_callbacks_set_on_header_callback(callbacks, header);
      nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, frame_received);
      nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, data);
      nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, frame_sent);
      nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, stream_closed);
      nghttp2_session_callbacks_set_send_data_callback(callbacks, send_body);
      return callbacks;
    }();
    return made;
  }

  static const nghttp2_option* options() {
    static nghttp2_option* const made = [] {
      nghttp2_option* option = nullptr;
      EVLUA_CHECK(nghttp2_option_new(&option) == 0);
      nghttp2_option_set_no_auto_window_update(option, 1);
      nghttp2_option_set_no_closed_streams(option, 1);
      nghttp2_option_set_max_settings(option, 32);
      return option;
    }();
    return made;
  }
};

// -- life -----------------------------------------------------------------------------------------------------------

Http2Session::Http2Session(Connection& connection) noexcept : connection_(connection), station_(connection.station_) {
  nghttp2_session* session = nullptr;
  EVLUA_CHECK(nghttp2_session_server_new2(&session, Callbacks::all(), this, Callbacks::options()) == 0);
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
    bool more = true;
    if (connection_.secure_ != nullptr) {
      more = connection_.decrypt(bytes);
      bytes = connection_.secure_->plain.view();
    }
    if (!bytes.empty() && !lost_) receive(bytes);  // nobody could be answered any more
    if (!more) lose();
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
    output.append(text(data, static_cast<std::size_t>(size)));
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

// -- streams --------------------------------------------------------------------------------------------------------

Http2Stream& Http2Session::open(std::int32_t id) noexcept {
  std::unique_ptr<Http2Stream> made;
  if (spare_streams_.empty()) {
    made = std::make_unique<Http2Stream>();
  } else {
    made = std::move(spare_streams_.back());
    spare_streams_.pop_back();
  }
  Http2Stream& stream = *made.release();
  stream.session = this;
  stream.id = id;
  stream.shut = is_shut(id);
  stream.exchange = station_.take_exchange();
  stream.exchange->begin(connection_, station_.limits(), stream);
  stream.head_deadline = deadline_after(station_.worker().now(), station_.limits().header_timeout);
  stream.body.begin(station_.limits().body_timeout);
  stream.response.begin(station_.limits().send_timeout);
  streams_.push_back(stream);
  ++exchanges_;
  station_.counters().streams.add();
  return stream;
}

/// Both nghttp2 and the handler are done with it.
void Http2Session::release(Http2Stream& stream) noexcept {
  List<Http2Stream>::erase(stream);
  std::unique_ptr<Http2Stream> owned(&stream);
  stream.held.set(connection_.held_output(), 0);
  if (streams_.empty()) {
    const Duration patience = timed_out_ ? 0 : station_.limits().keep_alive_timeout;
    idle_deadline_ = deadline_after(station_.worker().now(), patience);
    spare_streams_.clear();  // an idle connection keeps nothing
  } else if (spare_streams_.size() < kSpareStreams) {
    Bytes kept;
    if (stream.out.capacity() <= kOutBytesKept) kept.swap(stream.out);
    kept.clear();
    std::destroy_at(&stream);
    std::construct_at(&stream)->out.swap(kept);
    spare_streams_.push_back(std::move(owned));
  }
}

/// The exchange goes back to the station; its stream may have bytes to send still.
void Http2Session::recycle_exchange(Http2Stream& stream) noexcept {
  Exchange& exchange = *std::exchange(stream.exchange, nullptr);
  consume(stream.id, exchange.taken_ + exchange.arrived_.size());
  exchange.reset();
  station_.give_back(&exchange);
  stream.handler_deadline = stream.examine_at = kNever;
  --exchanges_;
}

/// Opens the windows for bytes that nobody holds any more.
void Http2Session::consume(std::int32_t id, std::size_t bytes) noexcept {
  if (bytes != 0 && !lost_) nghttp2_session_consume(session_.get(), id, bytes);
}

/// The stream is answered: what still comes is of no use. It is skipped as with HTTP/1: if there is little left, up to
/// its end; else for as long as a closing connection would.
void Http2Session::linger(Http2Stream& stream) noexcept {
  const Limits& limits = station_.limits();
  stream.skipped = stream.to_come <= limits.drain_bytes && !noticed_ && !ending_;
  if (stream.skipped) {
    stream.body.begin(limits.body_timeout);
  } else {
    stream.linger_deadline = deadline_after(station_.worker().now(), limits.linger_timeout);
  }
}

void Http2Session::reset(std::int32_t id, std::uint32_t error) noexcept {
  if (!lost_) nghttp2_submit_rst_stream(session_.get(), NGHTTP2_FLAG_NONE, id, error);
}

void Http2Session::answer(Http2Stream& stream, bool has_body) noexcept {
  Exchange& exchange = *stream.exchange;
  const Limits& limits = station_.limits();
  stream.handled = true;
  stream.head_deadline = kNever;
  const bool good = exchange.parser_.end_fields(exchange.head_bytes_, has_body) == RequestParser::Outcome::complete;
  exchange.start(exchange.head_bytes_.view(), station_.next_id(), true);
  if (has_body && good) stream.to_come = exchange.content_length().value_or(Http2Stream::kUnknown);
  if (!good || !exchange.header("priority")) take_turns(stream);
  if (++connection_.requests_ == limits.requests_per_connection) give_notice();
  bool complete = true;
  if (good) {
    complete = exchange.be_handled_by(station_.handler());
  } else {
    exchange.fail(exchange.parser_.refusal());
  }
  if (complete) {
    given_back(stream);
    return;
  }
  if (station_.observed()) stream.examine_at = deadline_after(exchange.began_, limits.slow_after);
  if (limits.handler_timeout != kNever) {
    stream.handler_deadline = deadline_after(station_.worker().now(), limits.handler_timeout);
  }
}

/// Its client does not say in which order it would like to have what it asks for (RFC 9218). nghttp2 would then send
/// one response after the other: an event stream, or a page, would wait until all of a download is there.
void Http2Session::take_turns(const Http2Stream& stream) noexcept {
  const nghttp2_extpri priority = {.urgency = NGHTTP2_EXTPRI_DEFAULT_URGENCY, .inc = 1};
  nghttp2_session_change_extpri_stream_priority(session_.get(), stream.id, &priority, 0);
}

/// The exchange is ours again.
void Http2Session::given_back(Http2Stream& stream) noexcept {
  Exchange& exchange = *stream.exchange;
  if (!exchange.finished_) static_cast<void>(exchange.finish());
  ++answered_;
  if (exchange.refused_for_now_) ++refusals_;
  if (station_.observed()) tell_end(stream);
  if (stream.closed) {
    recycle_exchange(stream);
    release(stream);
    return;
  }
  if (exchange.cut_) {
    reset(stream.id, NGHTTP2_INTERNAL_ERROR);
  } else {
    speak(stream);
    if (stream.out_at == stream.out.size()) {
      take_output(stream);
    } else {
      stream.out.append(exchange.pending_.view());
      stream.last = true;
      count_output(stream);
    }
  }
  recycle_exchange(stream);
}

void Http2Session::tell_end(Http2Stream& stream) noexcept {
  ExchangeEnd end;
  end.aborted = stream.closed || stream.exchange->cut_;
  station_.exchange_ended(*stream.exchange, end);
}

/// What the handler has written becomes what is sent, and it may write on.
void Http2Session::take_output(Http2Stream& stream) noexcept {
  if (stream.exchange == nullptr) return;
  Exchange& exchange = *stream.exchange;
  stream.out.clear();
  stream.out_at = 0;
  exchange.lock_.lock();
  stream.out.swap(exchange.pending_);
  stream.last = exchange.output_ended_;
  exchange.sending_ = !stream.out.empty();
  exchange.count_pending();
  const bool wake = std::exchange(exchange.waiting_, false);
  exchange.lock_.unlock();
  count_output(stream);
  if (wake) exchange.drained_.set();
}

/// As Exchange::count_pending. It is held until all of it has gone.
void Http2Session::count_output(Http2Stream& stream) noexcept {
  const bool counts = (stream.shut || stream.last) && stream.out_at != stream.out.size();
  stream.held.set(connection_.held_output(), counts ? stream.out.size() : 0);
}

bool Http2Session::is_shut(std::int32_t id) const noexcept {
  return shut_ || nghttp2_session_get_stream_remote_window_size(session_.get(), id) <= 0;
}

/// Something was sent, or the client has opened a window.
void Http2Session::look_at_window(Http2Stream& stream) noexcept {
  if (stream.closed || stream.shut == is_shut(stream.id)) return;
  stream.shut = !stream.shut;
  if (stream.exchange != nullptr) stream.exchange->set_shut(stream.shut);
  const bool all_gone = stream.out_at == stream.out.size();
  if (all_gone && stream.shut && !connection_.held_output().fits(0, station_.limits().output_bytes)) {
    stream.out.release();  // it may stay shut for long
    stream.out_at = 0;
  }
  count_output(stream);
}

void Http2Session::look_at_windows() noexcept {
  shut_ = nghttp2_session_get_remote_window_size(session_.get()) <= 0;
  streams_.for_each([this](Http2Stream& stream) { look_at_window(stream); });
}

/// Asked for more of the body than there is: how much the windows let through.
void Http2Session::offer_window(Http2Stream& stream) noexcept {
  if (stream.exchange == nullptr) return;
  const std::int32_t own = nghttp2_session_get_stream_remote_window_size(session_.get(), stream.id);
  const std::int32_t all = nghttp2_session_get_remote_window_size(session_.get());
  stream.exchange->offer_window(static_cast<std::size_t>(std::max(std::min(own, all), 1)));
}

/// Sends the head of the response if it was not sent yet, or goes on sending its body.
void Http2Session::speak(Http2Stream& stream) noexcept {
  if (stream.submitted) {
    nghttp2_session_resume_data(session_.get(), stream.id);
    return;
  }
  stream.submitted = true;
  take_output(stream);
  const Exchange& exchange = *stream.exchange;
  nghttp2_data_provider body = {{.ptr = &stream}, Callbacks::read_body};
  const bool none = stream.last && stream.out.empty();
  std::array<char, 3> status{};
  std::array<char, 20> length{};
  std::to_chars(status.data(), status.data() + status.size(), exchange.status());
  fields_.clear();
  names_.clear();
  names_.reserve(exchange.response_.name_bytes());  // views of it stay good
  fields_.push_back(field(":status", {status.data(), status.size()}));
  if (exchange.announced_length_) {
    const char* end = std::to_chars(length.data(), length.data() + length.size(), *exchange.announced_length_).ptr;
    fields_.push_back(field("content-length", {length.data(), static_cast<std::size_t>(end - length.data())}));
  }
  exchange.response_.for_each_field([this](std::string_view name, std::string_view value) {
    char* lower = names_.reserve(name.size());
    for (std::size_t i = 0; i < name.size(); ++i) lower[i] = to_lower(name[i]);
    names_.commit(name.size());
    const std::string_view known(lower, name.size());
    if (!concerns_connection(known)) fields_.push_back(field(known, value));
  });
  const int submitted =
      nghttp2_submit_response(session_.get(), stream.id, fields_.data(), fields_.size(), none ? nullptr : &body);
  if (submitted != 0) reset(stream.id, NGHTTP2_INTERNAL_ERROR);
}

/// nghttp2 knows the stream no more.
void Http2Session::closed(Http2Stream& stream, std::uint32_t error) noexcept {
  if (std::exchange(stream.closed, true)) return;
  if (!lost_) nghttp2_session_set_stream_user_data(session_.get(), stream.id, nullptr);
  if (stream.exchange != nullptr && stream.handled) {
    stream.exchange->break_off(Error{ECONNRESET, ErrorDomain::system, OpCode::send});
    // Clients that take back what they ask for, faster than it can be answered, keep us busy for nothing, whatever they
    // say.
    const bool whole = stream.submitted && stream.last && stream.out_at == stream.out.size();
    if ((error != NGHTTP2_NO_ERROR || !whole) && ++resets_ > kResetsMax && resets_ > answered_ && !lost_) {
      nghttp2_session_terminate_session(session_.get(), NGHTTP2_ENHANCE_YOUR_CALM);
    }
    stream.out.release();
    stream.out_at = 0;
    count_output(stream);
    return;
  }
  if (stream.exchange != nullptr) recycle_exchange(stream);
  release(stream);
}

void Http2Session::handler_spoke(Runnable& node) noexcept {
  Exchange& exchange = *static_cast<Exchange::Node&>(node).exchange;
  Http2Stream& stream = *exchange.stream_;
  Http2Session& self = *stream.session;
  const std::uint8_t bits = exchange.take_bits();
  if ((bits & Exchange::kDone) != 0) {
    self.given_back(stream);
  } else if (!stream.closed) {
    exchange.lock_.lock();
    const std::size_t taken = std::exchange(exchange.taken_, 0);
    const bool head_ready = exchange.head_ready_;
    exchange.lock_.unlock();
    self.consume(stream.id, taken);
    if (head_ready) {
      self.speak(stream);
    } else if ((bits & Exchange::kContinue) != 0) {
      const nghttp2_nv status = field(":status", "100");
      nghttp2_submit_headers(self.session_.get(), NGHTTP2_FLAG_NONE, stream.id, nullptr, &status, 1, nullptr);
    }
  }
  self.wake_sender();
}

}  // namespace evlua::http
