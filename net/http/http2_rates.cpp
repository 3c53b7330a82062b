// Http2Session: streams that are too slow. One that a client neglects ends, and the others go on; a client to which the
// socket takes nothing at all loses the connection, which Connection watches.
#include <utility>

#include "core/worker.h"
#include "net/http/connection.h"
#include "net/http/http2_session.h"
#include "net/http/rate_watch.h"
#include "net/http/station.h"

namespace evlua::http {

/// Its handler waits for more of the request's body, and has nothing to read; or nobody does any more, and it is
/// skipped.
bool Http2Session::awaits_body(Http2Stream& stream) noexcept {
  if (stream.closed || stream.exchange == nullptr) return stream.skipped && !stream.closed;
  return stream.handled && stream.exchange->awaits_body();
}

void Http2Session::give_up_body(Http2Stream& stream) noexcept {
  if (stream.exchange != nullptr) return stream.exchange->give_up_body();
  stream.skipped = false;
  reset(stream.id, NGHTTP2_NO_ERROR);
}

/// Why some of a response is not on its way.
enum class Http2Session::Holdup : std::uint8_t {
  none,        // or it is none of the client's doing
  stream,      // the client takes no more of this one
  connection,  // the client takes no more of anything; when it does, others may be first
};

Http2Session::Holdup Http2Session::holdup(const Http2Stream& stream) const noexcept {
  if (stream.closed || !stream.submitted) return Holdup::none;
  Exchange* exchange = stream.exchange;
  const bool more = exchange != nullptr && (exchange->has_output() || exchange->awaits_window());
  if (!more && stream.out_at == stream.out.size()) return Holdup::none;
  if (nghttp2_session_get_stream_remote_window_size(session_.get(), stream.id) <= 0) return Holdup::stream;
  return nghttp2_session_get_remote_window_size(session_.get()) <= 0 ? Holdup::connection : Holdup::none;
}

void Http2Session::watch_rates(Instant now) noexcept {
  const Duration passed = now - std::exchange(watched_, now);
  watch_bodies(passed);
  watch_responses(passed);
}

/// A client whose window is shut by handlers that do not read, or whom we do not read ourselves, is not the one we wait
/// for. One who sends other streams first, as it may, is fast enough if those are.
void Http2Session::watch_bodies(Duration passed) noexcept {
  const Limits& limits = station_.limits();
  const std::uint64_t received = std::exchange(received_, 0);
  const bool may_send = !pausing_ && nghttp2_session_get_effective_recv_data_length(session_.get()) <
                                         nghttp2_session_get_effective_local_window_size(session_.get());
  std::uint32_t awaited = 0;
  streams_.for_each([&awaited](Http2Stream& stream) { awaited += awaits_body(stream) ? 1 : 0; });
  streams_.for_each([&](Http2Stream& stream) {
    if (stream.closed) return;
    const bool waits = awaits_body(stream);
    const bool counts = waits && may_send;
    const bool late = counts && !stream.body.has_moved()
                          ? stream.body.is_late_in_line(passed, received, limits.body_timeout, limits.min_rate)
                          : stream.body.is_late(passed, counts ? awaited : 0, limits.body_timeout, limits.min_rate);
    if (late && waits) give_up_body(stream);
  });
}

/// A client who is given nothing because the socket is full is watched by Connection. One who takes other streams
/// first, as it may, is fast enough if those are.
void Http2Session::watch_responses(Duration passed) noexcept {
  const Limits& limits = station_.limits();
  const std::uint64_t sent = std::exchange(sent_, 0);
  const bool may_take = connection_.waiting_ == nullptr;
  std::uint32_t held = 0;
  streams_.for_each([&](Http2Stream& stream) { held += holdup(stream) != Holdup::none ? 1 : 0; });
  streams_.for_each([&](Http2Stream& stream) {
    if (stream.closed) return;
    const Holdup why = may_take ? holdup(stream) : Holdup::none;
    const bool late =
        why == Holdup::connection
            ? stream.response.is_late_in_line(passed, sent, limits.send_timeout, limits.min_rate)
            : stream.response.is_late(passed, why == Holdup::stream ? held : 0, limits.send_timeout, limits.min_rate);
    if (late) time_out(stream);
  });
}

}  // namespace evlua::http
