// Content codings of requests (RFC 9110, 8.4.1): gzip and deflate by zlib, br by brotli, zstd. Bytes go in, at most as
// many come out as there is room for, so that however much a body expands to, it takes no more memory than its
// decoder's window: 32 KiB for gzip and deflate, up to 8 MiB for zstd (RFC 9659) and 16 MiB for brotli.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

namespace evlua::http {

/// How the content of a body is encoded.
enum class ContentCoding : std::uint8_t { identity, gzip, deflate, brotli, zstd, unknown };

/// What `so_far` becomes by the value of a Content-Encoding field. More than one coding is none that we know.
ContentCoding add_content_coding(ContentCoding so_far, std::string_view value) noexcept;

/// One body. One thread at a time.
class Decompressor {
 public:
  /// Null without memory, and for `identity` and `unknown`.
  static std::unique_ptr<Decompressor> make(ContentCoding coding);
  virtual ~Decompressor() = default;

  /// Takes from the front of `input` and writes to `out`, until the one is used up or the other full; how much was
  /// written. When `out` became full there may be more to come, without any input. Nothing: this is not that coding, or
  /// no memory, for good. What follows a body that has ended is no part of it; but a gzip body may have several
  /// members, and one of zstd several frames. REQUIRES: out is not empty.
  virtual std::optional<std::size_t> run(std::string_view& input, std::span<char> out) noexcept = 0;
  /// The input may end here. REQUIRES: some came, and the last run has not filled `out`.
  virtual bool complete() const noexcept = 0;
};

}  // namespace evlua::http
