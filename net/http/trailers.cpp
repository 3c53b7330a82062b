#include "net/http/trailers.h"

#include <algorithm>
#include <array>

#include "net/http/syntax.h"

namespace evlua::http {

namespace {

// Of framing, routing, requests and their conditions, authentication, content, responses.
// clang-format off
constexpr auto kForbidden = std::to_array<std::string_view>({
    "connection", "content-length", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade",
    "forwarded", "host",
    "cache-control", "expect", "max-forwards", "pragma", "range",
    "authorization", "cookie", "set-cookie", "www-authenticate",
    "content-encoding", "content-range", "content-type",
    "age", "date", "expires", "location", "retry-after", "vary", "warning",
});
// clang-format on
constexpr auto kForbiddenFamilies = std::to_array<std::string_view>({"if-", "proxy-", "x-forwarded-"});

}  // namespace

bool allowed_in_trailers(std::string_view name) noexcept {
  const auto is_it = [name](std::string_view known) { return equal_ignoring_case(name, known); };
  const auto is_of = [name](std::string_view family) {
    return equal_ignoring_case(name.substr(0, family.size()), family);
  };
  return std::none_of(kForbidden.begin(), kForbidden.end(), is_it) &&
         std::none_of(kForbiddenFamilies.begin(), kForbiddenFamilies.end(), is_of);
}

void Trailers::add(std::string_view name, std::string_view value) {
  constexpr std::size_t kPunctuation = 4;  // ": ", CRLF
  section_bytes_ += name.size() + value.size() + kPunctuation;
  if (!allowed_in_trailers(name)) return;
  fields_.push_back({static_cast<std::uint32_t>(bytes_.size()), static_cast<std::uint32_t>(name.size()),
                     static_cast<std::uint32_t>(value.size())});
  bytes_.append(name);
  bytes_.append(value);
}

void Trailers::add_section(std::string_view section) {
  while (!section.empty()) {
    const std::size_t end = std::min(section.find("\r\n"), section.size());
    const std::string_view line = section.substr(0, end);
    section.remove_prefix(std::min(end + 2, section.size()));
    const std::size_t colon = std::min(line.find(':'), line.size());
    add(line.substr(0, colon), trim(line.substr(std::min(colon + 1, line.size()))));
  }
}

HeaderField Trailers::at(std::size_t index) const noexcept {
  const Field& field = fields_[index];
  const std::string_view all = bytes_.view();
  return {all.substr(field.at, field.name_bytes), all.substr(field.at + field.name_bytes, field.value_bytes)};
}

std::optional<std::string_view> Trailers::find(std::string_view name) const noexcept {
  for (std::size_t index = 0; index < count(); ++index) {
    const HeaderField field = at(index);
    if (equal_ignoring_case(field.name, name)) return field.value;
  }
  return std::nullopt;
}

}  // namespace evlua::http
