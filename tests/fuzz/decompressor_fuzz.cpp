// An encoded body, whole and in pieces as the first bytes say, with much room and with little: the same comes out, and
// both agree whether it is one. The first byte says which coding.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/check.h"
#include "net/http/decompressor.h"

namespace {

using namespace evlua::http;

constexpr std::size_t kMost = 1 << 17;  // of a bomb

struct Decoded {
  std::string text;
  bool good = true;
  bool complete = false;
};

Decoded decode(ContentCoding coding, std::string_view bytes, std::size_t step, std::size_t room) {
  const auto decompressor = Decompressor::make(coding);
  EVLUA_CHECK(decompressor != nullptr);
  Decoded result;
  std::string out(room, '\0');
  while (!bytes.empty()) {
    const std::string piece(bytes.substr(0, step));
    bytes.remove_prefix(piece.size());
    std::string_view input = piece;
    bool full = true;
    while ((full || !input.empty()) && result.text.size() < kMost) {
      const auto written = decompressor->run(input, out);
      if (!written) {
        result.good = false;
        return result;
      }
      EVLUA_CHECK(*written <= room && (*written == room || input.empty()));
      result.text.append(out, 0, *written);
      full = *written == room;
    }
  }
  result.complete = decompressor->complete();
  return result;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 3) return 0;
  constexpr ContentCoding kCodings[] = {ContentCoding::gzip, ContentCoding::deflate, ContentCoding::brotli,
                                        ContentCoding::zstd};
  const ContentCoding coding = kCodings[data[0] % 4];
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 3, size - 3);
  const Decoded whole = decode(coding, bytes, bytes.size() + 1, 65536);
  const Decoded pieces = decode(coding, bytes, 1 + data[1], 1 + data[2] * 16U);
  if (whole.text.size() >= kMost || pieces.text.size() >= kMost) return 0;
  EVLUA_CHECK(whole.good == pieces.good && whole.complete == pieces.complete);
  if (whole.good) EVLUA_CHECK(whole.text == pieces.text);
  static_cast<void>(add_content_coding(ContentCoding::identity, bytes));
  return 0;
}
