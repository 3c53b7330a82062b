// Http2Session: streams that are too slow. One that a client neglects ends, and the others go on; a client to which the
// socket takes nothing at all loses the connection, which Connection watches.
#include <utility>

#include "core/worker.h"
#include "net/http/connection.h"
#include "net/http/http2_session.h"
#include "net/http/rate_watch.h"
#include "net/http/station.h"

namespace evlua::http {

/// Its handler waits for more of the request's body, and has nothing to read.
bool Http2Session::awaits_body(Http2Stream& stream) noexcept {
  return !stream.closed && stream.exchange != nullptr && stream.handled && stream.exchange->awaits_body();
}

/// There is some of its response that the client does not let go.
bool Http2Session::is_held(const Http2Stream& stream) noexcept {
  return !stream.closed && stream.send_deadline != kNever;
}

/// A client whose window is shut by handlers that do not read, whom we do not read ourselves, or who is given nothing
/// because the socket is full, is not the one we wait for.
void Http2Session::watch_rates(Instant now) noexcept {
  const Limits& limits = station_.limits();
  const Duration passed = now - std::exchange(watched_, now);
  const bool may_send = !pausing_ && nghttp2_session_get_effective_recv_data_length(session_.get()) <
                                         nghttp2_session_get_effective_local_window_size(session_.get());
  const bool may_take = connection_.waiting_ == nullptr;
  std::uint32_t awaited = 0;
  std::uint32_t held = 0;
  streams_.for_each([&awaited, &held](Http2Stream& stream) {
    awaited += awaits_body(stream) ? 1 : 0;
    held += is_held(stream) ? 1 : 0;
  });
  streams_.for_each([&](Http2Stream& stream) {
    if (stream.closed) return;
    const bool waits = awaits_body(stream);
    if (stream.body.is_late(passed, waits && may_send ? awaited : 0, limits.body_timeout, limits.min_rate) && waits) {
      stream.exchange->give_up_body();
    }
    const std::uint32_t holding = is_held(stream) && may_take ? held : 0;
    if (stream.response.is_late(passed, holding, limits.send_timeout, limits.min_rate)) stream.send_deadline = now;
  });
}

}  // namespace evlua::http
