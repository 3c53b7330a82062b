#include "core/encoding.h"

#include <array>
#include <cstdint>

namespace evlua {

namespace {

constexpr std::string_view kStandard = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr std::string_view kUrl = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
constexpr std::string_view kHex = "0123456789abcdef";

using Table = std::array<std::int8_t, 256>;

constexpr Table values_of(std::string_view alphabet) {
  Table table{};
  for (std::int8_t& value : table) value = -1;
  for (std::size_t i = 0; i < alphabet.size(); ++i) {
    table[static_cast<unsigned char>(alphabet[i])] = static_cast<std::int8_t>(i);
  }
  return table;
}

constexpr Table hex_values() {
  Table table = values_of(kHex);
  for (int i = 0; i < 6; ++i) table[static_cast<std::size_t>('A' + i)] = static_cast<std::int8_t>(10 + i);
  return table;
}

constexpr Table kStandardValues = values_of(kStandard);
constexpr Table kUrlValues = values_of(kUrl);
constexpr Table kHexValues = hex_values();

constexpr std::uint32_t byte_at(std::string_view bytes, std::size_t index) {
  return static_cast<unsigned char>(bytes[index]);
}

}  // namespace

void base64_encode(std::string_view bytes, Base64 alphabet, bool padding, char* out) noexcept {
  const std::string_view letters = alphabet == Base64::url ? kUrl : kStandard;
  std::size_t i = 0;
  for (; i + 3 <= bytes.size(); i += 3) {
    const std::uint32_t group = byte_at(bytes, i) << 16 | byte_at(bytes, i + 1) << 8 | byte_at(bytes, i + 2);
    *out++ = letters[group >> 18];
    *out++ = letters[group >> 12 & 63];
    *out++ = letters[group >> 6 & 63];
    *out++ = letters[group & 63];
  }
  const std::size_t rest = bytes.size() - i;
  if (rest == 0) return;
  const std::uint32_t group = byte_at(bytes, i) << 16 | (rest == 2 ? byte_at(bytes, i + 1) << 8 : 0);
  *out++ = letters[group >> 18];
  *out++ = letters[group >> 12 & 63];
  if (rest == 2) *out++ = letters[group >> 6 & 63];
  if (!padding) return;
  if (rest == 1) *out++ = '=';
  *out++ = '=';
}

Decoded base64_decode(std::string_view text, Base64 alphabet, char* out) noexcept {
  const Table& values = alphabet == Base64::url ? kUrlValues : kStandardValues;
  std::size_t letters = text.size();
  if (letters % 4 == 0 && letters > 0 && text[letters - 1] == '=') {
    letters -= text[letters - 2] == '=' ? 2 : 1;
  }
  std::uint32_t group = 0;
  std::size_t size = 0;
  for (std::size_t i = 0; i < letters; ++i) {
    const std::int8_t value = values[static_cast<unsigned char>(text[i])];
    if (value < 0) return {size, i, false};
    group = group << 6 | static_cast<std::uint32_t>(value);
    if (i % 4 == 3) {
      out[size++] = static_cast<char>(group >> 16);
      out[size++] = static_cast<char>(group >> 8);
      out[size++] = static_cast<char>(group);
      group = 0;
    }
  }
  const std::size_t rest = letters % 4;
  if (rest == 0) return {size, 0, true};
  if (rest == 1) return {size, letters - 1, false};
  const std::uint32_t unused = rest == 2 ? group & 15 : group & 3;
  if (unused != 0) return {size, letters - 1, false};
  group <<= rest == 2 ? 12 : 6;
  out[size++] = static_cast<char>(group >> 16);
  if (rest == 3) out[size++] = static_cast<char>(group >> 8);
  return {size, 0, true};
}

void hex_encode(std::string_view bytes, char* out) noexcept {
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    *out++ = kHex[byte_at(bytes, i) >> 4];
    *out++ = kHex[byte_at(bytes, i) & 15];
  }
}

Decoded hex_decode(std::string_view text, char* out) noexcept {
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (kHexValues[static_cast<unsigned char>(text[i])] < 0) return {i / 2, i, false};
  }
  if (text.size() % 2 != 0) return {text.size() / 2, text.size(), false};
  for (std::size_t i = 0; i < text.size(); i += 2) {
    const std::int8_t high = kHexValues[static_cast<unsigned char>(text[i])];
    const std::int8_t low = kHexValues[static_cast<unsigned char>(text[i + 1])];
    out[i / 2] = static_cast<char>(high * 16 + low);
  }
  return {text.size() / 2, 0, true};
}

}  // namespace evlua
