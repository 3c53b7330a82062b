// Errors as values. An Error is small and trivially copyable: a code, whose namespace it is from, and the operation.
#pragma once

#include <cstdint>
#include <string>
#include <tl/expected.hpp>
#include <type_traits>

#include "core/opcode.h"

namespace evlua {

enum class ErrorDomain : std::uint8_t {
  system,    ///< `code` is an errno
  runtime,   ///< `code` is an Errc
  resolver,  ///< `code` is an EAI_ value of getaddrinfo(3)
};

/// Failures errno has no word for.
enum class Errc : std::int32_t {
  end_of_file = 1,  ///< "EOF": the peer or the file ended
  too_large,        ///< "ELIMIT": a size limit of ours was reached
  no_thread,        ///< "EAGAIN": the system gives no more threads; its own words for that tell nothing
};

struct Error {
  std::int32_t code = 0;
  ErrorDomain domain = ErrorDomain::system;
  OpCode op = OpCode::nop;

  /// The stable name for programs: "ECONNREFUSED", "EOF", "EAI_NONAME".
  const char* name() const noexcept;
  /// The sentence for people, lower case, without the operation: "connection refused".
  std::string message() const;
  /// "connect: connection refused"
  std::string describe() const;

  bool is(int errno_value) const noexcept { return domain == ErrorDomain::system && code == errno_value; }
  bool is(Errc errc) const noexcept {
    return domain == ErrorDomain::runtime && code == static_cast<std::int32_t>(errc);
  }
};
static_assert(std::is_trivially_copyable_v<Error> && sizeof(Error) == 8);

template <class T>
using Result = tl::expected<T, Error>;

/// An errno as a failed Result: `return fail(ENOENT, OpCode::open);`
inline tl::unexpected<Error> fail(int errno_value, OpCode op = OpCode::nop) noexcept {
  return tl::unexpected<Error>(Error{errno_value, ErrorDomain::system, op});
}
inline tl::unexpected<Error> fail(Errc errc, OpCode op = OpCode::nop) noexcept {
  return tl::unexpected<Error>(Error{static_cast<std::int32_t>(errc), ErrorDomain::runtime, op});
}
inline tl::unexpected<Error> fail(Error error) noexcept { return tl::unexpected<Error>(error); }

}  // namespace evlua
