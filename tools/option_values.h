// What values options take. Unlike CLI11's own checks: a number is all of the text, decimal and finite, and what may be
// given is said so that it can be read.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>

namespace evlua::tools {

/// More than any machine has.
inline constexpr std::uint64_t kOptionBytesMax = std::uint64_t{1} << 50;
inline constexpr std::uint64_t kOptionCountMax = 1'000'000'000;
inline constexpr double kOptionSecondsMax = 1e9;

/// For Option::transform: digits only.
CLI::Validator whole_number(std::uint64_t least, std::uint64_t most);
/// For Option::check: fractions are allowed.
CLI::Validator seconds_from(double least, double most = kOptionSecondsMax);
/// For Option::check: what a header may have as its value.
CLI::Validator header_value();

}  // namespace evlua::tools
