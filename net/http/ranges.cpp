#include "net/http/ranges.h"

#include <algorithm>
#include <optional>

#include "net/http/syntax.h"

namespace evlua::http {

namespace {

constexpr std::size_t kRangesMax = 16;

/// Digits; more than fit are as good as the largest number.
std::optional<std::uint64_t> parse_position(std::string_view text) noexcept {
  if (text.empty()) return std::nullopt;
  std::uint64_t value = 0;
  for (const char byte : text) {
    if (!is_digit(byte)) return std::nullopt;
    if (value > (std::uint64_t{1} << 59)) return std::uint64_t{1} << 62;
    value = value * 10 + static_cast<std::uint64_t>(byte - '0');
  }
  return value;
}

/// False: this is not the syntax. A range that has nothing of the body comes out empty.
bool parse_range(std::string_view text, std::uint64_t size, ByteRange& range) noexcept {
  const std::size_t dash = text.find('-');
  if (dash == std::string_view::npos) return false;
  const std::optional<std::uint64_t> last = parse_position(text.substr(dash + 1));
  if (dash == 0) {
    if (!last) return false;
    const std::uint64_t suffix = std::min(*last, size);
    range = {size - suffix, suffix};
    return true;
  }
  const std::optional<std::uint64_t> first = parse_position(text.substr(0, dash));
  if (!first || (dash + 1 < text.size() && !last)) return false;
  if (last && *last < *first) return false;
  const std::uint64_t from = std::min(*first, size);
  range = {from, (last ? std::min(*last, size - 1) + 1 : size) - from};
  if (from == size) range.size = 0;
  return true;
}

}  // namespace

Ranges parse_ranges(std::string_view field, std::uint64_t size) {
  Ranges result;
  if (!equal_ignoring_case(field.substr(0, 6), "bytes=")) return result;
  field.remove_prefix(6);
  std::uint64_t total = 0;
  std::size_t asked = 0;
  while (true) {
    const std::size_t comma = std::min(field.find(','), field.size());
    const std::string_view part = trim(field.substr(0, comma));
    ByteRange range;
    if (!part.empty()) {
      if (!parse_range(part, size, range) || ++asked > kRangesMax) return {};
      if (range.size > 0) result.ranges.push_back(range);
      total += range.size;
    }
    if (comma == field.size()) break;
    field.remove_prefix(comma + 1);
  }
  if (asked == 0 || total > size) return {};
  result.outcome = result.ranges.empty() ? Ranges::Outcome::none : Ranges::Outcome::some;
  return result;
}

}  // namespace evlua::http
