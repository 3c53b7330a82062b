// Requests as a connection reads them, one after the other, bodies included: the bytes in one piece and the same bytes
// in many pieces must give the same requests and the same end. The first two bytes choose the pieces.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/check.h"
#include "net/http/chunked.h"
#include "net/http/parser.h"
#include "net/http/syntax.h"

namespace {

using namespace evlua::http;

/// What a handler could have seen, as text.
class Reader {
 public:
  void feed(std::string_view bytes) {
    input_ += bytes;
    while (!ended_ && (in_body_ ? read_body() : read_head())) {
    }
  }
  const std::string& seen() const { return seen_; }

 private:
  bool read_head() {
    switch (parser_.parse(input_, limits_)) {
      case RequestParser::Outcome::incomplete: return false;
      case RequestParser::Outcome::refused:
        seen_ += "refused " + std::to_string(parser_.refusal());
        EVLUA_CHECK(parser_.refusal() >= 400 && parser_.refusal() < 600);
        ended_ = true;
        return false;
      case RequestParser::Outcome::complete: break;
    }
    describe();
    in_body_ = parser_.body_kind() != BodyKind::none;
    remaining_ = parser_.content_length();
    chunked_.reset();
    input_.erase(0, parser_.head_bytes());
    if (!in_body_) parser_.reset();
    return true;
  }

  void describe() {
    const std::string_view head(input_);
    EVLUA_CHECK(parser_.head_bytes() <= head.size());
    seen_ += std::string(parser_.method(head)) + ' ' + std::string(parser_.path(head)) + '?' +
             std::string(parser_.query(head)) + ' ' + std::string(parser_.host(head));
    seen_ += parser_.keep_alive() ? " keep" : " close";
    if (parser_.expects_continue()) seen_ += " expect";
    for (std::size_t index = 0; index < parser_.field_count(); ++index) {
      const HeaderField field = parser_.field(head, index);
      EVLUA_CHECK(valid_field_name(field.name) && valid_field_value(field.value));
      EVLUA_CHECK(parser_.find(head, field.name).has_value());
      seen_ += '|';
      seen_ += field.name;
      seen_ += '=';
      seen_ += field.value;
    }
    seen_ += '\n';
  }

  bool read_body() {
    if (parser_.body_kind() == BodyKind::length) {
      if (input_.empty()) return false;
      const std::size_t most = std::min<std::size_t>(input_.size(), remaining_);
      seen_ += input_.substr(0, most);
      input_.erase(0, most);
      remaining_ -= most;
      if (remaining_ == 0) end_body();
      return true;
    }
    std::string_view input = input_;
    std::string_view piece;
    const ChunkedDecoder::Outcome outcome = chunked_.decode(input, 7, limits_, piece);
    seen_ += piece;
    const std::size_t consumed = input_.size() - input.size();
    input_.erase(0, consumed);
    switch (outcome) {
      case ChunkedDecoder::Outcome::more: return false;
      case ChunkedDecoder::Outcome::data: return true;
      case ChunkedDecoder::Outcome::end: end_body(); return true;
      case ChunkedDecoder::Outcome::invalid: break;
    }
    seen_ += "broken chunk";
    ended_ = true;
    return false;
  }

  void end_body() {
    seen_ += "\nend\n";
    in_body_ = false;
    parser_.reset();
  }

  static Limits small_limits() {
    Limits limits;
    limits.request_line_bytes = 200;
    limits.header_block_bytes = 400;
    limits.header_fields = 8;
    limits.chunk_extension_bytes = 40;
    limits.trailer_bytes = 40;
    return limits;
  }

  const Limits limits_ = small_limits();
  RequestParser parser_;
  ChunkedDecoder chunked_;
  std::string input_;
  std::string seen_;
  std::uint64_t remaining_ = 0;
  bool in_body_ = false;
  bool ended_ = false;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  std::uint32_t random = (std::uint32_t{data[0]} << 8) + data[1] + 1U;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 2, size - 2);
  Reader whole;
  whole.feed(bytes);
  Reader pieces;
  for (std::size_t at = 0; at < bytes.size();) {
    random = random * 1664525U + 1013904223U;
    const std::size_t step = 1 + (random >> 8) % (data[0] % 64 + 1);
    pieces.feed(bytes.substr(at, step));
    at += step;
  }
  EVLUA_CHECK(whole.seen() == pieces.seen());
  return 0;
}
