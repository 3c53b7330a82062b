// Conditional requests (RFC 9110, 13).
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "net/http/exchange.h"

namespace evlua::http {

/// What there is, as far as a client may ask about it.
struct Validators {
  std::string_view etag;                      ///< with its quotation marks, and W/ before them if it is weak; or empty
  std::optional<std::int64_t> last_modified;  ///< seconds since 1970
};

enum class Condition : std::uint8_t {
  met,           ///< answer
  not_modified,  ///< 304
  failed,        ///< 412
};

/// In the order of RFC 9110, 13.2.2.
Condition check_conditions(const Exchange& exchange, const Validators& validators) noexcept;

/// Whether a Range field counts: there is no If-Range, or it names exactly this.
bool range_applies(const Exchange& exchange, const Validators& validators) noexcept;

}  // namespace evlua::http
