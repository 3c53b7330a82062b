#include "net/http/accept.h"

#include <algorithm>

#include "net/http/syntax.h"

namespace evlua::http {

namespace {

/// qvalue, in thousandths; what is none counts as 0: better not sent than sent to somebody who cannot read it.
int parse_weight(std::string_view text) noexcept {
  if (text.empty() || (text[0] != '0' && text[0] != '1') || text.size() > 5) return 0;
  if (text.size() > 1 && text[1] != '.') return 0;
  int weight = (text[0] - '0') * 1000;
  int unit = 100;
  for (const char byte : text.substr(std::min<std::size_t>(2, text.size()))) {
    if (!is_digit(byte)) return 0;
    weight += (byte - '0') * unit;
    unit /= 10;
  }
  return std::min(weight, 1000);
}

struct Element {
  std::string_view value;
  int weight = 1000;
};

/// Takes the next element of a list; false at its end.
bool next_element(std::string_view& list, Element& element) noexcept {
  while (!list.empty()) {
    const std::size_t comma = std::min(list.find(','), list.size());
    std::string_view item = trim(list.substr(0, comma));
    list.remove_prefix(std::min(comma + 1, list.size()));
    if (item.empty()) continue;
    std::size_t semicolon = std::min(item.find(';'), item.size());
    element = {trim(item.substr(0, semicolon)), 1000};
    item.remove_prefix(semicolon);
    while (!item.empty()) {
      item.remove_prefix(1);
      semicolon = std::min(item.find(';'), item.size());
      const std::string_view parameter = trim(item.substr(0, semicolon));
      if (parameter.size() >= 2 && to_lower(parameter[0]) == 'q' && parameter[1] == '=') {
        element.weight = parse_weight(parameter.substr(2));
      }
      item.remove_prefix(semicolon);
    }
    return true;
  }
  return false;
}

/// How well `range` describes `type`: 0 not at all, 3 exactly.
int media_match(std::string_view range, std::string_view type) noexcept {
  if (equal_ignoring_case(range, type)) return 3;
  if (range == "*/*") return 1;
  const bool family = range.ends_with("/*") && type.size() >= range.size() &&
                      equal_ignoring_case(range.substr(0, range.size() - 1), type.substr(0, range.size() - 1));
  return family ? 2 : 0;
}

int language_match(std::string_view range, std::string_view tag) noexcept {
  if (range == "*") return 1;
  const bool begins = tag.size() >= range.size() && equal_ignoring_case(range, tag.substr(0, range.size()));
  if (!begins || (tag.size() > range.size() && tag[range.size()] != '-')) return 0;
  return 1 + static_cast<int>(range.size());
}

using Match = int (*)(std::string_view, std::string_view) noexcept;

std::optional<std::size_t> choose(std::string_view list, std::span<const std::string_view> offers,
                                  Match match) noexcept {
  std::optional<std::size_t> best;
  int best_weight = 0;
  for (std::size_t index = 0; index < offers.size(); ++index) {
    int closest = 0;
    int weight = 0;
    std::string_view rest = list;
    for (Element element; next_element(rest, element);) {
      const int close = match(element.value, offers[index]);
      if (close <= closest) continue;
      closest = close;
      weight = element.weight;
    }
    if (weight <= best_weight) continue;
    best = index;
    best_weight = weight;
  }
  return best;
}

}  // namespace

int coding_weight(std::string_view accept_encoding, std::string_view coding) noexcept {
  int weight = coding == "identity" ? 1000 : 0;
  for (Element element; next_element(accept_encoding, element);) {
    if (equal_ignoring_case(element.value, coding)) return element.weight;
    if (element.value == "*") weight = element.weight;
  }
  return weight;
}

int identity_weight(std::string_view accept_encoding) noexcept {
  for (Element element; next_element(accept_encoding, element);) {
    if (equal_ignoring_case(element.value, "identity")) return element.weight;
  }
  return 0;
}

std::optional<std::size_t> choose_media_type(std::string_view accept,
                                             std::span<const std::string_view> offers) noexcept {
  if (trim(accept).empty()) return offers.empty() ? std::nullopt : std::optional<std::size_t>(0);
  return choose(accept, offers, media_match);
}

std::optional<std::size_t> choose_language(std::string_view accept, std::span<const std::string_view> offers) noexcept {
  if (trim(accept).empty()) return offers.empty() ? std::nullopt : std::optional<std::size_t>(0);
  return choose(accept, offers, language_match);
}

}  // namespace evlua::http
