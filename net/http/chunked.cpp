#include "net/http/chunked.h"

#include <algorithm>

#include "net/http/syntax.h"

namespace evlua::http {

namespace {

std::uint64_t hex_value(char digit) noexcept {
  if (is_digit(digit)) return static_cast<std::uint64_t>(digit - '0');
  return static_cast<std::uint64_t>(to_lower(digit) - 'a') + 10;
}

}  // namespace

ChunkedDecoder::Outcome ChunkedDecoder::decode(std::string_view& input, std::size_t piece_bytes, const Limits& limits,
                                               std::string_view& piece) noexcept {
  while (state_ != State::ended) {
    if (state_ == State::invalid) return Outcome::invalid;
    if (input.empty()) return Outcome::more;
    if (state_ == State::data) {
      const std::uint64_t most = std::min<std::uint64_t>({remaining_, piece_bytes, input.size()});
      piece = input.substr(0, static_cast<std::size_t>(most));
      input.remove_prefix(piece.size());
      remaining_ -= most;
      if (remaining_ == 0) state_ = State::data_cr;
      return Outcome::data;
    }
    state_ = next(input.front(), limits);
    if (state_ != State::invalid) input.remove_prefix(1);
  }
  return Outcome::end;
}

ChunkedDecoder::State ChunkedDecoder::next(char byte, const Limits& limits) noexcept {
  switch (state_) {
    case State::size_first:
    case State::size: return next_in_size(byte);
    case State::extension_name_first:
    case State::extension_name:
    case State::extension_value_first:
    case State::extension_value:
    case State::extension_quoted:
    case State::extension_escape:
    case State::extension_end:
      if (++extension_bytes_ > limits.chunk_extension_bytes) return State::invalid;
      return next_in_extension(byte);
    case State::size_lf:
      if (byte != '\n') return State::invalid;
      return remaining_ == 0 ? State::trailer_start : State::data;
    case State::data_cr: return byte == '\r' ? State::data_lf : State::invalid;
    case State::data_lf: return byte == '\n' ? State::size_first : State::invalid;
    case State::end_lf: return byte == '\n' ? State::ended : State::invalid;
    default: return take_trailer_byte(byte, limits);
  }
}

ChunkedDecoder::State ChunkedDecoder::next_in_size(char byte) noexcept {
  if (state_ == State::size_first) {
    remaining_ = 0;
    digits_ = 0;
  } else if (byte == '\r') {
    return State::size_lf;
  } else if (byte == ';') {
    return State::extension_name_first;
  }
  // 16 digits are 64 bits: the size cannot overflow.
  if (!is_hex_digit(byte) || digits_ == 16) return State::invalid;
  remaining_ = remaining_ * 16 + hex_value(byte);
  ++digits_;
  return State::size;
}

/// ;name, ;name=token or ;name="..." (RFC 9112 7.1.1). No blanks: senders may not make them, and what a chunk size is
/// followed by must look the same to everybody.
ChunkedDecoder::State ChunkedDecoder::next_in_extension(char byte) const noexcept {
  switch (state_) {
    case State::extension_name_first: return is_token_byte(byte) ? State::extension_name : State::invalid;
    case State::extension_value_first:
      if (byte == '"') return State::extension_quoted;
      return is_token_byte(byte) ? State::extension_value : State::invalid;
    case State::extension_name:
    case State::extension_value:
    case State::extension_end:
      if (byte == '\r') return State::size_lf;
      if (byte == ';') return State::extension_name_first;
      if (byte == '=' && state_ == State::extension_name) return State::extension_value_first;
      return is_token_byte(byte) && state_ != State::extension_end ? state_ : State::invalid;
    case State::extension_quoted:
      if (byte == '"') return State::extension_end;
      if (byte == '\\') return State::extension_escape;
      return is_control(byte) ? State::invalid : State::extension_quoted;
    default: return is_control(byte) ? State::invalid : State::extension_quoted;
  }
}

ChunkedDecoder::State ChunkedDecoder::take_trailer_byte(char byte, const Limits& limits) noexcept {
  const State then = next_in_trailer(byte);
  if (then == State::end_lf || then == State::invalid) return then;
  if (trailer_section_.size() >= limits.trailer_bytes) return State::invalid;
  trailer_section_.append({&byte, 1});
  return then;
}

ChunkedDecoder::State ChunkedDecoder::next_in_trailer(char byte) const noexcept {
  switch (state_) {
    case State::trailer_start:
      if (byte == '\r') return State::end_lf;
      return is_token_byte(byte) ? State::trailer_name : State::invalid;
    case State::trailer_name:
      if (byte == ':') return State::trailer_value;
      return is_token_byte(byte) ? State::trailer_name : State::invalid;
    case State::trailer_value:
      if (byte == '\r') return State::trailer_lf;
      return is_control(byte) ? State::invalid : State::trailer_value;
    default: return byte == '\n' ? State::trailer_start : State::invalid;
  }
}

}  // namespace evlua::http
