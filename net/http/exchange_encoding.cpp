// The handler's side of an exchange: whether and how a response is compressed.
//
// One that is sent whole is compressed at once, or in turns when it is long; of one that is written each chunk is, by
// an encoder that is made when there is something for it. See encoder_place.h and pace.h.
#include <algorithm>

#include "core/give_way.h"
#include "core/worker.h"
#include "net/http/connection.h"
#include "net/http/exchange.h"
#include "net/http/media_types.h"
#include "net/http/station.h"
#include "net/http/syntax.h"

namespace evlua::http {

/// A body of that size would be compressed for clients who want that. A stream counts as large enough.
bool Exchange::may_be_encoded(std::size_t size) const noexcept {
  if (limits_->compression_level == 0 || !may_compress_ || size < limits_->compress_from) return false;
  const bool whole = status_has_body(status()) && status() != 206 && !response_.has("Content-Encoding") &&
                     !response_.has("Content-Range");
  const auto type = response_.find("Content-Type");
  return whole && type && is_compressible(*type) && !response_lists("Cache-Control", "no-transform");
}

bool Exchange::may_vary_by_coding() const noexcept {
  const auto type = response_.find("Content-Type");
  return limits_->compression_level != 0 && may_compress_ && !response_.has("Content-Encoding") &&
         (!type || is_compressible(*type)) && !response_lists("Cache-Control", "no-transform");
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

/// What is to be sent for it; compressed, it lies in `packed`.
std::string_view Exchange::encode_whole(std::string_view body, Bytes& packed) {
  if (response_.content_length()) return body;
  if (may_be_encoded(body.size())) vary_by_coding();
  const auto coding = coding_for(body.size());
  if (!coding || body.size() > limits_->compress_upto) return body;
  if (!compress_whole(*coding, limits_->compression_level, body, packed)) return body;
  announce_coding(*coding);
  return packed.view();
}

bool Exchange::take_encoder_place() {
  if (!sends_body()) return true;
  const std::uint32_t share = std::max(limits_->encoders / 4, 1U);
  return place_.take(connection_->station_.encoders(), limits_->encoders, sharing_network(), share);
}

/// Until others had theirs. What comes then takes long: the worker looks for others before it goes on.
Task<Result<void>> Exchange::turn_to_compress(Instant deadline) {
  Pace::Turn turn(connection_->station_.encoder_pace());
  co_await turn;
  Worker::current().catch_up();
  TaskContext& context = co_await current_context();
  co_return check_stop(context, deadline, OpCode::send);
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
  if (good) body = packed.view();
  if (is_sent_as_taken(body.size())) {
    const Result<void> sent = co_await write_whole(body);
    co_return sent;
  }
  static_cast<void>(send_whole(body, true));
  co_return Result<void>();
}

void Exchange::begin_compression() {
  vary_by_coding();
  const auto coding = coding_for(limits_->compress_from);
  if (!coding || !take_encoder_place()) return;
  if (sends_body()) coding_ = coding;
  announce_coding(*coding);
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

}  // namespace evlua::http
