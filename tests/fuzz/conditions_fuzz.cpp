// Conditions of requests: lists of entity tags, dates, and If-Range with its Range. Each line of the input is a field,
// which one its first byte says; the first byte of all chooses the method, and what there is.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/check.h"
#include "net/http/conditions.h"
#include "net/http/dates.h"
#include "net/http/ranges.h"
#include "net/http/syntax.h"

namespace {

using namespace evlua::http;

constexpr std::string_view kStrong = "\"a\"";
constexpr std::string_view kWeak = "W/\"a\"";
constexpr std::int64_t kModified = 784'111'777;  // Sun, 06 Nov 1994 08:49:37 GMT

using Field = std::optional<std::string_view>;

/// If-None-Match says that it is there.
bool weakly(std::string_view list, std::string_view etag) {
  ConditionFields fields;
  fields.if_none_match = list;
  return check_conditions(fields, {etag, std::nullopt}) == Condition::not_modified;
}

/// If-Match does.
bool strongly(std::string_view list, std::string_view etag) {
  ConditionFields fields;
  fields.if_match = list;
  return check_conditions(fields, {etag, std::nullopt}) != Condition::failed;
}

void check_list(std::string_view list) {
  const bool any = trim(list) == "*";
  const bool weak = weakly(list, kStrong);
  const bool strong = strongly(list, kStrong);
  EVLUA_CHECK(weak == weakly(list, kWeak));  // what is compared weakly does not tell them apart
  EVLUA_CHECK(any || !strongly(list, kWeak));
  EVLUA_CHECK(weak || !strong);
  EVLUA_CHECK(any == weakly(list, {}));
  if (any) return;
  EVLUA_CHECK(!weak || list.find(kStrong) != std::string_view::npos);
  const std::string behind = "\"zz\", W/\"z\" ,, " + std::string(list);
  EVLUA_CHECK(weakly(behind, kStrong) == weak && strongly(behind, kStrong) == strong);
  const std::string before = std::string(list) + ", \"zz\"";
  EVLUA_CHECK((!weak || weakly(before, kStrong)) && (!strong || strongly(before, kStrong)));
  const std::string named = "W/" + std::string(kStrong) + "," + std::string(list);
  EVLUA_CHECK(weakly(named, kStrong) && strongly(named, kStrong) == strong);
}

/// What all fields together say, from what each of them does.
void check_order(const ConditionFields& fields, const Validators& validators) {
  const Condition condition = check_conditions(fields, validators);
  Condition expected = Condition::met;
  const auto since = [](Field field) { return field ? parse_date(*field) : std::nullopt; };
  const auto unmodified = since(fields.if_unmodified_since);
  const auto modified = since(fields.if_modified_since);
  const bool dated = validators.last_modified.has_value();
  const bool holds = fields.if_match ? strongly(*fields.if_match, validators.etag)
                                     : !unmodified || !dated || *validators.last_modified <= *unmodified;
  if (!holds) {
    expected = Condition::failed;
  } else if (fields.if_none_match) {
    if (weakly(*fields.if_none_match, validators.etag)) {
      expected = fields.reads ? Condition::not_modified : Condition::failed;
    }
  } else if (fields.reads && modified && dated && *validators.last_modified <= *modified) {
    expected = Condition::not_modified;
  }
  EVLUA_CHECK(condition == expected);
}

void check_range(Field if_range, Field range, const Validators& validators) {
  const bool plain = range_applies(if_range, validators, false);
  const bool encoded = range_applies(if_range, validators, true);
  EVLUA_CHECK(plain || !encoded);
  if (!if_range) EVLUA_CHECK(plain && encoded);
  if (if_range && plain) {
    const bool by_tag = *if_range == validators.etag && !if_range->starts_with("W/");
    const bool by_date = validators.last_modified && parse_date(*if_range) == validators.last_modified;
    EVLUA_CHECK((by_tag || by_date) && (by_tag || !encoded));
  }
  if (!range || !plain) return;
  for (const ByteRange& part : parse_ranges(*range, 1000).ranges) EVLUA_CHECK(part.first + part.size <= 1000);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  ConditionFields fields;
  Field if_range;
  Field range;
  const std::array<Field*, 6> places = {&fields.if_match,
                                        &fields.if_none_match,
                                        &fields.if_modified_since,
                                        &fields.if_unmodified_since,
                                        &if_range,
                                        &range};
  while (!rest.empty()) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    if (line.empty()) continue;
    const std::string_view value = trim(line.substr(1));
    *places[static_cast<unsigned char>(line[0]) % places.size()] = value;
    check_list(value);
  }
  fields.reads = (data[0] & 1) == 0;
  Validators validators;
  if ((data[0] & 2) == 0) validators.last_modified = kModified;
  if ((data[0] & 4) == 0) validators.etag = (data[0] & 8) == 0 ? kStrong : kWeak;
  check_order(fields, validators);
  check_range(if_range, range, validators);
  return 0;
}
