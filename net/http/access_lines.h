// One line for each exchange, in the combined format or as JSON. Whatever a client sent, it stays within its field:
// control bytes, quotes, backslashes, and what is no UTF-8 are escaped.
#pragma once

#include <ctime>
#include <string>
#include <string_view>

#include "core/bytes.h"
#include "net/http/exchange.h"
#include "net/http/request_log.h"

namespace evlua::http {

enum class AccessFormat : std::uint8_t {
  combined,  ///< as Apache's and nginx's, and behind it: seconds, request id, TLS version
  json,
};

/// Used by one thread at a time.
class AccessLines {
 public:
  explicit AccessLines(AccessFormat format) noexcept : format_(format) {}

  /// The line, with its newline, until the next call.
  std::string_view make(Exchange& exchange, const ExchangeEnd& end) noexcept;

 private:
  void combined(Exchange& exchange, const ExchangeEnd& end) noexcept;
  void json(Exchange& exchange, const ExchangeEnd& end) noexcept;
  void look_at_clock() noexcept;

  const AccessFormat format_;
  Bytes line_;
  std::time_t second_ = -1;
  std::string before_request_;  // what a combined line of that second has there
  std::string iso_time_;        // up to the dot
  std::uint32_t microseconds_ = 0;
};

/// As the inside of a quoted field: `\xHH` for what is not printable ASCII, a quote or a backslash. At most so many
/// bytes of `text` are taken.
void append_escaped(Bytes& out, std::string_view text, std::size_t max) noexcept;
/// As the inside of a JSON string. UTF-8 stays as it is, but for control characters; a byte of anything else becomes
/// the character of its number.
void append_json(Bytes& out, std::string_view text, std::size_t max) noexcept;

}  // namespace evlua::http
