// Text forms of bytes: base64, base64url (RFC 4648, sections 4 and 5) and hexadecimal. Decoding is strict.
#pragma once

#include <cstddef>
#include <string_view>

namespace evlua {

enum class Base64 { standard, url };

/// Characters that encoding `size` bytes gives.
constexpr std::size_t base64_size(std::size_t size, bool padding) noexcept {
  return padding ? (size + 2) / 3 * 4 : (size * 4 + 2) / 3;
}

/// Writes base64_size(bytes.size(), padding) characters to `out`.
void base64_encode(std::string_view bytes, Base64 alphabet, bool padding, char* out) noexcept;

struct Decoded {
  std::size_t size = 0;    ///< bytes written
  std::size_t bad_at = 0;  ///< where the text is wrong, if !ok
  bool ok = true;
};

/// Writes at most text.size() / 4 * 3 + 2 bytes to `out`. Padding may be there or not, but not in part; characters
/// outside of the alphabet, a lone last character and bits that no byte holds are errors.
Decoded base64_decode(std::string_view text, Base64 alphabet, char* out) noexcept;

/// Writes 2 * bytes.size() lower-case digits.
void hex_encode(std::string_view bytes, char* out) noexcept;

/// Writes text.size() / 2 bytes; either case is accepted.
Decoded hex_decode(std::string_view text, char* out) noexcept;

}  // namespace evlua
