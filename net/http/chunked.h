// The chunked transfer coding, strictly: hexadecimal sizes of at most 16 digits, CRLF and nothing else at line ends,
// bounded extensions and trailers. Trailer fields never become header fields.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "core/bytes.h"
#include "net/http/limits.h"

namespace evlua::http {

class ChunkedDecoder {
 public:
  enum class Outcome : std::uint8_t {
    more,     ///< the input is used up
    data,     ///< `piece` is the next part of the body
    end,      ///< the last chunk and the trailers were read
    invalid,  ///< not a chunked body
  };

  void reset() noexcept { *this = ChunkedDecoder(); }

  /// Consumes from the front of `input`. `piece` points into it and has at most `piece_bytes` bytes.
  Outcome decode(std::string_view& input, std::size_t piece_bytes, const Limits& limits,
                 std::string_view& piece) noexcept;

  /// The field lines behind the last chunk, each with its CRLF. REQUIRES: decode has said `end`.
  std::string_view trailer_section() const noexcept { return trailer_section_.view(); }

 private:
  enum class State : std::uint8_t {
    size_first,
    size,
    extension_name_first,
    extension_name,
    extension_value_first,
    extension_value,
    extension_quoted,
    extension_escape,
    extension_end,
    size_lf,
    data,
    data_cr,
    data_lf,
    trailer_start,
    trailer_name,
    trailer_value,
    trailer_lf,
    end_lf,
    ended,
    invalid,
  };

  State next(char byte, const Limits& limits) noexcept;
  State next_in_size(char byte) noexcept;
  State next_in_extension(char byte) const noexcept;
  State next_in_trailer(char byte) const noexcept;
  State take_trailer_byte(char byte, const Limits& limits) noexcept;

  std::uint64_t remaining_ = 0;  // of the chunk
  Bytes trailer_section_;
  std::uint32_t extension_bytes_ = 0;
  State state_ = State::size_first;
  std::uint8_t digits_ = 0;
};

}  // namespace evlua::http
