// The Cookie field of requests (RFC 6265, 4.2).
#pragma once

#include <optional>
#include <string_view>

namespace evlua::http {

/// The value of the first cookie of that name, as it was sent but for quotes around it; a view of `field`.
std::optional<std::string_view> find_cookie(std::string_view field, std::string_view name) noexcept;

}  // namespace evlua::http
