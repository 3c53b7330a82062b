#include "net/http/syntax.h"

#include <algorithm>

namespace evlua::http {

bool equal_ignoring_case(std::string_view left, std::string_view right) noexcept {
  if (left.size() != right.size()) return false;
  for (std::size_t at = 0; at < left.size(); ++at) {
    if (left[at] != right[at] && to_lower(left[at]) != to_lower(right[at])) return false;
  }
  return true;
}

std::string_view trim(std::string_view text) noexcept {
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
  return text;
}

std::optional<std::uint64_t> parse_length(std::string_view text) noexcept {
  if (text.empty() || text.size() > 18 || (text[0] == '0' && text.size() > 1)) return std::nullopt;
  std::uint64_t length = 0;
  for (const char byte : text) {
    if (!is_digit(byte)) return std::nullopt;
    length = length * 10 + static_cast<std::uint64_t>(byte - '0');
  }
  return length;
}

bool valid_host(std::string_view host) noexcept {
  std::size_t at = 0;
  if (!host.empty() && host[0] == '[') {
    const std::size_t close = host.find(']');
    if (close == std::string_view::npos || close < 3) return false;
    for (const char byte : host.substr(1, close - 1)) {
      if (!is_hex_digit(byte) && byte != ':' && byte != '.') return false;
    }
    at = close + 1;
  } else {
    for (; at < host.size() && host[at] != ':'; ++at) {
      if (host[at] == '%') {
        if (at + 2 >= host.size() || !is_hex_digit(host[at + 1]) || !is_hex_digit(host[at + 2])) return false;
        at += 2;
      } else if (!detail::has_class(host[at], detail::kHostByte)) {
        return false;
      }
    }
    if (at == 0) return false;
  }
  if (at == host.size()) return true;
  const std::string_view port = host.substr(at + 1);
  return host[at] == ':' && port.size() <= 5 && std::all_of(port.begin(), port.end(), is_digit);
}

bool valid_field_name(std::string_view name) noexcept {
  return !name.empty() && std::all_of(name.begin(), name.end(), is_token_byte);
}

bool valid_field_value(std::string_view value) noexcept { return std::none_of(value.begin(), value.end(), is_control); }

}  // namespace evlua::http
