// Range requests (RFC 9110, 14).
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace evlua::http {

struct ByteRange {
  std::uint64_t first = 0;
  std::uint64_t size = 0;
  bool operator==(const ByteRange&) const = default;
};

struct Ranges {
  enum class Outcome : std::uint8_t {
    whole,  ///< no Range field that concerns us: answer as if there were none
    some,
    none,  ///< what is asked for is not there: 416
  };
  Outcome outcome = Outcome::whole;
  std::vector<ByteRange> ranges;  ///< in the order asked for
};

/// `field` is the value of Range. What asks for more than it should (many ranges, or overlapping ones that sum up to
/// more than there is) gets the whole.
Ranges parse_ranges(std::string_view field, std::uint64_t size);

}  // namespace evlua::http
