// The character classes and small grammars of HTTP messages (RFC 9110, 9112, 3986). Bytes, not locales.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace evlua::http {

namespace detail {

enum ByteClass : std::uint8_t { kToken = 1, kControl = 2, kVisible = 4, kDigit = 8, kHexDigit = 16, kHostByte = 32 };

constexpr std::array<std::uint8_t, 256> make_byte_classes() {
  std::array<std::uint8_t, 256> classes{};
  auto mark = [&](std::string_view bytes, std::uint8_t byte_class) {
    for (const char byte : bytes) classes[static_cast<unsigned char>(byte)] |= byte_class;
  };
  constexpr std::string_view letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
  constexpr std::string_view digits = "0123456789";
  mark(letters, kToken | kHostByte);
  mark(digits, kToken | kDigit | kHexDigit | kHostByte);
  mark("abcdefABCDEF", kHexDigit);
  mark("!#$%&'*+-.^_`|~", kToken);
  mark("-._~!$&'()*+;=", kHostByte);  // unreserved and sub-delims of RFC 3986, without the comma: it joins fields
  for (unsigned byte = 0; byte < 256; ++byte) {
    if ((byte < 0x20 && byte != '\t') || byte == 0x7f) classes[byte] |= kControl;
    if (byte > 0x20 && byte < 0x7f) classes[byte] |= kVisible;
  }
  return classes;
}

inline constexpr std::array<std::uint8_t, 256> kByteClasses = make_byte_classes();

constexpr bool has_class(char byte, ByteClass byte_class) noexcept {
  return (kByteClasses[static_cast<unsigned char>(byte)] & byte_class) != 0;
}

}  // namespace detail

/// tchar: what methods and field names are made of.
constexpr bool is_token_byte(char byte) noexcept { return detail::has_class(byte, detail::kToken); }
/// CTL without HTAB.
constexpr bool is_control(char byte) noexcept { return detail::has_class(byte, detail::kControl); }
/// VCHAR: printable ASCII without the space.
constexpr bool is_visible(char byte) noexcept { return detail::has_class(byte, detail::kVisible); }
constexpr bool is_digit(char byte) noexcept { return detail::has_class(byte, detail::kDigit); }
constexpr bool is_hex_digit(char byte) noexcept { return detail::has_class(byte, detail::kHexDigit); }
constexpr bool is_blank(char byte) noexcept { return byte == ' ' || byte == '\t'; }
constexpr char to_lower(char byte) noexcept {
  return byte >= 'A' && byte <= 'Z' ? static_cast<char>(byte | 0x20) : byte;
}

/// The position of the next control byte (other than HTAB) at or after `from`, or text.size().
std::size_t find_control(std::string_view text, std::size_t from) noexcept;

/// Equal but for the case of ASCII letters.
bool equal_ignoring_case(std::string_view left, std::string_view right) noexcept;
/// Without blanks at both ends.
std::string_view trim(std::string_view text) noexcept;
/// Whether `token` is an element of the list, whatever its case.
bool list_names(std::string_view list, std::string_view token) noexcept;
/// Digits without a leading zero, at most 18 of them.
std::optional<std::uint64_t> parse_length(std::string_view text) noexcept;
/// uri-host with an optional port (RFC 9110 7.2): a name, an IPv4 address, or an IPv6 address in brackets.
bool valid_host(std::string_view host) noexcept;
/// token
bool valid_field_name(std::string_view name) noexcept;
/// No control bytes but HTAB; any other byte may be there.
inline bool valid_field_value(std::string_view value) noexcept { return find_control(value, 0) == value.size(); }

}  // namespace evlua::http
