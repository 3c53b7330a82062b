// JsonScanner: what the vector instructions find in a JSON text, before anything is made of it.
//
// Stage 1 of simdjson lists where tokens begin, and refuses what is no UTF-8, strings that do not end and control
// characters in them. A second pass over that list counts what each bracket holds, so that every table is made in its
// final size. The grammar is not checked here; see json_decode.cpp.
//
// A scanner keeps its memory for the next text, unless that was a large one. One thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

namespace simdjson::internal {
class dom_parser_implementation;
}

namespace evlua::lua {

/// Why a text was refused, and where.
struct JsonFault {
  enum class Kind { none, invalid, limit, memory };

  Kind kind = Kind::none;
  const char* what = "";
  std::size_t at = 0;
};

/// A bracket that opens, and what belongs to it.
struct JsonBracket {
  std::uint32_t parent;  ///< index of the bracket around it, or kNoBracket
  std::uint32_t commas;  ///< directly in it
};
inline constexpr std::uint32_t kNoBracket = UINT32_MAX;

class JsonScanner {
 public:
  JsonScanner();
  ~JsonScanner();
  JsonScanner(const JsonScanner&) = delete;
  JsonScanner& operator=(const JsonScanner&) = delete;

  /// REQUIRES: a zero byte behind `text`, as behind Lua's strings.
  JsonFault scan(std::string_view text, std::uint32_t depth_max) noexcept;

  // After a scan without fault:
  /// Offsets of the tokens; behind the last, the size of the text.
  const std::uint32_t* tokens() const noexcept;
  /// In the order of the text. The decoder counts in them.
  JsonBracket* brackets() noexcept { return brackets_.data(); }
  /// How deep they are nested; 0 where there are none.
  std::uint32_t depth() const noexcept { return depth_; }

  /// Gives back what a large text took.
  void trim() noexcept;

 private:
  JsonFault index(std::string_view text);
  JsonFault count(std::string_view text, std::uint32_t depth_max);

  std::unique_ptr<simdjson::internal::dom_parser_implementation> parser_;
  std::vector<JsonBracket> brackets_;
  std::uint32_t depth_ = 0;
};

/// The offset of the first byte that is not UTF-8 (RFC 3629), or npos.
std::size_t find_invalid_utf8(std::string_view text) noexcept;

}  // namespace evlua::lua
