// The dates of HTTP (RFC 9110, 5.6.7).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace evlua::http {

/// "Sun, 06 Nov 1994 08:49:37 GMT"; seconds since 1970. Of the years 0 to 9999 the nearest time.
std::string format_date(std::int64_t seconds);

/// Any of the three forms that a recipient must take.
std::optional<std::int64_t> parse_date(std::string_view text) noexcept;

}  // namespace evlua::http
