// Short keys, hashed and compared without a call.
#pragma once

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace evlua::detail {

template <class T>
std::uint64_t load_word(const char* bytes) noexcept {
  T word;
  std::memcpy(&word, bytes, sizeof word);
  return word;
}

/// Both halves of the product, folded.
inline std::uint64_t fold(std::uint64_t a, std::uint64_t b) noexcept {
  __extension__ using Wide = unsigned __int128;
  const Wide product = Wide{a} * b;
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

/// As wyhash does it for short keys.
inline std::uint64_t hash_key(std::string_view key, std::uint64_t seed) noexcept {
  const std::size_t size = key.size();
  const char* bytes = key.data();
  if (size > 16) return XXH3_64bits_withSeed(bytes, size, seed);
  std::uint64_t a = 0;
  std::uint64_t b = 0;
  if (size >= 8) {
    a = load_word<std::uint64_t>(bytes);
    b = load_word<std::uint64_t>(bytes + size - 8);
  } else if (size >= 4) {
    a = load_word<std::uint32_t>(bytes);
    b = load_word<std::uint32_t>(bytes + size - 4);
  } else if (size > 0) {
    a = load_word<std::uint8_t>(bytes);
    b = (load_word<std::uint8_t>(bytes + size / 2) << 8) | load_word<std::uint8_t>(bytes + size - 1);
  }
  return fold(fold(a ^ seed, b ^ std::rotl(seed, 32)) ^ size, seed | 1);
}

/// memcmp is a call; keys are short.
inline bool same_bytes(const char* a, const char* b, std::size_t size) noexcept {
  if (size > 16) return std::memcmp(a, b, size) == 0;
  if (size >= 8) {
    return load_word<std::uint64_t>(a) == load_word<std::uint64_t>(b) &&
           load_word<std::uint64_t>(a + size - 8) == load_word<std::uint64_t>(b + size - 8);
  }
  if (size >= 4) {
    return load_word<std::uint32_t>(a) == load_word<std::uint32_t>(b) &&
           load_word<std::uint32_t>(a + size - 4) == load_word<std::uint32_t>(b + size - 4);
  }
  for (std::size_t i = 0; i < size; ++i) {
    if (a[i] != b[i]) return false;
  }
  return true;
}

}  // namespace evlua::detail
