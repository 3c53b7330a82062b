// The handler's side of an exchange: reading the body of the request.
#include <algorithm>
#include <cerrno>
#include <utility>

#include "core/give_way.h"
#include "core/io_await.h"
#include "core/log.h"
#include "core/seldom.h"
#include "core/worker.h"
#include "net/http/body_memory.h"
#include "net/http/connection.h"
#include "net/http/exchange.h"

namespace evlua::http {

namespace {

/// Of a body, before others have their turn.
constexpr std::size_t kDecodedInOneGo = 256 * 1024;

}  // namespace

std::optional<std::uint64_t> Exchange::content_length() const noexcept {
  const BodyKind kind = parser_.body_kind();
  if (kind == BodyKind::chunked || (kind == BodyKind::stream && !parser_.has_content_length())) return std::nullopt;
  return parser_.content_length();
}

bool Exchange::try_read_body(std::size_t max, Result<std::string_view>& out) noexcept {
  switch (body_form()) {
    case BodyForm::encoded: return next_decoded(max, out);
    case BodyForm::unreadable: out = evlua::fail(EINVAL, OpCode::protocol); return true;
    case BodyForm::undecided:
    case BodyForm::plain: break;
  }
  return next_piece(max, out);
}

Task<Result<std::string_view>> Exchange::read_body(std::size_t max, Instant deadline) {
  defer();
  Result<std::string_view> piece;
  while (!try_read_body(max, piece)) {
    if (continue_wanted_) send_continue();
    const Instant began = Worker::current().now();
    // Streams are watched by their session, which knows what comes on the others.
    const Instant idle_until = stream_ == nullptr ? deadline_after(began, patience_.left()) : kNever;
    const Result<void> received = co_await receive(std::min(deadline, idle_until));
    if (stream_ == nullptr) {
      patience_.spend(Worker::current().now() - began, received ? connection_->input().size() : 0,
                      limits_->body_timeout, limits_->min_rate);
    }
    if (!received) {
      const Error error = received.error();
      // A caller's own deadline or cancellation leaves the body readable.
      const bool given_up = stream_ != nullptr ? error.op == OpCode::recv : idle_until <= deadline;
      const bool own_limit = error.is(ETIMEDOUT) && given_up;
      if (own_limit || (!error.is(ETIMEDOUT) && !error.is(ECANCELED))) body_broken_ = true;
      if (body_broken_) {
        keep_alive_ = false;
        body_refusal_ = own_limit ? 408 : 400;
      }
      co_return evlua::fail(error);
    }
  }
  co_return piece;
}

Task<Result<std::string>> Exchange::read_whole_body(std::size_t max, Instant deadline) {
  defer();
  std::string body;
  const bool plain = body_form() == BodyForm::plain;
  if (plain && parser_.body_kind() == BodyKind::length) {
    if (body_remaining_ > max) {
      body_refusal_ = 413;
      co_return evlua::fail(Errc::too_large, OpCode::recv);
    }
    body.reserve(std::min<std::size_t>(static_cast<std::size_t>(body_remaining_), kSliceBytes));
  }
  std::size_t rest_at = kDecodedInOneGo;
  std::size_t held = 0;
  BodyMemory memory(sharing_network(), connection_->body_allowance());
  while (true) {
    Result<std::string_view> piece;
    if (!try_read_body(kSliceBytes, piece)) {
      // What waits for nothing needs no room: it has been received already.
      if (!hold(memory, body.size() - held)) co_return evlua::fail(ENOMEM, OpCode::recv);
      held = body.size();
      piece = co_await read_body(kSliceBytes, deadline);
    }
    if (!piece) co_return evlua::fail(piece.error());
    if (piece->empty()) break;
    if (body.size() + piece->size() > max) {
      body_refusal_ = 413;
      co_return evlua::fail(Errc::too_large, OpCode::recv);
    }
    body.append(*piece);
    if (plain) continue;
    // It need not wait for anything: a few bytes may become many, and keep it busy for long.
    if (!hold(memory, body.size() - held)) co_return evlua::fail(ENOMEM, OpCode::recv);
    held = body.size();
    if (body.size() < rest_at) continue;
    rest_at = body.size() + kDecodedInOneGo;
    GiveWay others;
    co_await others;
    TaskContext& context = co_await current_context();
    const Result<void> wanted = check_stop(context, deadline, OpCode::recv);
    if (!wanted) co_return evlua::fail(wanted.error());
  }
  co_return body;
}

/// Some more of a body that is gathered. False: there is no room for it.
bool Exchange::hold(BodyMemory& memory, std::size_t bytes) {
  const BodyMemory::Outcome outcome = memory.hold(bytes, limits_->body_memory_bytes, limits_->body_memory_per_address);
  if (outcome == BodyMemory::Outcome::held) return true;
  body_refusal_ = 503;
  keep_alive_ = false;
  if (outcome == BodyMemory::Outcome::over_share) tell_over_share();
  return false;
}

void Exchange::tell_over_share() {
  static Seldom told;
  if (!told.due(Worker::current().now())) return;
  Log::warn("bodies from %s take more memory than a client has; see --max-body-memory-per-address", client().c_str());
}

bool Exchange::next_piece(std::size_t max, Result<std::string_view>& out) noexcept {
  out = std::string_view();
  if (body_broken_) {
    out = evlua::fail(EPROTO, OpCode::protocol);
    return true;
  }
  if (body_ended_) return true;
  if (stream_ != nullptr) return next_of_stream(max, out);
  std::string_view& input = connection_->input();
  if (parser_.body_kind() == BodyKind::length) {
    if (input.empty()) return false;
    const std::uint64_t most = std::min<std::uint64_t>({body_remaining_, max, input.size()});
    out = input.substr(0, static_cast<std::size_t>(most));
    input.remove_prefix(static_cast<std::size_t>(most));
    body_remaining_ -= most;
    body_ended_ = body_remaining_ == 0;
    continue_wanted_ = false;  // who sends some of it sends it all
    return true;
  }
  std::string_view piece;
  switch (chunked_.decode(input, max, *limits_, piece)) {
    case ChunkedDecoder::Outcome::more: return false;
    case ChunkedDecoder::Outcome::data:
      out = piece;
      continue_wanted_ = false;
      return true;
    case ChunkedDecoder::Outcome::end: end_chunked(); return true;
    case ChunkedDecoder::Outcome::invalid: break;
  }
  body_broken_ = true;
  body_refusal_ = 400;
  keep_alive_ = false;
  out = evlua::fail(EPROTO, OpCode::protocol);
  return true;
}

bool Exchange::next_of_stream(std::size_t max, Result<std::string_view>& out) noexcept {
  if (input_.empty() && !take_arrived()) {
    body_ended_ = input_last_;
    return body_ended_;
  }
  const std::string_view piece = input_.substr(0, max);
  input_.remove_prefix(piece.size());
  out = piece;
  return true;
}

void Exchange::end_chunked() noexcept {
  body_ended_ = true;
  if (chunked_.trailer_section().empty()) return;
  trailers_ = std::make_unique<Trailers>();
  trailers_->add_section(chunked_.trailer_section());
}

/// The next bytes of the connection.
Task<Result<void>> Exchange::receive(Instant deadline) {
  if (fed_) {
    const Result<void> delivered = co_await await_delivery(deadline);
    co_return delivered;
  }
  RecvAwait receiving(connection_->fd());
  receiving.until(deadline);
  Result<Lease> received = co_await receiving;
  if (!received) co_return evlua::fail(received.error());
  if (received->empty()) co_return evlua::fail(ECONNRESET, OpCode::recv);
  received_bytes_ += received->size();
  connection_->take_input(std::move(*received));
  co_return Result<void>();
}

void Exchange::send_continue() noexcept {
  continue_wanted_ = false;
  if (headers_sent_) return;
  if (stream_ != nullptr) {
    notify(kContinue);
    return;
  }
  lock_output().append("HTTP/1.1 100 Continue\r\n\r\n");
  unlock_output();
  notify(kOutput);
}

}  // namespace evlua::http
