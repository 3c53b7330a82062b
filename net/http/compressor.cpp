#include "net/http/compressor.h"

#include <brotli/encode.h>
#include <libdeflate.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <array>
#include <limits>

#include "net/http/accept.h"

namespace evlua::http {

namespace {

constexpr std::size_t kRoom = 16 * 1024;
constexpr int kWindowBits = 18;  // of brotli and zstd: 256 KiB; clients take up to 8 MiB, but it is our memory

class Gzip final : public Compressor {
 public:
  explicit Gzip(int level) noexcept {
    constexpr int kGzipWindow = 15 + 16;  // with gzip's head and checksum
    constexpr int kMemory = 8;
    ready_ = ::deflateInit2(&stream_, level, Z_DEFLATED, kGzipWindow, kMemory, Z_DEFAULT_STRATEGY) == Z_OK;
  }
  ~Gzip() override { ::deflateEnd(&stream_); }
  bool ready() const noexcept { return ready_; }

  bool run(std::string_view bytes, Then then, Bytes& out) noexcept override {
    const int flush = then == Then::end ? Z_FINISH : then == Then::flush ? Z_SYNC_FLUSH : Z_NO_FLUSH;
    do {
      const std::string_view piece = bytes.substr(0, std::numeric_limits<uInt>::max());
      bytes.remove_prefix(piece.size());
      stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(piece.data()));
      stream_.avail_in = static_cast<uInt>(piece.size());
      do {
        stream_.next_out = reinterpret_cast<Bytef*>(out.reserve(kRoom));
        stream_.avail_out = static_cast<uInt>(kRoom);
        if (::deflate(&stream_, bytes.empty() ? flush : Z_NO_FLUSH) == Z_STREAM_ERROR) return false;
        out.commit(kRoom - stream_.avail_out);
      } while (stream_.avail_out == 0);
    } while (!bytes.empty());
    return true;
  }
  void reset() noexcept override { ::deflateReset(&stream_); }

 private:
  z_stream stream_{};
  bool ready_ = false;
};

class Brotli final : public Compressor {
 public:
  explicit Brotli(int level) noexcept : level_(level) { reset(); }
  ~Brotli() override { ::BrotliEncoderDestroyInstance(state_); }
  bool ready() const noexcept { return state_ != nullptr; }

  bool run(std::string_view bytes, Then then, Bytes& out) noexcept override {
    if (state_ == nullptr) return false;
    const BrotliEncoderOperation operation = then == Then::end     ? BROTLI_OPERATION_FINISH
                                             : then == Then::flush ? BROTLI_OPERATION_FLUSH
                                                                   : BROTLI_OPERATION_PROCESS;
    const auto* next = reinterpret_cast<const std::uint8_t*>(bytes.data());
    std::size_t left = bytes.size();
    do {
      auto* to = reinterpret_cast<std::uint8_t*>(out.reserve(kRoom));
      std::size_t room = kRoom;
      if (::BrotliEncoderCompressStream(state_, operation, &left, &next, &room, &to, nullptr) == BROTLI_FALSE) {
        return false;
      }
      out.commit(kRoom - room);
    } while (left > 0 || ::BrotliEncoderHasMoreOutput(state_) == BROTLI_TRUE);
    return true;
  }
  void reset() noexcept override {
    ::BrotliEncoderDestroyInstance(state_);
    state_ = ::BrotliEncoderCreateInstance(nullptr, nullptr, nullptr);
    if (state_ == nullptr) return;
    ::BrotliEncoderSetParameter(state_, BROTLI_PARAM_QUALITY, static_cast<std::uint32_t>(level_));
    ::BrotliEncoderSetParameter(state_, BROTLI_PARAM_LGWIN, kWindowBits);
  }

 private:
  BrotliEncoderState* state_ = nullptr;
  const int level_;
};

class Zstd final : public Compressor {
 public:
  explicit Zstd(int level) noexcept : context_(::ZSTD_createCCtx()) {
    if (context_ == nullptr) return;
    ::ZSTD_CCtx_setParameter(context_, ZSTD_c_compressionLevel, level);
    ::ZSTD_CCtx_setParameter(context_, ZSTD_c_windowLog, kWindowBits);
  }
  ~Zstd() override { ::ZSTD_freeCCtx(context_); }
  bool ready() const noexcept { return context_ != nullptr; }

  bool run(std::string_view bytes, Then then, Bytes& out) noexcept override {
    const ZSTD_EndDirective directive = then == Then::end     ? ZSTD_e_end
                                        : then == Then::flush ? ZSTD_e_flush
                                                              : ZSTD_e_continue;
    ZSTD_inBuffer input{bytes.data(), bytes.size(), 0};
    while (true) {
      ZSTD_outBuffer output{out.reserve(kRoom), kRoom, 0};
      const std::size_t left = ::ZSTD_compressStream2(context_, &output, &input, directive);
      if (::ZSTD_isError(left) != 0) return false;
      out.commit(output.pos);
      const bool done = directive == ZSTD_e_continue ? input.pos == input.size : left == 0;
      if (done) return true;
    }
  }
  void reset() noexcept override { ::ZSTD_CCtx_reset(context_, ZSTD_reset_session_only); }

 private:
  ZSTD_CCtx* context_;
};

/// gzip of bodies that are there as a whole: three quarters of the time that zlib takes, for the same size.
class WholeGzip {
 public:
  bool run(int level, std::string_view body, Bytes& out) noexcept {
    if (compressor_ == nullptr || level_ != level) {
      compressor_.reset(::libdeflate_alloc_compressor(level));
      level_ = level;
    }
    if (compressor_ == nullptr || body.empty()) return false;
    const std::size_t room = body.size() - 1;  // more would be of no use
    const std::size_t made =
        ::libdeflate_gzip_compress(compressor_.get(), body.data(), body.size(), out.reserve(room), room);
    out.commit(made);
    return made != 0;
  }

 private:
  struct Free {
    void operator()(libdeflate_compressor* compressor) const noexcept { ::libdeflate_free_compressor(compressor); }
  };
  std::unique_ptr<libdeflate_compressor, Free> compressor_;
  int level_ = 0;
};

template <class T>
std::unique_ptr<Compressor> made_ready(int level) {
  auto made = std::make_unique<T>(level);
  if (!made->ready()) return nullptr;
  return made;
}

}  // namespace

std::string_view name_of(Coding coding) noexcept {
  switch (coding) {
    case Coding::gzip: return "gzip";
    case Coding::brotli: return "br";
    case Coding::zstd: return "zstd";
  }
  return {};
}

std::optional<Coding> choose_coding(std::string_view accept_encoding) noexcept {
  std::optional<Coding> best;
  int best_weight = 0;
  for (const Coding coding : {Coding::zstd, Coding::gzip, Coding::brotli}) {
    const int weight = coding_weight(accept_encoding, name_of(coding));
    if (weight <= best_weight) continue;
    best = coding;
    best_weight = weight;
  }
  if (identity_weight(accept_encoding) > best_weight) return std::nullopt;
  return best;
}

// The higher levels of brotli and zstd cost far more than gzip's.
std::unique_ptr<Compressor> Compressor::make(Coding coding, int level) {
  switch (coding) {
    case Coding::gzip: return made_ready<Gzip>(level);
    case Coding::brotli: return made_ready<Brotli>((level + 1) / 2);
    case Coding::zstd: return made_ready<Zstd>((level + 1) / 2);
  }
  return nullptr;
}

bool compress_whole(Coding coding, int level, std::string_view body, Bytes& out) noexcept {
  static thread_local WholeGzip gzip;
  if (coding == Coding::gzip) return gzip.run(level, body, out);
  struct Kept {
    std::unique_ptr<Compressor> compressor;
    int level = 0;
  };
  static thread_local std::array<Kept, 3> all;
  Kept& kept = all[static_cast<std::size_t>(coding)];
  if (kept.compressor == nullptr || kept.level != level) {
    kept.compressor = Compressor::make(coding, level);
    kept.level = level;
  } else {
    kept.compressor->reset();
  }
  const std::size_t before = out.size();
  return kept.compressor != nullptr && kept.compressor->run(body, Compressor::Then::end, out) &&
         out.size() - before < body.size();
}

}  // namespace evlua::http
