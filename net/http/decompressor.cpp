#include "net/http/decompressor.h"

#include <brotli/decode.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <array>
#include <limits>

#include "net/http/syntax.h"

namespace evlua::http {

namespace {

// Of zlib: the window's size as a power of two, and what is around the compressed data.
constexpr int kRaw = -15;
constexpr int kZlib = 15;
constexpr int kGzip = 15 + 16;

class Inflate final : public Decompressor {
 public:
  explicit Inflate(ContentCoding coding) noexcept : gzip_(coding == ContentCoding::gzip) {}
  ~Inflate() override { ::inflateEnd(&stream_); }

  std::optional<std::size_t> run(std::string_view& input, std::span<char> out) noexcept override {
    std::size_t written = 0;
    while (written < out.size()) {
      if (state_ != State::inside) {
        if (input.empty()) break;
        if (!begin(input.front())) return std::nullopt;
      }
      const int code = step(input, out, written);
      if (code == Z_STREAM_END) {
        state_ = State::ended;
      } else if (code != Z_OK && code != Z_BUF_ERROR) {
        return std::nullopt;
      } else if (input.empty()) {
        break;
      }
    }
    return written;
  }
  bool complete() const noexcept override { return state_ == State::ended; }

 private:
  enum class State : std::uint8_t { fresh, inside, ended };

  bool begin(char first) noexcept {
    if (state_ == State::ended) {
      state_ = State::inside;
      return gzip_ && ::inflateReset(&stream_) == Z_OK;
    }
    state_ = State::inside;
    // "deflate" means zlib's format, yet some senders mean the compressed data alone, which never begins like that.
    const bool headed = (first & 0x0f) == Z_DEFLATED;
    return ::inflateInit2(&stream_, gzip_ ? kGzip : headed ? kZlib : kRaw) == Z_OK;
  }

  int step(std::string_view& input, std::span<char> out, std::size_t& written) noexcept {
    const std::size_t most = std::numeric_limits<uInt>::max();
    const std::size_t given = std::min(input.size(), most);
    const std::size_t room = std::min(out.size() - written, most);
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(input.data()));
    stream_.avail_in = static_cast<uInt>(given);
    stream_.next_out = reinterpret_cast<Bytef*>(out.data() + written);
    stream_.avail_out = static_cast<uInt>(room);
    const int code = ::inflate(&stream_, Z_NO_FLUSH);
    input.remove_prefix(given - stream_.avail_in);
    written += room - stream_.avail_out;
    return code;
  }

  z_stream stream_{};
  State state_ = State::fresh;
  const bool gzip_;
};

class Brotli final : public Decompressor {
 public:
  Brotli() noexcept : state_(::BrotliDecoderCreateInstance(nullptr, nullptr, nullptr)) {}
  ~Brotli() override { ::BrotliDecoderDestroyInstance(state_); }
  bool ready() const noexcept { return state_ != nullptr; }

  std::optional<std::size_t> run(std::string_view& input, std::span<char> out) noexcept override {
    if (ended_) return input.empty() ? std::optional<std::size_t>(0) : std::nullopt;
    const auto* next = reinterpret_cast<const std::uint8_t*>(input.data());
    auto* to = reinterpret_cast<std::uint8_t*>(out.data());
    std::size_t left = input.size();
    std::size_t room = out.size();
    const BrotliDecoderResult result = ::BrotliDecoderDecompressStream(state_, &left, &next, &room, &to, nullptr);
    input.remove_prefix(input.size() - left);
    if (result == BROTLI_DECODER_RESULT_ERROR) return std::nullopt;
    ended_ = result == BROTLI_DECODER_RESULT_SUCCESS;
    if (ended_ && !input.empty()) return std::nullopt;
    return out.size() - room;
  }
  bool complete() const noexcept override { return ended_; }

 private:
  BrotliDecoderState* state_;
  bool ended_ = false;
};

class Zstd final : public Decompressor {
 public:
  Zstd() noexcept : context_(::ZSTD_createDCtx()) {
    constexpr int kWindowBits = 23;  // 8 MiB (RFC 9659)
    if (context_ != nullptr) ::ZSTD_DCtx_setParameter(context_, ZSTD_d_windowLogMax, kWindowBits);
  }
  ~Zstd() override { ::ZSTD_freeDCtx(context_); }
  bool ready() const noexcept { return context_ != nullptr; }

  std::optional<std::size_t> run(std::string_view& input, std::span<char> out) noexcept override {
    ZSTD_outBuffer output{out.data(), out.size(), 0};
    while (output.pos < output.size) {
      const bool in_magic = magic_bytes_ < kFrame.size();
      if (in_magic && input.empty()) break;
      if (in_magic && !expect(input.front())) return std::nullopt;
      ZSTD_inBuffer given{input.data(), in_magic ? 1 : input.size(), 0};
      const std::size_t left = ::ZSTD_decompressStream(context_, &output, &given);
      if (::ZSTD_isError(left) != 0) return std::nullopt;
      input.remove_prefix(given.pos);
      if (left == 0) magic_bytes_ = 0;  // the frame is over
      if (input.empty()) break;
    }
    return output.pos;
  }
  bool complete() const noexcept override { return magic_bytes_ == 0; }

 private:
  static constexpr std::array<std::uint8_t, 4> kFrame = {0x28, 0xb5, 0x2f, 0xfd};
  static constexpr std::array<std::uint8_t, 4> kSkippable = {0x50, 0x2a, 0x4d, 0x18};  // to 0x5f

  /// A frame's first bytes are checked, and given one by one: the library would take formats from before the standard,
  /// and frames that it gets whole without looking at their window.
  bool expect(char byte) noexcept {
    auto value = static_cast<std::uint8_t>(byte);
    if (magic_bytes_ == 0) {
      skippable_ = (value & 0xf0) == kSkippable[0];
      if (skippable_) value &= 0xf0;
    }
    return value == (skippable_ ? kSkippable : kFrame)[magic_bytes_++];
  }

  ZSTD_DCtx* context_;
  std::size_t magic_bytes_ = 0;  // of this frame
  bool skippable_ = false;
};

ContentCoding coding_named(std::string_view name) noexcept {
  if (equal_ignoring_case(name, "gzip") || equal_ignoring_case(name, "x-gzip")) return ContentCoding::gzip;
  if (equal_ignoring_case(name, "deflate")) return ContentCoding::deflate;
  if (equal_ignoring_case(name, "br")) return ContentCoding::brotli;
  if (equal_ignoring_case(name, "zstd")) return ContentCoding::zstd;
  if (equal_ignoring_case(name, "identity")) return ContentCoding::identity;
  return ContentCoding::unknown;
}

template <class T>
std::unique_ptr<Decompressor> made_ready() {
  auto made = std::make_unique<T>();
  if (!made->ready()) return nullptr;
  return made;
}

}  // namespace

ContentCoding add_content_coding(ContentCoding so_far, std::string_view value) noexcept {
  while (!value.empty()) {
    const std::size_t comma = std::min(value.find(','), value.size());
    const std::string_view name = trim(value.substr(0, comma));
    value.remove_prefix(std::min(comma + 1, value.size()));
    if (name.empty()) continue;
    const ContentCoding coding = coding_named(name);
    if (coding == ContentCoding::identity) continue;
    so_far = so_far == ContentCoding::identity ? coding : ContentCoding::unknown;
  }
  return so_far;
}

std::unique_ptr<Decompressor> Decompressor::make(ContentCoding coding) {
  switch (coding) {
    case ContentCoding::gzip:
    case ContentCoding::deflate: return std::make_unique<Inflate>(coding);
    case ContentCoding::brotli: return made_ready<Brotli>();
    case ContentCoding::zstd: return made_ready<Zstd>();
    case ContentCoding::identity:
    case ContentCoding::unknown: break;
  }
  return nullptr;
}

}  // namespace evlua::http
