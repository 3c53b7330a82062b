// W3C Trace Context: which trace a request is part of (https://www.w3.org/TR/trace-context/).
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace evlua::http {

struct TraceContext {
  std::array<std::uint64_t, 2> id{};  ///< of the trace; never both 0
  std::uint64_t parent = 0;           ///< the caller's span; 0: it has named none
  std::uint64_t span = 0;             ///< ours, for this request; not 0
  std::uint8_t flags = 0;

  bool sampled() const noexcept { return (flags & 1) != 0; }

  std::string id_text() const;
  static std::string span_text(std::uint64_t span);
  /// As the field says it to whom we call: "00-<trace>-<our span>-<flags>".
  std::string traceparent() const;

  /// A trace of its own, not sampled. [any thread]
  static TraceContext begin() noexcept;
  /// What `traceparent` says, with a new span; nothing when it is not valid.
  static std::optional<TraceContext> join(std::string_view traceparent) noexcept;
};

/// Not 0, not to be guessed from the ones before in practice, no secret. [any thread]
std::uint64_t random_id() noexcept;

}  // namespace evlua::http
