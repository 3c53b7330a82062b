// The handler's side of an exchange: the response, whole or as a stream.
#include <algorithm>
#include <cerrno>
#include <charconv>
#include <utility>

#include "core/check.h"
#include "net/http/connection.h"
#include "net/http/exchange.h"

namespace evlua::http {

namespace {

constexpr std::size_t kLeastPiece = 4 * 1024;  // for a window of a few bytes

}  // namespace

Result<void> Exchange::set_status(int status, std::string_view reason) {
  if (headers_sent_) return evlua::fail(EALREADY, OpCode::protocol);
  return response_.set_status(status, reason);
}

Result<void> Exchange::set_header(std::string_view name, std::string_view value) {
  if (headers_sent_) return evlua::fail(EALREADY, OpCode::protocol);
  return response_.set(name, value);
}

Result<void> Exchange::add_header(std::string_view name, std::string_view value) {
  if (headers_sent_) return evlua::fail(EALREADY, OpCode::protocol);
  return response_.add(name, value);
}

Result<void> Exchange::remove_header(std::string_view name) {
  if (headers_sent_) return evlua::fail(EALREADY, OpCode::protocol);
  response_.remove(name);
  return {};
}

Result<void> Exchange::send(std::string_view body) { return send_whole(body, true); }

Result<void> Exchange::send_whole(std::string_view body, bool length_known) {
  if (headers_sent_) return evlua::fail(EALREADY, OpCode::protocol);
  if (deferred_) {
    const Result<void> writable = check_writable();
    if (!writable) return writable;
  }
  const bool with_body = sends_body();
  const std::optional<std::uint64_t> declared = response_.content_length();
  if (with_body && declared && *declared != body.size()) return evlua::fail(EMSGSIZE, OpCode::protocol);
  static thread_local Bytes packed;
  packed.clear();
  body = encode_whole(body, packed);
  const bool empty_by_rule = status() == 205;  // and must say so, unlike 204 (RFC 9110 15.3.6)
  const bool speaks_of_length =
      status_has_body(status()) ? length_known || declared : empty_by_rule || (status() == 304 && declared);
  const Framing framing = speaks_of_length ? Framing::length : Framing::none;
  const std::uint64_t length = empty_by_rule ? 0 : declared.value_or(body.size());
  if (!with_body) body = {};
  body_bytes_ = body.size();
  headers_sent_ = finished_ = true;
  if (stream_ != nullptr) {
    if (framing == Framing::length) announced_length_ = length;
    lock_output().append(body);
    unlock_output();
    end_output();
    return {};
  }
  const ResponseHead::Persistence lasting = persistence(framing);
  Bytes& out = lock_output();
  response_.write_to(out, framing, length, lasting, body.size());
  out.append(body);
  unlock_output();
  notify(kOutput);
  return {};
}

/// As long as its client's window is open a body has what a stream has.
bool Exchange::is_sent_as_taken(std::size_t size) noexcept {
  if (stream_ == nullptr || headers_sent_ || size <= HeldOutput::kFree || !sends_body()) return false;
  if (response_.content_length().value_or(size) != size) return false;
  lock_.lock();
  const bool much = shut_ || size > limits_->output_bytes;
  lock_.unlock();
  return much && !connection_->held_output().fits(size, limits_->output_bytes);
}

Task<Result<void>> Exchange::send_as_taken(std::string_view body) {
  Bytes packed;
  body = encode_whole(body, packed);
  const Result<void> sent = co_await write_whole(body);
  co_return sent;
}

/// As it is.
Task<Result<void>> Exchange::write_whole(std::string_view body) {
  static_cast<void>(response_.set("Content-Length", std::to_string(body.size())));
  const Result<void> written = co_await write(body);
  if (!written && !broken()) co_return written;
  static_cast<void>(finish());
  co_return Result<void>();
}

bool Exchange::attach(std::unique_ptr<FileBody>& body) {
  if (stream_ != nullptr || headers_sent_ || !sends_body()) return false;
  headers_sent_ = finished_ = true;
  framing_ = Framing::length;
  const ResponseHead::Persistence lasting = persistence(framing_);
  response_.write_to(lock_output(), framing_, body->size(), lasting, 0);
  unlock_output();
  attached_ = std::move(body);
  notify(kOutput);
  return true;
}

Task<Result<void>> Exchange::write(std::string_view chunk, Instant deadline) {
  defer();
  const Result<void> prepared = prepare_write(chunk);
  if (!prepared) co_return prepared;
  const bool in_turns = coding_ && chunk.size() > kPackedInOneGo;
  while (!chunk.empty()) {
    if (in_turns) {
      const Result<void> turn = co_await turn_to_compress(deadline);
      if (!turn) co_return turn;
    }
    const Result<void> writable = check_writable();  // others may have finished it meanwhile
    if (!writable) co_return writable;
    const std::string_view slice = chunk.substr(0, most_at_once());
    chunk.remove_prefix(slice.size());
    append_output(slice, chunk.empty());
    const Result<void> drained = co_await wait_below(limits_->output_bytes, deadline);
    if (!drained) co_return drained;
  }
  co_return Result<void>();
}

/// Something has to be there for the window to open for.
std::size_t Exchange::most_at_once() noexcept {
  lock_.lock();
  const bool held_back = is_held_back();
  lock_.unlock();
  if (held_back) return HeldOutput::kFree;
  return coding_ ? kPackedInOneGo : kSliceBytes;
}

Task<Result<void>> Exchange::write_on(std::string_view chunk) {
  const Result<void> prepared = prepare_write(chunk);
  if (!prepared) co_return prepared;
  append_output(chunk, false);
  const Result<void> drained = co_await wait_below(limits_->output_bytes, kNever);
  co_return drained;
}

Task<Result<std::size_t>> Exchange::room() {
  std::size_t most = coding_ ? kPackedInOneGo : kSliceBytes;
  if (stream_ != nullptr) {
    const Result<std::size_t> window = co_await await_window();
    if (!window) co_return window;
    most = std::clamp(*window, kLeastPiece, most);
  }
  if (coding_) {
    const Result<void> turn = co_await turn_to_compress(kNever);
    if (!turn) co_return evlua::fail(turn.error());
  }
  const Result<void> writable = check_writable();
  if (!writable) co_return evlua::fail(writable.error());
  co_return most;
}

bool Exchange::try_write(std::string_view chunk, Result<void>& out) noexcept {
  EVLUA_DCHECK(deferred_);
  lock_.lock();
  const std::size_t most = is_held_back() ? HeldOutput::kFree : limits_->output_bytes;
  const bool full = pending_.size() + chunk.size() >= most && error_.code == 0;
  lock_.unlock();
  if (full) return false;
  out = prepare_write(chunk);
  if (out && !chunk.empty()) append_output(chunk, true);
  return true;
}

Task<Result<void>> Exchange::flush(Instant deadline) {
  defer();
  notify(kOutput);
  const Result<void> drained = co_await wait_below(1, deadline);
  co_return drained;
}

Result<void> Exchange::finish() {
  if (finished_) return {};
  if (!headers_sent_) {
    // Nothing was said about the length of what a GET would have got.
    Result<void> sent = send_whole({}, !is_head());
    if (!sent && sent.error().is(EMSGSIZE)) fail(500);  // a length was promised and nothing written
    finished_ = true;
    return sent;
  }
  finished_ = true;
  if (framing_ == Framing::length && response_remaining_ > 0 && sends_body()) {
    cut();
    return evlua::fail(EMSGSIZE, OpCode::protocol);
  }
  if (coding_) {
    const std::string_view rest = pack({}, Compressor::Then::end);
    append_chunk(lock_output(), rest);
    unlock_output();
    end_compression();
  }
  if (stream_ != nullptr) {
    end_output();
  } else if (framing_ == Framing::chunked) {
    lock_output().append("0\r\n\r\n");
    unlock_output();
    notify(kOutput);
  }
  return {};
}

void Exchange::fail(int status) noexcept { send_failure(status, false); }

void Exchange::fail_for_now() noexcept {
  refused_for_now_ = true;
  send_failure(503, true);
}

void Exchange::send_failure(int status, bool for_now) noexcept {
  if (finished_) return;
  if (headers_sent_ && is_head()) {  // it is whole
    static_cast<void>(finish());
    return;
  }
  if (headers_sent_) {
    cut();
    return;
  }
  response_.reset();
  if (limits_->request_ids != RequestIds::off) announce_id();
  static_cast<void>(response_.set_status(status));
  static_cast<void>(response_.set("Content-Type", "text/plain; charset=utf-8"));
  if (for_now) static_cast<void>(response_.set("Retry-After", "1"));
  std::string text(reason_phrase(status));
  text += '\n';
  if (!send(text)) finished_ = true;
}

/// Decides whether another request may follow this response, now that its head is about to be written.
ResponseHead::Persistence Exchange::persistence(Framing framing) noexcept {
  if (stream_ != nullptr) return ResponseHead::Persistence::implied;
  const bool last = response_.asks_close() || framing == Framing::close || body_broken_ || connection_->stopping();
  if (last) keep_alive_ = false;
  if (!body_ended_ && keep_alive_) {
    // A client that waits for "100 Continue" may or may not send its body now: nothing can follow safely. A handler
    // that streams may still read.
    const bool unread = finished_ && parser_.body_kind() == BodyKind::length;
    if (continue_wanted_ || (unread && body_remaining_ > limits_->drain_bytes)) keep_alive_ = false;
  }
  if (!keep_alive_) return ResponseHead::Persistence::close;
  return version_minor() == 0 ? ResponseHead::Persistence::keep_alive : ResponseHead::Persistence::implied;
}

Result<void> Exchange::check_writable() noexcept {
  if (finished_) return evlua::fail(EALREADY, OpCode::protocol);
  if (!deferred_) return {};
  lock_.lock();
  const Error error = error_;
  lock_.unlock();
  if (error.code != 0) return evlua::fail(error);
  return {};
}

void Exchange::start_stream() noexcept {
  const std::optional<std::uint64_t> declared = status() == 205 ? 0 : response_.content_length();
  framing_ = Framing::none;
  if (declared && status() != 204) {
    framing_ = Framing::length;
  } else if (sends_body()) {
    framing_ = version_minor() == 0 ? Framing::close : Framing::chunked;
  }
  response_remaining_ = declared.value_or(0);
  if (stream_ != nullptr) {
    headers_sent_ = true;
    if (framing_ == Framing::length) announced_length_ = response_remaining_;
    static_cast<void>(lock_output());
    head_ready_ = true;
    unlock_output();
    return;
  }
  const ResponseHead::Persistence lasting = persistence(framing_);
  response_.write_to(lock_output(), framing_, response_remaining_, lasting, 0);
  unlock_output();
  headers_sent_ = true;
}

/// What a write does before it appends: checks, and the head when it has not been sent.
Result<void> Exchange::prepare_write(std::string_view& chunk) noexcept {
  Result<void> writable = check_writable();
  if (!writable) return writable;
  if (!headers_sent_) {
    if (!response_.content_length() && may_be_encoded(limits_->compress_from)) begin_compression();
    start_stream();
    notify(kOutput);
  }
  // Whoever asks for the head has got it, and is gone for all that a handler without end needs to know.
  if (is_head() && !chunk.empty()) return evlua::fail(EPIPE, OpCode::send);
  if (!sends_body()) chunk = {};
  if (framing_ == Framing::length && sends_body()) {
    if (chunk.size() > response_remaining_) return evlua::fail(EMSGSIZE, OpCode::protocol);
    response_remaining_ -= chunk.size();
  }
  return {};
}

/// A piece of what is written, compressed if need be. `last`: the client can read everything so far.
void Exchange::append_output(std::string_view piece, bool last) noexcept {
  if (coding_) piece = pack(piece, last ? Compressor::Then::flush : Compressor::Then::go_on);
  lock_.lock();
  if (error_.code == 0 && !piece.empty()) append_chunk(pending_, piece);
  count_pending();
  lock_.unlock();
  notify(kOutput);
}

void Exchange::append_chunk(Bytes& out, std::string_view chunk) noexcept {
  body_bytes_ += chunk.size();
  if (framing_ != Framing::chunked) {
    out.append(chunk);
    return;
  }
  char* to = out.reserve(16 + 2 + chunk.size() + 2);
  char* const from = to;
  to = std::to_chars(to, to + 16, chunk.size(), 16).ptr;
  *to++ = '\r';
  *to++ = '\n';
  to = std::copy(chunk.begin(), chunk.end(), to);
  *to++ = '\r';
  *to++ = '\n';
  out.commit(static_cast<std::size_t>(to - from));
}

void Exchange::cut() noexcept {
  finished_ = cut_ = true;
  keep_alive_ = false;
}

}  // namespace evlua::http
