#include "lua/json_scan.h"

#include <simdjson.h>

#include <algorithm>
#include <new>

namespace evlua::lua {

namespace {

// Per byte of a text the index takes four; together with the brackets about 1 MiB stay.
constexpr std::size_t kKeptText = std::size_t{128} << 10;
constexpr std::size_t kKeptBrackets = std::size_t{32} << 10;
constexpr std::size_t kSmallestText = std::size_t{4} << 10;

/// How many bytes the character at `at` has; 0 if it is no UTF-8.
std::size_t utf8_length(const unsigned char* at, std::size_t left) noexcept {
  const unsigned char lead = at[0];
  if (lead < 0x80) return 1;
  const std::size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || left < length) return 0;
  // The second byte rules out overlong forms, surrogates, and what is beyond U+10FFFF.
  const unsigned char low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
  const unsigned char high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
  if (at[1] < low || at[1] > high) return 0;
  for (std::size_t i = 2; i < length; ++i) {
    if ((at[i] & 0xc0) != 0x80) return 0;
  }
  return length;
}

/// Where stage 1 met what it refused; it tells only that there is something.
JsonFault find_bad_string(std::string_view text) noexcept {
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '"') continue;
    const std::size_t start = i++;
    for (; i < text.size() && text[i] != '"'; ++i) {
      if (static_cast<unsigned char>(text[i]) < 0x20) {
        return {JsonFault::Kind::invalid, "control character in a string", i};
      }
      if (text[i] == '\\') ++i;
    }
    if (i >= text.size()) return {JsonFault::Kind::invalid, "string without an end", start};
  }
  return {JsonFault::Kind::invalid, "a string is broken", 0};
}

}  // namespace

std::size_t find_invalid_utf8(std::string_view text) noexcept {
  if (simdjson::validate_utf8(text.data(), text.size())) return std::string_view::npos;
  const auto* bytes = reinterpret_cast<const unsigned char*>(text.data());
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t length = utf8_length(bytes + i, text.size() - i);
    if (length == 0) return i;
    i += length;
  }
  return std::string_view::npos;
}

JsonScanner::JsonScanner() = default;
JsonScanner::~JsonScanner() = default;

JsonFault JsonScanner::scan(std::string_view text, std::uint32_t depth_max) noexcept {
  try {
    const JsonFault fault = index(text);
    return fault.kind == JsonFault::Kind::none ? count(text, depth_max) : fault;
  } catch (const std::bad_alloc&) {
    return {JsonFault::Kind::memory, "", 0};
  }
}

const std::uint32_t* JsonScanner::tokens() const noexcept { return parser_->structural_indexes.get(); }

JsonFault JsonScanner::index(std::string_view text) {
  if (parser_ == nullptr || parser_->capacity() < text.size()) {
    const std::size_t kept = parser_ == nullptr ? kSmallestText : std::min(parser_->capacity() * 2, kKeptText);
    const auto made = simdjson::get_active_implementation()->create_dom_parser_implementation(
        std::max(text.size(), kept), 1, parser_);
    if (made == simdjson::CAPACITY) return {JsonFault::Kind::limit, "text of 4 GiB or more", 0};
    if (made != simdjson::SUCCESS) {
      parser_.reset();
      return {JsonFault::Kind::memory, "", 0};
    }
  }
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(text.data());
  switch (parser_->stage1(bytes, text.size(), simdjson::stage1_mode::regular)) {
    case simdjson::SUCCESS: return {};
    case simdjson::EMPTY: return {JsonFault::Kind::invalid, "no value", text.size()};
    case simdjson::UTF8_ERROR: return {JsonFault::Kind::invalid, "not UTF-8", find_invalid_utf8(text)};
    default: return find_bad_string(text);
  }
}

JsonFault JsonScanner::count(std::string_view text, std::uint32_t depth_max) {
  const std::uint32_t* token = tokens();
  const std::uint32_t* const end = token + parser_->n_structural_indexes;
  brackets_.clear();
  depth_ = 0;
  std::uint32_t open = kNoBracket, depth = 0, commas = 0;
  for (; token != end; ++token) {
    switch (text[*token]) {
      case '[':
      case '{':
        if (depth == depth_max) return {JsonFault::Kind::limit, "nested too deeply", *token};
        depth_ = std::max(depth_, ++depth);
        if (open != kNoBracket) brackets_[open].commas = commas;
        brackets_.push_back({open, 0});
        open = static_cast<std::uint32_t>(brackets_.size() - 1);
        commas = 0;
        break;
      case ']':
      case '}':
        if (open == kNoBracket) return {};  // the decoder does not get that far
        brackets_[open].commas = commas;
        open = brackets_[open].parent;
        commas = open == kNoBracket ? 0 : brackets_[open].commas;
        --depth;
        break;
      case ',': ++commas; break;
      default: break;
    }
  }
  return {};
}

void JsonScanner::trim() noexcept {
  if (parser_ != nullptr && parser_->capacity() > kKeptText) parser_.reset();
  if (brackets_.capacity() > kKeptBrackets) brackets_ = {};
}

}  // namespace evlua::lua
