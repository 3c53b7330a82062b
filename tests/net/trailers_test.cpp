// Trailer fields: which are let through, and how a section of them is read.
#include "net/http/trailers.h"

#include <string>

#include "net/http/chunked.h"
#include "tests/support/doctest.h"

using namespace evlua::http;

TEST_CASE("fields that nobody may act upon so late are not trailers") {
  for (const char* name : {"Content-Length",
                           "transfer-encoding",
                           "HOST",
                           "Authorization",
                           "Cookie",
                           "Content-Encoding",
                           "Content-Type",
                           "Content-Range",
                           "TE",
                           "Trailer",
                           "Connection",
                           "If-Match",
                           "if-none-match",
                           "Proxy-Authorization",
                           "X-Forwarded-For",
                           "Forwarded",
                           "Set-Cookie",
                           "Expect",
                           "Range",
                           "Cache-Control",
                           "Max-Forwards",
                           "Upgrade",
                           "Keep-Alive"}) {
    const std::string text = name;
    CAPTURE(text);
    CHECK_FALSE(allowed_in_trailers(text));
  }
  for (const char* name : {"Digest", "Content-Digest", "Repr-Digest", "X-Checksum", "Server-Timing", "ETag", "I", "If",
                           "Hosts", "Grpc-Status", "Proxy", "x"}) {
    const std::string text = name;
    CAPTURE(text);
    CHECK(allowed_in_trailers(text));
  }
}

TEST_CASE("a section becomes fields") {
  Trailers trailers;
  trailers.add_section("X-A: 1\r\nx-b:\t two  words \r\nHost: evil\r\nEmpty:\r\nx-a:2\r\n");
  REQUIRE(trailers.count() == 4);
  CHECK(trailers.at(0).name == "X-A");
  CHECK(trailers.at(0).value == "1");
  CHECK(trailers.at(1).value == "two  words");
  CHECK(trailers.at(2).name == "Empty");
  CHECK(trailers.at(2).value.empty());
  CHECK(trailers.at(3).value == "2");
  CHECK(trailers.find("X-a") == "1");
  CHECK(trailers.find("empty") == "");
  CHECK_FALSE(trailers.find("host"));
  CHECK_FALSE(trailers.find("X"));
  trailers.add("late", "field");
  CHECK(trailers.find("Late") == "field");
  CHECK(trailers.find("x-a") == "1");
}

TEST_CASE("dropped fields count as well") {
  Trailers trailers;
  trailers.add("host", "abc");
  CHECK(trailers.section_bytes() == 11);
  CHECK(trailers.count() == 0);
}

TEST_CASE("the decoder keeps the section, however it is cut") {
  const Limits limits;
  const std::string bytes = "3\r\nabc\r\n0\r\nX-A: 1\r\nx-b:2\r\n\r\nGET /";
  for (std::size_t step = 1; step <= bytes.size(); ++step) {
    ChunkedDecoder decoder;
    ChunkedDecoder::Outcome outcome = ChunkedDecoder::Outcome::more;
    std::string held;
    for (std::size_t at = 0; at < bytes.size() && outcome != ChunkedDecoder::Outcome::end; at += step) {
      held += bytes.substr(at, step);
      std::string_view input = held;
      std::string_view piece;
      do {
        outcome = decoder.decode(input, 100, limits, piece);
      } while (outcome == ChunkedDecoder::Outcome::data);
      held.erase(0, held.size() - input.size());
    }
    CAPTURE(step);
    CHECK(outcome == ChunkedDecoder::Outcome::end);
    CHECK(decoder.trailer_section() == "X-A: 1\r\nx-b:2\r\n");
    decoder.reset();
    std::string_view again = "0\r\n\r\n";
    std::string_view piece;
    CHECK(decoder.decode(again, 100, limits, piece) == ChunkedDecoder::Outcome::end);
    CHECK(decoder.trailer_section().empty());
  }
}

TEST_CASE("a section has as many bytes as the limit says, and no more") {
  Limits limits;
  limits.trailer_bytes = 16;
  for (const auto& [value, fits] : {std::pair<std::string, bool>{"0123456789ab", true}, {"0123456789abc", false}}) {
    ChunkedDecoder decoder;
    const std::string bytes = "0\r\nx:" + value + "\r\n\r\n";
    std::string_view input = bytes;
    std::string_view piece;
    const ChunkedDecoder::Outcome outcome = decoder.decode(input, 100, limits, piece);
    CHECK(outcome == (fits ? ChunkedDecoder::Outcome::end : ChunkedDecoder::Outcome::invalid));
  }
}
