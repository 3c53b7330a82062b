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
  bool encoded = false;                       ///< this client would get it compressed on the way, with a weak tag
  bool varies = false;                        ///< it, or another one, would
};

enum class Condition : std::uint8_t {
  met,           ///< answer
  not_modified,  ///< 304
  failed,        ///< 412
};

/// What a request says about it: the values of its fields, lists joined.
struct ConditionFields {
  std::optional<std::string_view> if_match;
  std::optional<std::string_view> if_none_match;
  std::optional<std::string_view> if_modified_since;
  std::optional<std::string_view> if_unmodified_since;
  bool reads = true;  ///< it is a GET or a HEAD
};

/// In the order of RFC 9110, 13.2.2.
Condition check_conditions(const ConditionFields& fields, const Validators& validators) noexcept;
/// Those of the request.
Condition check_conditions(const Exchange& exchange, const Validators& validators);

/// Answers 304 or 412 if the conditions of the request say so; true then.
bool answer_conditions(Exchange& exchange, const Validators& validators);
/// Answers with that status; what spoke of a body goes, unless it is 304.
void end_without_body(Exchange& exchange, int status);

/// Whether a Range field counts: there is no If-Range, or it names exactly this. `encoded`: without a range the client
/// would get an encoded form of it, which has an entity tag of its own, but not a date.
bool range_applies(std::optional<std::string_view> if_range, const Validators& validators, bool encoded) noexcept;
bool range_applies(const Exchange& exchange, const Validators& validators, bool encoded) noexcept;

}  // namespace evlua::http
