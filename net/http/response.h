// The head of a response: status, fields, and how it is put into bytes. Names and values are checked as they come in:
// what is not a valid field never reaches the wire.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/bytes.h"
#include "core/error.h"

namespace evlua::http {

/// How the end of a response body is told.
enum class Framing : std::uint8_t {
  none,     ///< there is no body, and no field speaks of one
  length,   ///< Content-Length
  chunked,  ///< Transfer-Encoding: chunked
  close,    ///< the end of the connection
};

/// "Not Found"; empty for a code without a name.
std::string_view reason_phrase(int status) noexcept;
/// 1xx, 204, 205 and 304 have no body, whatever is said.
constexpr bool status_has_body(int status) noexcept {
  return status >= 200 && status != 204 && status != 205 && status != 304;
}

class ResponseHead {
 public:
  /// Back to 200 without fields; keeps a little memory.
  void reset() noexcept;

  /// A final status (200 to 999), and a reason in place of the usual one. EINVAL otherwise.
  Result<void> set_status(int status, std::string_view reason = {});
  int status() const noexcept { return status_; }

  /// Replaces the fields of that name. EINVAL for a name or value that no field may have, and for Transfer-Encoding,
  /// which is ours to say. A Content-Length counts as a promise: `content_length()`.
  Result<void> set(std::string_view name, std::string_view value);
  Result<void> add(std::string_view name, std::string_view value);
  /// True when there was one.
  bool remove(std::string_view name) noexcept;
  /// There is such a field, by the handler's doing.
  bool has(std::string_view name) const noexcept;
  std::optional<std::string_view> find(std::string_view name) const noexcept;

  std::optional<std::uint64_t> content_length() const noexcept {
    return has_length_ ? std::optional(content_length_) : std::nullopt;
  }
  /// The handler asked for `Connection: close`.
  bool asks_close() const noexcept { return asks_close_; }

  /// Calls `visit(name, value)` for Server, Date and each field that was set, as write_to writes them.
  template <class Visit>
  void for_each_field(Visit visit) const {
    if (!has_server_) visit(std::string_view("Server"), standard_server());
    if (!has_date_) visit(std::string_view("Date"), standard_date());
    std::string_view rest = lines_.view();
    while (!rest.empty()) {
      const std::size_t end = rest.find('\r');
      const std::size_t colon = rest.find(':');
      visit(rest.substr(0, colon), rest.substr(colon + 2, end - colon - 2));
      rest.remove_prefix(end + 2);
    }
  }
  /// At least the length of all names together.
  std::size_t name_bytes() const noexcept { return lines_.size() + 16; }
  static std::string_view standard_server() noexcept;
  /// Until the next call in this thread.
  static std::string_view standard_date() noexcept;

  enum class Persistence : std::uint8_t { implied, keep_alive, close };
  /// Appends status line, Server, Date, framing, connection and the fields, ending with the empty line, and makes sure
  /// that `body_room` more bytes fit.
  void write_to(Bytes& out, Framing framing, std::uint64_t length, Persistence persistence,
                std::size_t body_room) const noexcept;

 private:
  Result<void> check(std::string_view name, std::string_view value) noexcept;
  static bool is_ours(std::string_view name, std::string_view value) noexcept;
  void append(std::string_view name, std::string_view value) noexcept;
  bool erase_lines(std::string_view name) noexcept;
  /// The line with that name from `from` on; npos when there is none.
  std::size_t line_of(std::string_view name, std::size_t from) const noexcept;

  Bytes lines_;  // "Name: value\r\n" each
  std::string reason_;
  std::uint64_t content_length_ = 0;
  std::int16_t status_ = 200;
  bool has_length_ = false;
  bool has_date_ = false;
  bool has_server_ = false;
  bool asks_close_ = false;
};

}  // namespace evlua::http
