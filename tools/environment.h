// Numbers in environment variables.
#pragma once

#include <charconv>
#include <cstdlib>
#include <optional>
#include <string_view>

namespace evlua::tools {

/// Empty when there is no such variable, or it is no number.
inline std::optional<long long> number_in_environment(const char* name) noexcept {
  const char* text = std::getenv(name);
  if (text == nullptr) return std::nullopt;
  const std::string_view digits(text);
  long long number = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return number;
}

}  // namespace evlua::tools
