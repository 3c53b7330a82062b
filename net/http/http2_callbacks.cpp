// Http2Session: what nghttp2 tells it, and asks for.
#include <algorithm>
#include <utility>

#include "core/check.h"
#include "net/http/connection.h"
#include "net/http/http2_session.h"
#include "net/http/station.h"

namespace evlua::http {

namespace {

std::string_view text(const std::uint8_t* bytes, std::size_t size) noexcept {
  return {reinterpret_cast<const char*>(bytes), size};
}

}  // namespace

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
};

const nghttp2_session_callbacks* Http2Session::callbacks() {
  static nghttp2_session_callbacks* const made = [] {
    nghttp2_session_callbacks* callbacks = nullptr;
    EVLUA_CHECK(nghttp2_session_callbacks_new(&callbacks) == 0);
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, Callbacks::begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, Callbacks::header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, Callbacks::frame_received);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, Callbacks::data);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, Callbacks::frame_sent);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, Callbacks::stream_closed);
    nghttp2_session_callbacks_set_send_data_callback(callbacks, Callbacks::send_body);
    return callbacks;
  }();
  return made;
}

const nghttp2_option* Http2Session::options() {
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

nghttp2_data_provider Http2Session::body_of(Http2Stream& stream) noexcept {
  return {{.ptr = &stream}, Callbacks::read_body};
}

}  // namespace evlua::http
