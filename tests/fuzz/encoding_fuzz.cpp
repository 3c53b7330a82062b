// base64 and hexadecimal: bytes survive being encoded and decoded, and of all texts only those are taken that encoding
// could have made.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/check.h"
#include "core/encoding.h"

namespace {

using evlua::Base64;
using evlua::Decoded;

std::string base64(std::string_view bytes, Base64 alphabet, bool padding) {
  std::string text(evlua::base64_size(bytes.size(), padding), '\0');
  evlua::base64_encode(bytes, alphabet, padding, text.data());
  return text;
}

/// In a buffer of exactly the promised size, so that a byte too much is noticed.
std::string decoded_base64(std::string_view text, Base64 alphabet, Decoded& decoded) {
  std::string bytes(text.size() / 4 * 3 + 2, '\0');
  bytes.shrink_to_fit();
  decoded = evlua::base64_decode(text, alphabet, bytes.data());
  EVLUA_CHECK(decoded.ok || decoded.bad_at <= text.size());
  EVLUA_CHECK(decoded.size <= bytes.size());
  bytes.resize(decoded.size);
  return bytes;
}

void check_base64(std::string_view input, Base64 alphabet) {
  Decoded decoded;
  for (const bool padding : {false, true}) {
    EVLUA_CHECK(decoded_base64(base64(input, alphabet, padding), alphabet, decoded) == input && decoded.ok);
  }
  const std::string bytes = decoded_base64(input, alphabet, decoded);
  if (decoded.ok) EVLUA_CHECK(base64(bytes, alphabet, false) == input || base64(bytes, alphabet, true) == input);
}

void check_hex(std::string_view input) {
  std::string text(input.size() * 2, '\0');
  evlua::hex_encode(input, text.data());
  std::string back(input.size(), '\0');
  EVLUA_CHECK(evlua::hex_decode(text, back.data()).ok && back == input);
  std::string bytes(input.size() / 2, '\0');
  const Decoded decoded = evlua::hex_decode(input, bytes.data());
  EVLUA_CHECK(decoded.ok || decoded.bad_at <= input.size());
  if (!decoded.ok) return;
  std::string again(input.size(), '\0');
  evlua::hex_encode(bytes, again.data());
  EVLUA_CHECK(std::equal(again.begin(), again.end(), input.begin(), input.end(), [](char digit, char given) {
    return digit == (given >= 'A' && given <= 'F' ? static_cast<char>(given | 0x20) : given);
  }));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  check_base64(input, Base64::standard);
  check_base64(input, Base64::url);
  check_hex(input);
  return 0;
}
