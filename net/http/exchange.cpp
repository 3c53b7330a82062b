// An exchange's life, and whose request it is.
#include "net/http/exchange.h"

#include <algorithm>
#include <charconv>
#include <cstring>

#include "net/http/connection.h"
#include "net/http/http2_session.h"
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

/// What all ids that this process makes begin with: eight digits and a dash.
std::array<char, 9> process_part() noexcept {
  const auto number = static_cast<std::uint32_t>(random_id());
  std::array<char, 9> part;
  for (std::size_t i = 0; i < 8; ++i) part[i] = "0123456789abcdef"[number >> (28 - 4 * i) & 15];
  part[8] = '-';
  return part;
}

}  // namespace

void Exchange::begin(Connection& connection, const Limits& limits) noexcept {
  connection_ = &connection;
  limits_ = &limits;
  node_.exchange = this;
  node_.run = Connection::handler_spoke;
}

void Exchange::begin(Connection& connection, const Limits& limits, Http2Stream& stream) noexcept {
  begin(connection, limits);
  stream_ = &stream;
  shut_ = stream.shut;
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
  held_.set(connection_->held_output(), 0);
  arrived_.release();
  input_last_ = arrived_last_ = output_ended_ = head_ready_ = shut_ = false;
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

std::string Exchange::remote() const { return connection_->remote(); }
void Exchange::append_remote_host(Bytes& out) const noexcept { connection_->append_remote_host(out); }
std::string Exchange::local() const { return connection_->local(); }
const tls::Session* Exchange::tls() const noexcept { return connection_->tls(); }

std::string_view Exchange::request_id(std::array<char, kRequestIdRoom>& room) const noexcept {
  if (limits_->request_ids == RequestIds::trust && !head_.empty()) {
    const auto given = header("x-request-id");
    if (given && is_request_id(*given)) return *given;
  }
  static const std::array<char, 9> process = process_part();
  std::copy(process.begin(), process.end(), room.begin());
  char* const to = std::to_chars(room.data() + process.size(), room.data() + room.size(), id_, 16).ptr;
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

}  // namespace evlua::http
