// Each coding, whole and cut at every byte; what is broken, cut short, too long, or expands without bound.
#include "net/http/decompressor.h"

#include <zlib.h>

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "net/http/compressor.h"
#include "tests/support/doctest.h"

using namespace evlua;
using namespace evlua::http;

namespace {

std::string compress(Coding coding, std::string_view text) {
  const auto compressor = Compressor::make(coding, 6);
  Bytes out;
  REQUIRE(compressor->run(text, Compressor::Then::end, out));
  return std::string(out.view());
}

/// By zlib; `window` says with what around it.
std::string deflate(std::string_view text, int window) {
  z_stream stream{};
  REQUIRE(::deflateInit2(&stream, 6, Z_DEFLATED, window, 8, Z_DEFAULT_STRATEGY) == Z_OK);
  std::string out(::deflateBound(&stream, text.size()) + 64, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  REQUIRE(::deflate(&stream, Z_FINISH) == Z_STREAM_END);
  out.resize(stream.total_out);
  ::deflateEnd(&stream);
  return out;
}

struct Kind {
  const char* name;
  ContentCoding coding;
  std::function<std::string(std::string_view)> encode;
  bool joins;  ///< two of them are one as well
};

const std::vector<Kind>& kinds() {
  static const std::vector<Kind> all = {
      {"gzip", ContentCoding::gzip, [](std::string_view text) { return compress(Coding::gzip, text); }, true},
      {"zlib", ContentCoding::deflate, [](std::string_view text) { return deflate(text, 15); }, false},
      {"raw", ContentCoding::deflate, [](std::string_view text) { return deflate(text, -15); }, false},
      {"br", ContentCoding::brotli, [](std::string_view text) { return compress(Coding::brotli, text); }, false},
      {"zstd", ContentCoding::zstd, [](std::string_view text) { return compress(Coding::zstd, text); }, true},
  };
  return all;
}

void for_each_kind(const std::function<void(const Kind&)>& body) {
  for (const Kind& kind : kinds()) {
    const std::string name = kind.name;
    CAPTURE(name);
    body(kind);
  }
}

struct Decoded {
  std::string text;
  bool good = true;
  bool complete = false;
};

/// Gives `bytes` in the pieces that `cuts` makes of them; takes at most `room` bytes at once.
Decoded decode(ContentCoding coding, std::string_view bytes, std::vector<std::size_t> cuts, std::size_t room) {
  const auto decompressor = Decompressor::make(coding);
  REQUIRE(decompressor != nullptr);
  Decoded result;
  std::string out(room, '\0');
  cuts.push_back(bytes.size());
  std::size_t from = 0;
  for (const std::size_t to : cuts) {
    const std::string piece(bytes.substr(from, to - from));  // of its own, so that nothing behind it can be read
    std::string_view input = piece;
    from = to;
    bool full = true;
    while (full || !input.empty()) {
      const auto written = decompressor->run(input, out);
      if (!written) {
        result.good = false;
        return result;
      }
      result.text.append(out, 0, *written);
      full = *written == room;
    }
  }
  result.complete = decompressor->complete();
  return result;
}

std::string sample() {
  std::string text;
  for (int i = 0; i < 40; ++i) text += "line " + std::to_string(i * i) + " of what is sent\n";
  return text;
}

}  // namespace

TEST_CASE("the coding that Content-Encoding names") {
  const auto coding = [](std::string_view value) { return add_content_coding(ContentCoding::identity, value); };
  CHECK(coding("gzip") == ContentCoding::gzip);
  CHECK(coding("X-GZip") == ContentCoding::gzip);
  CHECK(coding("deflate") == ContentCoding::deflate);
  CHECK(coding("br") == ContentCoding::brotli);
  CHECK(coding("zstd") == ContentCoding::zstd);
  CHECK(coding("") == ContentCoding::identity);
  CHECK(coding("identity") == ContentCoding::identity);
  CHECK(coding(" identity , gzip ,") == ContentCoding::gzip);
  CHECK(coding("gzip, gzip") == ContentCoding::unknown);
  CHECK(coding("gzip, br") == ContentCoding::unknown);
  CHECK(coding("compress") == ContentCoding::unknown);
  CHECK(coding("gzip;q=1") == ContentCoding::unknown);
  CHECK(coding("gzip\t") == ContentCoding::gzip);
  CHECK(add_content_coding(ContentCoding::gzip, "br") == ContentCoding::unknown);
  CHECK(add_content_coding(ContentCoding::gzip, "identity") == ContentCoding::gzip);
  CHECK(add_content_coding(ContentCoding::unknown, "gzip") == ContentCoding::unknown);
  CHECK(Decompressor::make(ContentCoding::identity) == nullptr);
  CHECK(Decompressor::make(ContentCoding::unknown) == nullptr);
}

TEST_CASE("what was encoded is decoded, however it is cut and however little room there is") {
  for_each_kind([](const Kind& kind) {
    const std::string text = sample();
    const std::string bytes = kind.encode(text);
    for (std::size_t cut = 0; cut <= bytes.size(); ++cut) {
      const Decoded decoded = decode(kind.coding, bytes, {cut}, 4096);
      CHECK(decoded.complete);
      CHECK((decoded.text == text));
    }
    std::vector<std::size_t> every(bytes.size());
    for (std::size_t at = 0; at < bytes.size(); ++at) every[at] = at;
    for (const std::size_t room : {std::size_t{1}, std::size_t{3}, text.size() - 1, text.size(), text.size() + 1}) {
      for (const auto& cuts : {std::vector<std::size_t>{}, every}) {
        const Decoded decoded = decode(kind.coding, bytes, cuts, room);
        CHECK(decoded.complete);
        CHECK((decoded.text == text));
      }
    }
    const Decoded empty = decode(kind.coding, kind.encode(""), {}, 100);
    CHECK(empty.complete);
    CHECK(empty.text.empty());
  });
}

TEST_CASE("a body that is cut short is not complete, wherever that is") {
  for_each_kind([](const Kind& kind) {
    const std::string bytes = kind.encode(sample());
    for (std::size_t size = 1; size < bytes.size(); ++size) {
      const Decoded decoded = decode(kind.coding, std::string_view(bytes).substr(0, size), {}, 4096);
      CHECK(decoded.good);
      CHECK_FALSE(decoded.complete);
    }
  });
}

TEST_CASE("a changed byte never goes unnoticed where there is a checksum") {
  const std::string text = sample();
  for (const Kind& kind : {kinds()[0], kinds()[1]}) {
    const std::string bytes = kind.encode(text);
    for (std::size_t at = 0; at < bytes.size(); ++at) {
      std::string broken = bytes;
      broken[at] = static_cast<char>(broken[at] ^ 0x55);
      const Decoded decoded = decode(kind.coding, broken, {}, 4096);
      CHECK((!decoded.good || !decoded.complete || decoded.text == text));  // a few bytes of gzip's head mean nothing
    }
  }
  for_each_kind([](const Kind& kind) {
    CHECK_FALSE(decode(kind.coding, "\xff\xff\xff\xff\xff\xff\xff\xff this is something else", {}, 4096).complete);
  });
}

TEST_CASE("what follows the end is an error, unless it is more of the same where that may be") {
  for_each_kind([](const Kind& kind) {
    const std::string one = kind.encode("one "), two = kind.encode("two");
    for (std::size_t cut = 0; cut <= one.size() + two.size(); ++cut) {
      const Decoded both = decode(kind.coding, one + two, {cut}, 3);
      CHECK(both.good == kind.joins);
      if (kind.joins) CHECK(both.text == "one two");
      if (kind.joins) CHECK(both.complete);
    }
    for (const std::string& more : {std::string(1, '\0'), std::string("x"), one.substr(1)}) {
      const Decoded longer = decode(kind.coding, one + more, {}, 100);
      CHECK_FALSE((longer.good && longer.complete));
    }
    if (kind.joins) CHECK_FALSE(decode(kind.coding, one + two.substr(0, two.size() - 1), {}, 100).complete);
  });
}

TEST_CASE("64 MiB from a few bytes come in pieces") {
  for_each_kind([](const Kind& kind) {
    const std::string bytes = kind.encode(std::string(64 << 20, '\0'));
    const auto decompressor = Decompressor::make(kind.coding);
    std::string out(65536, 'x');
    std::string_view input = bytes;
    std::size_t total = 0;
    std::size_t written = out.size();
    while (written == out.size() || !input.empty()) {
      const auto result = decompressor->run(input, out);
      REQUIRE(result);
      written = *result;
      total += written;
    }
    CHECK(total == 64 << 20);
    CHECK(decompressor->complete());
  });
}

TEST_CASE("zstd: windows beyond 8 MiB, dictionaries and old formats are refused, skippable frames are skipped") {
  const auto refused = [](std::string_view bytes) { return !decode(ContentCoding::zstd, bytes, {}, 4096).good; };
  const std::string block("\x01\x00\x00", 3);  // the last one, raw, empty
  const std::string magic = "\x28\xb5\x2f\xfd";
  CHECK_FALSE(refused(magic + std::string("\x00\x68", 2) + block));  // 8 MiB
  CHECK(refused(magic + std::string("\x00\x70", 2) + block));        // 16 MiB
  CHECK(refused(magic + std::string("\x00\xf8", 2) + block));        // 2 TiB
  CHECK(refused(magic + std::string("\x01\x68\x05", 3) + block));    // a dictionary
  CHECK(refused(std::string("\x25\xb5\x2f\xfd\x00\x00\x00\x00", 8)));
  CHECK(refused(std::string("\x28\x25\xb5\x2f\xfd\x00\x00\x00\x00", 9)));
  const std::string skippable = "\x5a\x2a\x4d\x18" + std::string("\x03\x00\x00\x00", 4) + "abc";
  const Decoded decoded = decode(ContentCoding::zstd, skippable + compress(Coding::zstd, "text") + skippable, {}, 100);
  CHECK(decoded.complete);
  CHECK(decoded.text == "text");
}
