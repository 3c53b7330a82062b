// The grammars of header fields: whatever comes in, what comes out is within its bounds.
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "net/http/accept.h"
#include "net/http/dates.h"
#include "net/http/media_types.h"
#include "net/http/ranges.h"

namespace {

void check(bool condition) {
  if (!condition) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace evlua::http;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  for (const std::uint64_t length : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{1000}, std::uint64_t{1} << 40}) {
    const Ranges parsed = parse_ranges(input, length);
    check((parsed.outcome == Ranges::Outcome::some) == !parsed.ranges.empty());
    std::uint64_t total = 0;
    for (const ByteRange& range : parsed.ranges) {
      check(range.size > 0 && range.first < length && range.size <= length - range.first);
      total += range.size;
    }
    check(total <= length && parsed.ranges.size() <= 16);
  }
  const int weight = coding_weight(input, "gzip");
  check(weight >= 0 && weight <= 1000);
  constexpr std::array<std::string_view, 2> kOffers = {"text/html", "en"};
  check(choose_media_type(input, kOffers).value_or(0) < kOffers.size());
  check(choose_language(input, kOffers).value_or(0) < kOffers.size());
  if (const auto date = parse_date(input); date) check(parse_date(format_date(*date)) == date);
  check(!media_type_of(input).empty());
  static_cast<void>(is_compressible(input));
  return 0;
}
