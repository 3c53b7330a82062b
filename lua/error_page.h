// What --dev answers a browser when a handler has failed: the message, the traceback, and the source around the lines
// that these name.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace evlua::lua {

/// The whole page, as HTML; it needs nothing else. `failure` is a message with its traceback, `request` what was asked
/// for, and anybody may have chosen the words in both. Source is shown of `files` only, which are read: a message that
/// names another file does not make it public.
std::string error_page(std::string_view request, std::string_view failure, const std::vector<std::string>& files);

/// The headers that go with it, besides its type: nothing in the page may run or load.
inline constexpr std::string_view kErrorPagePolicy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";

}  // namespace evlua::lua
