// multipart/form-data (RFC 7578, RFC 2046 5.1), piece by piece. No I/O: bytes go in, parts come out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace evlua::http {

/// What a part says of itself. Views end with the next call of the reader.
struct PartHead {
  std::string name;
  std::optional<std::string> file_name;  ///< without the folders that some clients put before it
  std::string_view content_type;         ///< empty if it says none
  std::vector<std::pair<std::string_view, std::string_view>> fields;
};

/// The boundary that a Content-Type of multipart/form-data names; nothing if it is another type or names none.
std::optional<std::string> multipart_boundary(std::string_view content_type);

class MultipartReader {
 public:
  explicit MultipartReader(std::string_view boundary);

  enum class Event : std::uint8_t {
    more,  ///< feed it
    part,  ///< a part begins: head()
    data,  ///< some of its content: data()
    part_end,
    end,      ///< of the whole body; what is fed from now on is ignored
    invalid,  ///< not what it claims to be, or too much of it; for good
  };

  /// Call it when `more` is wanted, and with nothing at the end of the body.
  void feed(std::string_view bytes);
  /// The body has ended.
  void finish() noexcept { finished_ = true; }
  Event next();

  const PartHead& head() const noexcept { return head_; }
  std::string_view data() const noexcept { return data_; }
  /// Why it is invalid.
  const char* reason() const noexcept { return reason_; }

  static constexpr std::size_t kHeadBytesMax = 16 * 1024;
  static constexpr std::size_t kPartsMax = 1000;

 private:
  enum class State : std::uint8_t { preamble, delimiter, head, data, end, invalid };

  Event refuse(const char* reason) noexcept;
  Event skip_preamble();
  Event end_delimiter();
  Event read_head();
  Event read_data();
  bool parse_head(std::string_view text);
  bool take_disposition(std::string_view value);
  std::string_view rest() const noexcept { return std::string_view(buffer_).substr(at_); }

  const std::string delimiter_;  // CRLF, two dashes, boundary
  std::string buffer_;
  std::size_t at_ = 0;  // in it
  PartHead head_;
  std::string_view data_;
  const char* reason_ = "";
  std::size_t parts_ = 0;
  State state_ = State::preamble;
  bool in_part_ = false;  // its end was not told yet
  bool finished_ = false;
};

}  // namespace evlua::http
