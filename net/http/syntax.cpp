#include "net/http/syntax.h"

#include <algorithm>

#include <arpa/inet.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include <bit>

namespace evlua::http {

namespace {

#if defined(__SSE2__)
/// One bit for each of the 16 bytes at `bytes`: is it a control byte?
unsigned control_mask(const char* bytes) noexcept {
  const __m128i text = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes));
  const __m128i low = _mm_cmpeq_epi8(_mm_min_epu8(text, _mm_set1_epi8(0x1f)), text);
  const __m128i tab = _mm_cmpeq_epi8(text, _mm_set1_epi8('\t'));
  const __m128i del = _mm_cmpeq_epi8(text, _mm_set1_epi8(0x7f));
  return static_cast<unsigned>(_mm_movemask_epi8(_mm_or_si128(_mm_andnot_si128(tab, low), del)));
}
#endif

bool is_ipv6(std::string_view text) noexcept {
  char copy[INET6_ADDRSTRLEN] = {};
  if (text.size() >= sizeof copy || text.find('\0') != std::string_view::npos) return false;
  text.copy(copy, text.size());
  in6_addr address;
  return ::inet_pton(AF_INET6, copy, &address) == 1;
}

}  // namespace

std::size_t find_control(std::string_view text, std::size_t from) noexcept {
  std::size_t at = from;
#if defined(__SSE2__)
  for (; at + 16 <= text.size(); at += 16) {
    const unsigned mask = control_mask(text.data() + at);
    if (mask != 0) return at + static_cast<std::size_t>(std::countr_zero(mask));
  }
  if (at < text.size() && text.size() >= 16) {
    // The last 16 bytes, of which the first ones are behind us.
    const std::size_t last = text.size() - 16;
    const unsigned mask = control_mask(text.data() + last) >> (at - last);
    return mask != 0 ? at + static_cast<std::size_t>(std::countr_zero(mask)) : text.size();
  }
#endif
  while (at < text.size() && !is_control(text[at])) ++at;
  return at;
}

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

bool list_names(std::string_view list, std::string_view token) noexcept {
  while (!list.empty()) {
    const std::size_t comma = std::min(list.find(','), list.size());
    if (equal_ignoring_case(trim(list.substr(0, comma)), token)) return true;
    list.remove_prefix(std::min(comma + 1, list.size()));
  }
  return false;
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
    if (close == std::string_view::npos || !is_ipv6(host.substr(1, close - 1))) return false;
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
  if (host[at] != ':' || port.size() > 5) return false;
  unsigned number = 0;
  for (const char byte : port) {
    if (!is_digit(byte)) return false;
    number = number * 10 + static_cast<unsigned>(byte - '0');
  }
  return number <= 65535;
}

bool valid_field_name(std::string_view name) noexcept {
  for (const char byte : name) {
    if (!is_token_byte(byte)) return false;
  }
  return !name.empty();
}

}  // namespace evlua::http
