// Goal: the text forms of bytes are RFC 4648's, decoding takes exactly what encoding may give, and an error says where.
#include "core/encoding.h"

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/doctest.h"

namespace evlua {
namespace {

constexpr std::string_view kStandard = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr std::string_view kUrl = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
constexpr std::array<Base64, 2> kAlphabets{Base64::standard, Base64::url};

std::string_view letters_of(Base64 alphabet) { return alphabet == Base64::url ? kUrl : kStandard; }

std::string encode(std::string_view bytes, Base64 alphabet = Base64::standard, bool padding = true) {
  // One more, to see that nothing is written beyond.
  std::string text(base64_size(bytes.size(), padding) + 1, '!');
  base64_encode(bytes, alphabet, padding, text.data());
  CHECK(text.back() == '!');
  text.pop_back();
  return text;
}

/// The memory is exactly as large as promised, so AddressSanitizer sees a byte too many.
Decoded decode(std::string_view text, std::string* bytes = nullptr, Base64 alphabet = Base64::standard) {
  std::vector<char> out(text.size() / 4 * 3 + 2);
  const std::vector<char> exact(text.begin(), text.end());
  const Decoded decoded = base64_decode({exact.data(), exact.size()}, alphabet, out.data());
  REQUIRE(decoded.size <= out.size());
  if (bytes != nullptr) bytes->assign(out.data(), decoded.size);
  return decoded;
}

Decoded unhex(std::string_view text, std::string* bytes = nullptr) {
  std::vector<char> out(text.size() / 2);
  const std::vector<char> exact(text.begin(), text.end());
  const Decoded decoded = hex_decode({exact.data(), exact.size()}, out.data());
  REQUIRE(decoded.size <= out.size());
  if (bytes != nullptr && decoded.ok) bytes->assign(out.data(), decoded.size);
  return decoded;
}

/// Where decoding fails; nothing when it does not.
std::optional<std::size_t> fails_at(std::string_view text, Base64 alphabet = Base64::standard) {
  const Decoded decoded = decode(text, nullptr, alphabet);
  return decoded.ok ? std::nullopt : std::optional(decoded.bad_at);
}

std::string bytes_of_length(std::size_t length) {
  std::string bytes;
  std::uint32_t state = static_cast<std::uint32_t>(length) * 2654435761U + 12345;
  for (std::size_t i = 0; i < length; ++i) {
    state = state * 1664525U + 1013904223U;
    bytes += static_cast<char>(state >> 24);
  }
  return bytes;
}

struct Vector {
  std::string_view bytes;
  std::string_view base64;
  std::string_view hex;
};
constexpr std::array<Vector, 7> kVectors{{{"", "", ""},
                                          {"f", "Zg==", "66"},
                                          {"fo", "Zm8=", "666f"},
                                          {"foo", "Zm9v", "666f6f"},
                                          {"foob", "Zm9vYg==", "666f6f62"},
                                          {"fooba", "Zm9vYmE=", "666f6f6261"},
                                          {"foobar", "Zm9vYmFy", "666f6f626172"}}};

TEST_CASE("the vectors of RFC 4648, section 10") {
  for (const Vector& vector : kVectors) {
    CAPTURE(vector.bytes);
    const std::string_view bare = vector.base64.substr(0, vector.base64.find('='));
    for (const Base64 alphabet : kAlphabets) {
      CHECK(encode(vector.bytes, alphabet) == vector.base64);
      CHECK(encode(vector.bytes, alphabet, false) == bare);
      std::string back;
      CHECK(decode(vector.base64, &back, alphabet).ok);
      CHECK(back == vector.bytes);
      CHECK(decode(bare, &back, alphabet).ok);
      CHECK(back == vector.bytes);
    }
    std::string digits(vector.bytes.size() * 2, '!');
    hex_encode(vector.bytes, digits.data());
    CHECK(digits == vector.hex);
    std::string back;
    CHECK(unhex(vector.hex, &back).ok);
    CHECK(back == vector.bytes);
  }
}

TEST_CASE("the two alphabets differ in their last two letters only, and do not take each other's") {
  const std::string_view bytes = "\xfb\xef\xbe\xff\xff\xff";
  CHECK(encode(bytes, Base64::standard) == "++++////");
  CHECK(encode(bytes, Base64::url) == "----____");
  for (const Base64 alphabet : kAlphabets) {
    const std::string_view own = letters_of(alphabet);
    for (int code = 0; code < 256; ++code) {
      CAPTURE(code);
      const std::string text{'A', static_cast<char>(code), 'A', 'A'};
      const std::size_t value = own.find(static_cast<char>(code));
      std::string back;
      const Decoded decoded = decode(text, &back, alphabet);
      CHECK(decoded.ok == (value != std::string_view::npos));
      if (decoded.ok) {
        CHECK(back == std::string{static_cast<char>(value >> 4), static_cast<char>((value & 15) << 4), '\0'});
      } else {
        CHECK(decoded.bad_at == 1);
      }
    }
  }
}

TEST_CASE("bytes of every length up to 300 come back, padded and bare") {
  for (std::size_t length = 0; length <= 300; ++length) {
    CAPTURE(length);
    const std::string bytes = bytes_of_length(length);
    for (const Base64 alphabet : kAlphabets) {
      for (const bool padding : {true, false}) {
        const std::string text = encode(bytes, alphabet, padding);
        CHECK(text.find_first_not_of(std::string(letters_of(alphabet)) + "=") == std::string::npos);
        std::string back;
        const Decoded decoded = decode(text, &back, alphabet);
        CHECK(decoded.ok);
        CHECK(back == bytes);
      }
    }
    std::string digits(length * 2, '!');
    hex_encode(bytes, digits.data());
    CHECK(digits.find_first_not_of("0123456789abcdef") == std::string::npos);
    std::string back;
    CHECK(unhex(digits, &back).ok);
    CHECK(back == bytes);
  }
}

TEST_CASE("a wrong character is found wherever it stands, in texts of every shape") {
  for (std::size_t length = 1; length <= 12; ++length) {
    for (const bool padding : {true, false}) {
      const std::string text = encode(bytes_of_length(length), Base64::standard, padding);
      const std::size_t letters = base64_size(length, false);
      for (std::size_t at = 0; at < letters; ++at) {
        for (const char wrong : {' ', '\n', '\r', '\0', '-', '_', '.', '*', '\x7f', '\x80', '\xff'}) {
          std::string damaged = text;
          damaged[at] = wrong;
          CAPTURE(damaged);
          CHECK(fails_at(damaged) == at);
        }
      }
      CHECK(fails_at("\n" + text) == 0u);
      CHECK(fails_at(text + "\n").has_value());
    }
  }
}

TEST_CASE("bits that no byte holds must be zero") {
  for (std::size_t value = 0; value < 64; ++value) {
    CAPTURE(value);
    const char letter = kStandard[value];
    for (const char* padding : {"", "=="}) {
      const std::string text = std::string{'Z', letter} + padding;
      CHECK(fails_at(text) == (value % 16 == 0 ? std::nullopt : std::optional<std::size_t>(1)));
    }
    for (const char* padding : {"", "="}) {
      const std::string text = std::string{'Z', 'm', letter} + padding;
      CHECK(fails_at(text) == (value % 4 == 0 ? std::nullopt : std::optional<std::size_t>(2)));
    }
    CHECK_FALSE(fails_at(std::string{'Z', 'm', '9', letter}));
  }
}

TEST_CASE("padding is whole or absent, and at the end") {
  for (const char* text :
       {"=",     "==",    "===",    "====",     "A=",       "A==",      "A===",     "AA=",      "AA===",
        "AAA==", "AAAA=", "AAAA==", "AAAA===",  "AAAA====", "AA==AA==", "AA==AAAA", "AAA=AAAA", "=AAA",
        "A=AA",  "AA=A",  "AAAAA",  "AAAAA===", "Zg==\n",   "Zg= =",    "AAAAAAAAA"}) {
    CAPTURE(text);
    const std::optional<std::size_t> at = fails_at(text);
    CHECK(at.has_value());
    if (at) CHECK(*at < std::string_view(text).size());
  }
  CHECK(fails_at("AAAAA") == 4u);
  CHECK(fails_at("AA=") == 2u);
  CHECK(fails_at("AAAA====") == 4u);
}

TEST_CASE("hexadecimal takes either case, and says where it is wrong") {
  std::string back;
  CHECK(unhex("00fFAb9C", &back).ok);
  CHECK(back == std::string("\x00\xff\xab\x9c", 4));
  const std::string_view digits = "0123456789abcdefABCDEF";
  for (int code = 0; code < 256; ++code) {
    CAPTURE(code);
    const bool digit = digits.find(static_cast<char>(code)) != std::string_view::npos;
    for (std::size_t at = 0; at < 6; ++at) {
      std::string text = "123456";
      text[at] = static_cast<char>(code);
      const Decoded decoded = unhex(text);
      CHECK(decoded.ok == digit);
      if (!digit) CHECK(decoded.bad_at == at);
    }
  }
  for (std::size_t length = 1; length < 20; length += 2) {
    const Decoded decoded = unhex(std::string(length, 'a'));
    CHECK_FALSE(decoded.ok);
    CHECK(decoded.bad_at == length);
  }
  // The first wrong place, also in a text of odd length.
  CHECK(unhex("12x").bad_at == 2);
  CHECK(unhex("x23").bad_at == 0);
}

}  // namespace
}  // namespace evlua
