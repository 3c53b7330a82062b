// The fields that came behind a body (RFC 9110, 6.5). They are kept apart from the head's, and those that nobody may
// act upon so late are left out: framing, routing, authentication, conditions, and what says how to read the content.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "core/bytes.h"
#include "net/http/parser.h"

namespace evlua::http {

/// Whether a field of that name, whatever its case, may come behind a body.
bool allowed_in_trailers(std::string_view name) noexcept;

class Trailers {
 public:
  /// Drops what is not allowed. REQUIRES: a valid name and value.
  void add(std::string_view name, std::string_view value);
  /// All lines of a section: each a name, a colon, a value, and CRLF.
  void add_section(std::string_view section);

  /// What adding has taken, dropped fields included, as bytes of a section.
  std::size_t section_bytes() const noexcept { return section_bytes_; }

  std::size_t count() const noexcept { return fields_.size(); }
  HeaderField at(std::size_t index) const noexcept;
  /// The first of that name, whatever its case.
  std::optional<std::string_view> find(std::string_view name) const noexcept;

 private:
  struct Field {
    std::uint32_t at;
    std::uint32_t name_bytes;
    std::uint32_t value_bytes;
  };

  Bytes bytes_;
  std::vector<Field> fields_;
  std::size_t section_bytes_ = 0;
};

}  // namespace evlua::http
