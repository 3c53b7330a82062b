// The handler's side of an exchange.
//
// Until defer(), everything happens on the connection's worker, and output goes straight into the connection's buffer
// behind the responses of earlier pipelined requests. After defer() the handler may be on any thread: output goes into
// `pending_` under `lock_`, and one node tells the connection's task, on its own worker, that there is some (kOutput)
// or that the exchange is its own again (kDone). Only the connection's task sends. Body bytes are received by the
// handler's side itself, since nobody else receives meanwhile.
#include "net/http/exchange.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <utility>

#include "core/give_way.h"
#include "core/io_await.h"
#include "core/log.h"
#include "core/seldom.h"
#include "core/worker.h"
#include "net/http/body_memory.h"
#include "net/http/connection.h"
#include "net/http/http2_session.h"
#include "net/http/media_types.h"
#include "net/http/station.h"
#include "net/http/syntax.h"

namespace evlua::http {

namespace {

constexpr std::size_t kPendingBytesKept = 16 * 1024;
constexpr std::size_t kHeadBytesKept = 4 * 1024;
constexpr std::size_t kRequestIdMax = 128;

/// What may go into logs, and to others, as it is.
bool is_request_id(std::string_view text) noexcept {
  const auto is_good = [](char byte) {
    return is_digit(byte) || (to_lower(byte) >= 'a' && to_lower(byte) <= 'z') ||
           (byte != 0 && std::strchr("-_.:+/=@", byte) != nullptr);
  };
  return !text.empty() && text.size() <= kRequestIdMax && std::all_of(text.begin(), text.end(), is_good);
}
/// Of a body, before others have their turn.
constexpr std::size_t kDecodedInOneGo = 256 * 1024;
constexpr std::size_t kLeastPiece = 4 * 1024;  // for a window of a few bytes

}  // namespace

// -- life -------------------------------------------------------------------------------------------------------------

void Exchange::begin(Connection& connection, const Limits& limits) noexcept {
  connection_ = &connection;
  limits_ = &limits;
  node_.exchange = this;
  node_.run = Connection::handler_spoke;
}

void Exchange::begin(Connection& connection, const Limits& limits, Http2Stream& stream) noexcept {
  begin(connection, limits);
  stream_ = &stream;
  node_.run = Http2Session::handler_spoke;
}

void Exchange::start(std::string_view head, std::uint64_t id, bool may_persist) noexcept {
  head_ = head;
  id_ = id;
  user = nullptr;
  keep_alive_ = may_persist && parser_.keep_alive();
  const BodyKind kind = parser_.body_kind();
  body_ended_ = kind == BodyKind::none;
  body_remaining_ = parser_.content_length();
  continue_wanted_ = !body_ended_ && parser_.expects_continue();
  patience_.refill(limits_->body_timeout);
  fed_ = stream_ != nullptr || connection_->tls() != nullptr;
  began_ = connection_->clock();
  came_ = connection_->came();
  if (limits_->request_ids != RequestIds::off) announce_id();
}

void Exchange::reset() noexcept {
  if (parser_.body_kind() == BodyKind::chunked) chunked_.reset();
  parser_.reset();
  response_.reset();
  head_ = {};
  head_bytes_.capacity() > kHeadBytesKept ? head_bytes_.release() : head_bytes_.clear();
  refused_for_now_ = false;
  headers_sent_ = finished_ = cut_ = body_broken_ = continue_wanted_ = false;
  body_ended_ = true;
  body_refusal_ = 0;
  attached_.reset();
  body_bytes_ = received_bytes_ = 0;
  trace_.span = 0;
  if (client_ != nullptr) client_.reset();
  may_compress_ = decode_wanted_ = true;
  body_form_ = BodyForm::undecided;
  if (decoding_ != nullptr) decoding_.reset();
  if (trailers_ != nullptr) trailers_.reset();
  if (coding_) end_compression();
  place_.leave();
  if (stream_ != nullptr) reset_stream();
  if (!deferred_) return;
  pending_.capacity() > kPendingBytesKept ? pending_.release() : pending_.clear();
  deferred_ = sending_ = waiting_ = given_back_ = false;
  error_ = Error();
  drained_.reset();
  delivered_ = false;
  arrived_.release();
  delivery_ = {};
  delivered_event_.reset();
}

void Exchange::reset_stream() noexcept {
  stream_ = nullptr;
  input_ = {};
  input_bytes_.release();
  pending_.clear();
  arrived_.release();
  input_last_ = arrived_last_ = output_ended_ = head_ready_ = false;
  announced_length_.reset();
  taken_ = window_ = 0;
  window_awaited_ = false;
}

void Exchange::defer() noexcept {
  if (deferred_) return;
  deferred_ = true;
  if (stream_ != nullptr) return;  // all it has is its own
  if (decoding_ != nullptr) keep_undecoded();
  // The receive buffer goes back; the handler may take its time.
  if (head_.data() != head_bytes_.data()) {
    head_bytes_.clear();
    head_bytes_.append(head_);
    head_ = head_bytes_.view();
  }
  connection_->release_consumed_input();
}

void Exchange::complete() noexcept {
  defer();
  static_cast<void>(finish());
  notify(kDone);
}

bool Exchange::be_handled_by(Handler& handler) noexcept {
  if (!handler.handle(*this)) return false;
  if (!deferred_) return true;
  complete();  // its node may be on the way to us: it comes back with that
  return false;
}

void Exchange::notify(std::uint8_t bits) noexcept {
  if (!deferred_) return;
  Connection& connection = *connection_;
  lock_.lock();
  bits_ |= bits;
  if ((bits & kDone) != 0) given_back_ = true;
  const bool post = !std::exchange(posted_, true);
  lock_.unlock();
  // Without posting, the node is on its way already, and with kDone this exchange may be gone by now.
  if (post) connection.home().enqueue(node_);
}

std::uint8_t Exchange::take_bits() noexcept {
  lock_.lock();
  posted_ = false;
  const std::uint8_t bits = std::exchange(bits_, std::uint8_t{0});
  lock_.unlock();
  return bits;
}

std::string Exchange::remote() const { return connection_->remote(); }
void Exchange::append_remote_host(Bytes& out) const noexcept { connection_->append_remote_host(out); }
std::string Exchange::local() const { return connection_->local(); }
const tls::Session* Exchange::tls() const noexcept { return connection_->tls(); }

std::string_view Exchange::request_id(std::array<char, kRequestIdRoom>& room) const noexcept {
  if (limits_->request_ids == RequestIds::trust && !head_.empty()) {
    const auto given = header("x-request-id");
    if (given && is_request_id(*given)) return *given;
  }
  static const auto process = static_cast<std::uint32_t>(random_id());
  char* to = room.data();
  for (int shift = 28; shift >= 0; shift -= 4) *to++ = "0123456789abcdef"[process >> shift & 15];
  *to++ = '-';
  to = std::to_chars(to, room.data() + room.size(), id_, 16).ptr;
  return {room.data(), static_cast<std::size_t>(to - room.data())};
}

void Exchange::announce_id() noexcept {
  std::array<char, kRequestIdRoom> room;
  static_cast<void>(response_.set("X-Request-Id", request_id(room)));
}

const TraceContext& Exchange::trace() noexcept {
  if (trace_.span != 0) return trace_;
  std::optional<std::string_view> given;
  std::size_t times = 0;
  for_each_header([&](const HeaderField& field) {
    if (!equal_ignoring_case(field.name, "traceparent")) return;
    given = field.value;
    ++times;
  });
  const std::optional<TraceContext> joined = times == 1 ? TraceContext::join(*given) : std::nullopt;
  trace_ = joined ? *joined : TraceContext::begin();
  return trace_;
}

std::optional<std::string_view> Exchange::header_list(std::string_view name, std::string& room) const {
  std::optional<std::string_view> list;
  for_each_header([&](const HeaderField& field) {
    if (!equal_ignoring_case(field.name, name)) return;
    if (list && room.empty()) room = *list;
    if (list) room.append(", ").append(field.value);
    list = list ? std::string_view(room) : field.value;
  });
  return list;
}

// -- who asks ---------------------------------------------------------------------------------------------------------

/// False: the peer speaks for itself.
bool Exchange::knows_client() {
  if (client_ != nullptr) return true;
  if (limits_->trusted_proxies.empty() || !connection_->peer_is_trusted()) return false;
  ForwardedLines lines;
  for_each_header([&lines](const HeaderField& field) { lines.add(field); });
  client_ = std::make_unique<const ForwardedClient>(find_client(lines, limits_->trusted_proxies));
  return true;
}

std::uint64_t Exchange::client_network() {
  const bool named = knows_client() && !client_->remote.empty();
  return named ? http::client_network(client_->remote) : connection_->network();
}

std::uint64_t Exchange::sharing_network() {
  const bool named = knows_client() && !client_->remote.empty();
  return named || !connection_->peer_is_trusted() ? client_network() : 0;
}

std::string_view Exchange::named_host() {
  if (!knows_client()) return {};
  std::string_view host = client_->remote;
  if (host.starts_with('[')) return host.substr(1, host.find(']') - 1);
  if (!host.starts_with("unix:")) host = host.substr(0, host.find(':'));
  return host;
}

std::string_view Exchange::scheme() {
  if (knows_client() && !client_->scheme.empty()) return client_->scheme;
  return tls() != nullptr || parser_.asks_for_https() ? "https" : "http";
}

// -- request body -----------------------------------------------------------------------------------------------------

std::optional<std::uint64_t> Exchange::content_length() const noexcept {
  const BodyKind kind = parser_.body_kind();
  if (kind == BodyKind::chunked || (kind == BodyKind::stream && !parser_.has_content_length())) return std::nullopt;
  return parser_.content_length();
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
    return true;
  }
  std::string_view piece;
  switch (chunked_.decode(input, max, *limits_, piece)) {
    case ChunkedDecoder::Outcome::more: return false;
    case ChunkedDecoder::Outcome::data: out = piece; return true;
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

bool Exchange::try_read_body(std::size_t max, Result<std::string_view>& out) noexcept {
  switch (body_form()) {
    case BodyForm::encoded: return next_decoded(max, out);
    case BodyForm::unreadable: out = evlua::fail(EINVAL, OpCode::protocol); return true;
    case BodyForm::undecided:
    case BodyForm::plain: break;
  }
  return next_piece(max, out);
}

void Exchange::deliver(Bytes& bytes, const Result<void>& outcome) noexcept {
  lock_.lock();
  arrived_.swap(bytes);
  delivery_ = outcome;
  delivered_ = true;
  lock_.unlock();
  delivered_event_.set();
}

void Exchange::deliver(std::string_view bytes, bool ended) noexcept {
  lock_.lock();
  arrived_.append(bytes);
  arrived_last_ |= ended;
  delivered_ = true;
  lock_.unlock();
  if (deferred_) delivered_event_.set();
}

bool Exchange::deliver_trailer(std::string_view name, std::string_view value) noexcept {
  // The handler's side does not look before the end of the body was delivered.
  if (trailers_ == nullptr) trailers_ = std::make_unique<Trailers>();
  trailers_->add(name, value);
  return trailers_->section_bytes() <= limits_->trailer_bytes;
}

void Exchange::offer_window(std::size_t bytes) noexcept {
  lock_.lock();
  window_ = bytes;
  const bool wake = std::exchange(waiting_, false);
  lock_.unlock();
  if (wake) drained_.set();
}

bool Exchange::awaits_window() noexcept {
  lock_.lock();
  const bool awaited = window_awaited_;
  lock_.unlock();
  return awaited;
}

void Exchange::break_off(const Error& error) noexcept {
  lock_.lock();
  delivery_ = evlua::fail(error);
  delivered_ = true;
  error_ = error;
  pending_.clear();
  const bool wake = std::exchange(waiting_, false);
  lock_.unlock();
  if (!deferred_) return;
  delivered_event_.set();
  if (wake) drained_.set();
}

bool Exchange::has_output() noexcept {
  lock_.lock();
  const bool any = !pending_.empty();
  lock_.unlock();
  return any;
}

bool Exchange::awaits_body() noexcept {
  lock_.lock();
  const bool awaited = awaited_ && !delivered_;
  lock_.unlock();
  return awaited;
}

void Exchange::give_up_body() noexcept {
  lock_.lock();
  delivery_ = evlua::fail(ETIMEDOUT, OpCode::recv);
  delivered_ = true;
  lock_.unlock();
  delivered_event_.set();
}

bool Exchange::take_arrived() noexcept {
  lock_.lock();
  const bool any = !arrived_.empty();
  if (any && stream_ == nullptr) connection_->take_input(arrived_);
  if (any && stream_ != nullptr) {
    input_bytes_.swap(arrived_);
    arrived_.clear();
    input_ = input_bytes_.view();
    taken_ += input_.size();
  }
  input_last_ = arrived_last_;
  lock_.unlock();
  if (any && stream_ != nullptr) notify(kInput);
  return any;
}

/// Waits until the connection's side has delivered something.
Task<Result<void>> Exchange::await_delivery(Instant deadline) {
  lock_.lock();
  const bool ask = !delivered_;
  if (ask) delivered_event_.reset();
  awaited_ = ask;
  lock_.unlock();
  if (ask) notify(kInput);
  const Result<void> woken = co_await delivered_event_.wait(deadline);
  lock_.lock();
  awaited_ = false;
  if (!woken) {
    lock_.unlock();
    co_return woken;
  }
  delivered_ = false;
  const Result<void> outcome = std::exchange(delivery_, {});
  lock_.unlock();
  if (stream_ == nullptr) (void)take_arrived();
  co_return outcome;
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

Task<Result<std::string_view>> Exchange::read_body(std::size_t max, Instant deadline) {
  defer();
  Result<std::string_view> piece;
  while (!try_read_body(max, piece)) {
    if (continue_wanted_) send_continue();
    const Instant began = Worker::current().now();
    const Instant idle_until = deadline_after(began, patience_.left());
    const Result<void> received = co_await receive(std::min(deadline, idle_until));
    if (stream_ == nullptr) {  // streams are watched by their session
      patience_.spend(Worker::current().now() - began, received ? connection_->input().size() : 0,
                      limits_->body_timeout, limits_->min_rate);
    }
    if (!received) {
      const Error error = received.error();
      // A caller's own deadline or cancellation leaves the body readable.
      const bool own_limit = error.is(ETIMEDOUT) && idle_until <= deadline;
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

// -- response ---------------------------------------------------------------------------------------------------------

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

Bytes& Exchange::lock_output() noexcept {
  if (!deferred_) return stream_ == nullptr ? connection_->output() : pending_;
  lock_.lock();
  return pending_;
}

void Exchange::unlock_output() noexcept {
  if (deferred_) lock_.unlock();
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

/// A body of that size would be compressed for clients who want that. A stream counts as large enough.
bool Exchange::may_be_encoded(std::size_t size) const noexcept {
  if (limits_->compression_level == 0 || !may_compress_ || size < limits_->compress_from) return false;
  const bool whole = status_has_body(status()) && status() != 206 && !response_.has("Content-Encoding") &&
                     !response_.has("Content-Range");
  const auto type = response_.find("Content-Type");
  return whole && type && is_compressible(*type) && !response_lists("Cache-Control", "no-transform");
}

/// How a body of that size is to be compressed, if at all.
std::optional<Coding> Exchange::coding_for(std::size_t size) const {
  if (!may_be_encoded(size)) return std::nullopt;
  std::string room;
  const auto accepted = header_list("accept-encoding", room);
  return accepted ? choose_coding(*accepted) : std::nullopt;
}

bool Exchange::response_lists(std::string_view name, std::string_view token) const noexcept {
  bool listed = false;
  response_.for_each_field([&](std::string_view field, std::string_view value) {
    listed = listed || (equal_ignoring_case(field, name) && list_names(value, token));
  });
  return listed;
}

void Exchange::vary_by_coding() {
  if (response_lists("Vary", "Accept-Encoding") || response_lists("Vary", "*")) return;
  static_cast<void>(response_.add("Vary", "Accept-Encoding"));
}

void Exchange::announce_coding(Coding coding) {
  static_cast<void>(response_.set("Content-Encoding", name_of(coding)));
  const auto etag = response_.find("ETag");
  if (!etag || etag->starts_with("W/")) return;
  const std::string weak = "W/" + std::string(*etag);  // other bytes, same meaning
  static_cast<void>(response_.set("ETag", weak));
}

/// What goes out for a chunk of a compressed stream.
std::string_view Exchange::pack(std::string_view chunk, Compressor::Then then) noexcept {
  packed_.clear();
  if (compressor_ == nullptr) compressor_ = Compressor::make(*coding_, limits_->compression_level);
  if (compressor_ == nullptr || !compressor_->run(chunk, then, packed_)) cut();
  return packed_.view();
}

void Exchange::end_compression() noexcept {
  coding_.reset();
  compressor_.reset();
  packed_.release();
  place_.leave();
}

bool Exchange::take_encoder_place() {
  if (!sends_body()) return true;
  const std::uint32_t share = std::max(limits_->encoders / 4, 1U);
  return place_.take(connection_->station_.encoders(), limits_->encoders, sharing_network(), share);
}

/// Until others had theirs. What comes then takes long: the worker looks for others before it goes on.
Task<Result<void>> Exchange::turn_to_compress(Instant deadline) {
  EncoderPace::Turn turn = connection_->station_.encoder_pace().turn();
  co_await turn;
  Worker::current().catch_up();
  TaskContext& context = co_await current_context();
  co_return check_stop(context, deadline, OpCode::send);
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
  if (!declared && may_be_encoded(body.size())) vary_by_coding();
  if (const auto coding = coding_for(body.size()); coding && !declared && body.size() <= limits_->compress_upto) {
    if (compress_whole(*coding, limits_->compression_level, body, packed)) {
      announce_coding(*coding);
      body = packed.view();
    }
  }
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

bool Exchange::is_sent_in_turns(std::size_t size) const {
  return size > limits_->compress_upto && !headers_sent_ && !response_.content_length() && coding_for(size);
}

Task<Result<void>> Exchange::send_in_turns(std::string_view body) {
  defer();
  const Coding coding = coding_for(body.size()).value_or(Coding::gzip);
  std::unique_ptr<Compressor> compressor;
  if (take_encoder_place()) compressor = Compressor::make(coding, limits_->compression_level);
  Bytes packed;
  bool good = compressor != nullptr;
  for (std::string_view rest = body; good && !rest.empty();) {
    const std::string_view piece = rest.substr(0, kPackedInOneGo);
    rest.remove_prefix(piece.size());
    good = compressor->run(piece, rest.empty() ? Compressor::Then::end : Compressor::Then::go_on, packed) &&
           packed.size() < body.size();
    const Result<void> wanted = co_await turn_to_compress(kNever);
    if (!wanted) co_return wanted;
    if (broken()) co_return Result<void>();
  }
  place_.leave();
  if (!headers_sent_) vary_by_coding();
  if (good && !headers_sent_) announce_coding(coding);
  static_cast<void>(send_whole(good ? packed.view() : body, true));
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

void Exchange::begin_compression() {
  vary_by_coding();
  const auto coding = coding_for(limits_->compress_from);
  if (!coding || !take_encoder_place()) return;
  if (sends_body()) coding_ = coding;
  announce_coding(*coding);
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
  lock_.unlock();
  notify(kOutput);
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
    const std::string_view slice = chunk.substr(0, coding_ ? kPackedInOneGo : kSliceBytes);
    chunk.remove_prefix(slice.size());
    append_output(slice, chunk.empty());
    const Result<void> drained = co_await wait_below(limits_->output_bytes, deadline);
    if (!drained) co_return drained;
  }
  co_return Result<void>();
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

/// nghttp2 asks for more only when the stream's window is open, and so is the connection's.
Task<Result<std::size_t>> Exchange::await_window() {
  while (true) {
    lock_.lock();
    const Error error = error_;
    const std::size_t window = std::exchange(window_, 0);
    window_awaited_ = waiting_ = window == 0 && error.code == 0;
    if (waiting_) drained_.reset();
    lock_.unlock();
    if (error.code != 0) co_return evlua::fail(error);
    if (window != 0) co_return window;
    const Result<void> woken = co_await drained_.wait();
    if (!woken) co_return evlua::fail(woken.error());
  }
}

Task<Result<void>> Exchange::wait_below(std::size_t mark, Instant deadline) {
  while (true) {
    lock_.lock();
    const Error error = error_;
    const bool drained = pending_.size() < mark && (mark > 1 || !sending_);
    if (!drained && error.code == 0) {
      drained_.reset();
      waiting_ = true;
    }
    lock_.unlock();
    if (error.code != 0) co_return evlua::fail(error);
    if (drained) co_return Result<void>();
    const Result<void> woken = co_await drained_.wait(deadline);
    if (!woken) co_return woken;
  }
}

bool Exchange::try_write(std::string_view chunk, Result<void>& out) noexcept {
  EVLUA_DCHECK(deferred_);
  lock_.lock();
  const bool full = pending_.size() + chunk.size() >= limits_->output_bytes && error_.code == 0;
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

/// HTTP/2: what is pending is the rest.
void Exchange::end_output() noexcept {
  static_cast<void>(lock_output());
  head_ready_ = output_ended_ = true;
  unlock_output();
  notify(kOutput);
}

void Exchange::cut() noexcept {
  finished_ = cut_ = true;
  keep_alive_ = false;
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

bool Exchange::broken() noexcept {
  if (!deferred_) return false;
  lock_.lock();
  const bool broken = error_.code != 0;
  lock_.unlock();
  return broken;
}

}  // namespace evlua::http
