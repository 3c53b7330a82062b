// Content codings of responses (RFC 9110, 8.4.1): gzip by zlib and, of whole bodies, libdeflate, br by brotli, zstd.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "core/bytes.h"

namespace evlua::http {

enum class Coding : std::uint8_t { gzip, brotli, zstd };

/// "gzip"
std::string_view name_of(Coding coding) noexcept;
/// What the client likes best of them; among equals the one that costs least. Nothing: it wants none of them, or none
/// even more.
std::optional<Coding> choose_coding(std::string_view accept_encoding) noexcept;

/// One body at a time. One thread at a time.
class Compressor {
 public:
  /// `level` from 1 (fast) to 9 (small), as gzip counts them. Null without memory.
  static std::unique_ptr<Compressor> make(Coding coding, int level);
  virtual ~Compressor() = default;

  enum class Then : std::uint8_t {
    go_on,
    flush,  ///< the receiver can read everything so far
    end,
  };
  /// Appends to `out`. False: out of memory, and the body is lost.
  virtual bool run(std::string_view bytes, Then then, Bytes& out) noexcept = 0;
  /// Begins another body.
  virtual void reset() noexcept = 0;
};

/// The whole body at once, with a compressor that the thread keeps. False: it did not become smaller, or no memory.
bool compress_whole(Coding coding, int level, std::string_view body, Bytes& out) noexcept;

}  // namespace evlua::http
