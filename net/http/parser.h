// A request head: request line and field lines, parsed by llhttp in its strict mode, plus the rules that it leaves to
// its user. No I/O and no copies: positions refer to the bytes that the caller keeps together.
//
// llhttp sees whole lines only, so a head gives the same result however it is cut into pieces.
#pragma once

#include <llhttp.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "core/bytes.h"
#include "net/http/limits.h"

namespace evlua::http {

/// How a body is delimited.
enum class BodyKind : std::uint8_t {
  none,
  length,
  chunked,
  stream,  ///< HTTP/2: to the end of the stream, whatever its length
};

struct HeaderField {
  std::string_view name;
  std::string_view value;
};

class RequestParser {
 public:
  enum class Outcome : std::uint8_t { incomplete, complete, refused };

  RequestParser() noexcept { reset(); }
  RequestParser(const RequestParser&) = delete;
  RequestParser& operator=(const RequestParser&) = delete;

  /// Forgets the request; the next call of parse starts another.
  void reset() noexcept;

  /// Parses on. `head` starts at the request's first byte and holds all that came of it so far, perhaps at another
  /// address than last time. After `complete` the head ends at head_bytes(); after `refused`, refusal() is the status
  /// to answer with, and the connection cannot be used further.
  Outcome parse(std::string_view head, const Limits& limits) noexcept;

  /// The same for HTTP/2, where a head comes field by field (RFC 9113, 8.3): first all fields, pseudo-header fields
  /// included, whose bytes are added to `head`, then the end of the head. What a framing layer checks, it has checked.
  void add_field(Bytes& head, std::string_view name, std::string_view value, const Limits& limits) noexcept;
  Outcome end_fields(Bytes& head, bool has_body) noexcept;

  std::size_t head_bytes() const noexcept { return state_.head_bytes; }
  int refusal() const noexcept { return state_.refusal; }
  /// Why, in a word or two, for logs.
  const char* reason() const noexcept { return state_.reason; }

  // -- the request; `head` is what parse was given. REQUIRES: complete ---------------------------------------------

  std::string_view method(std::string_view head) const noexcept { return view(head, state_.method); }
  bool is_head() const noexcept { return llhttp_.method == HTTP_HEAD; }
  std::string_view target(std::string_view head) const noexcept { return view(head, state_.target); }
  /// As sent, neither decoded nor normalised; "/" for an absolute target without one, "*" for OPTIONS *.
  std::string_view path(std::string_view head) const noexcept {
    return state_.path.size == 0 ? std::string_view("/") : view(head, state_.path);
  }
  /// Without the question mark.
  std::string_view query(std::string_view head) const noexcept { return view(head, state_.query); }
  /// The authority of an absolute target, else the Host field; may be empty.
  std::string_view host(std::string_view head) const noexcept { return view(head, state_.host); }
  int version_major() const noexcept { return state_.version_major; }
  int version_minor() const noexcept { return state_.version_minor; }

  std::size_t field_count() const noexcept { return field_count_; }
  HeaderField field(std::string_view head, std::size_t index) const noexcept {
    return {view(head, fields_[index].name), view(head, fields_[index].value)};
  }
  /// The first field of that name, whatever its case.
  std::optional<std::string_view> find(std::string_view head, std::string_view name) const noexcept;

  BodyKind body_kind() const noexcept { return state_.body_kind; }
  std::uint64_t content_length() const noexcept { return state_.content_length; }
  bool has_content_length() const noexcept { return state_.has_length; }
  bool keep_alive() const noexcept { return state_.keep_alive; }
  /// The target is an absolute one with the scheme https.
  bool asks_for_https() const noexcept { return state_.https; }
  bool expects_continue() const noexcept { return state_.expects_continue; }

 private:
  struct Range {
    std::uint16_t at = 0;
    std::uint16_t size = 0;
  };
  struct Field {
    Range name;
    Range value;
  };
  /// All but the fields and llhttp's own: what reset() clears.
  struct State {
    const char* reason = "";
    std::uint64_t content_length = 0;
    std::uint32_t start = 0;          // of the request line; empty lines may come before it
    std::uint32_t line_start = 0;     // of the first line that has not ended yet
    std::uint32_t scanned_bytes = 0;  // no control byte between line_start and here
    std::uint32_t fed_bytes = 0;      // llhttp has seen this much
    std::uint32_t head_bytes = 0;
    std::uint32_t fields_start = 0;  // where the request line's CRLF ends; 0 before that
    std::uint32_t lines = 0;         // of fields
    std::int16_t refusal = 0;
    Range method, target, path, query, host;
    BodyKind body_kind = BodyKind::none;
    std::uint8_t version_major = 1;
    std::uint8_t version_minor = 1;
    bool keep_alive = true;
    bool expects_continue = false;
    bool has_host = false;
    bool has_length = false;
    bool has_coding = false;
    bool absolute = false;  // the target names the host
    bool https = false;     // and its scheme is that
    bool asks_close = false;
    bool asks_keep_alive = false;
  };
  struct Callbacks;
  friend struct Callbacks;

  static std::string_view view(std::string_view head, Range range) noexcept {
    return {head.data() + range.at, range.size};
  }
  static Range range(std::size_t from, std::size_t to) noexcept {
    return {static_cast<std::uint16_t>(from), static_cast<std::uint16_t>(to - from)};
  }
  std::uint16_t position(const char* at) const noexcept {
    return static_cast<std::uint16_t>(at - fed_from_ + state_.fed_bytes);
  }

  Outcome refuse(int status, const char* reason) noexcept;
  Outcome check_start(std::string_view head) noexcept;
  Outcome scan_lines(std::string_view head, const Limits& limits) noexcept;
  Outcome refuse_long_line(std::string_view head, const Limits& limits) noexcept;
  Outcome feed(std::string_view head) noexcept;
  llhttp_errno_t execute(std::string_view head) noexcept;
  Outcome check_request_line(std::string_view line) noexcept;
  Outcome check_target(std::string_view head) noexcept;
  Outcome check_fields(std::string_view head) noexcept;
  Outcome check_framing() noexcept;
  static bool has_tab(std::string_view head, const Field& field) noexcept;
  Outcome take_field(std::string_view head, const Field& field) noexcept;
  void join_cookies(Bytes& head) noexcept;
  Outcome take_host(std::string_view head, Range value) noexcept;
  Outcome take_length(std::string_view value) noexcept;
  void take_connection(std::string_view value) noexcept;

  llhttp_t llhttp_;
  const char* fed_from_ = nullptr;  // during llhttp_execute: where position `fed_bytes` is
  State state_;
  std::uint16_t field_count_ = 0;
  std::array<Field, kHeaderFieldsMax> fields_;
};

}  // namespace evlua::http
