// Http2Session: a stream's way, from its head to what is left to be sent after its handler.
#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <memory>
#include <utility>

#include "core/worker.h"
#include "net/http/connection.h"
#include "net/http/http2_session.h"
#include "net/http/station.h"
#include "net/http/syntax.h"

namespace evlua::http {

namespace {

constexpr std::uint32_t kResetsMax = 200;  // beyond that, not more than are answered
constexpr std::size_t kSpareStreams = 32;
constexpr std::size_t kOutBytesKept = 16 * 1024;

nghttp2_nv field(std::string_view name, std::string_view value) noexcept {
  return {reinterpret_cast<std::uint8_t*>(const_cast<char*>(name.data())),
          reinterpret_cast<std::uint8_t*>(const_cast<char*>(value.data())), name.size(), value.size(),
          NGHTTP2_NV_FLAG_NONE};
}

/// Fields that speak of an HTTP/1 connection (RFC 9113, 8.2.2).
bool concerns_connection(std::string_view name) noexcept {
  return name == "connection" || name == "keep-alive" || name == "proxy-connection" || name == "upgrade" ||
         name == "transfer-encoding";
}

}  // namespace

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
  nghttp2_data_provider body = body_of(stream);
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
