// Response heads: what is accepted into one, and how it looks on the wire.
#include "net/http/response.h"

#include <string>

#include "net/http/syntax.h"
#include "tests/support/doctest.h"

using namespace evlua;
using namespace evlua::http;
using namespace std::string_literals;
using Persistence = ResponseHead::Persistence;

namespace {

std::string text_of(const ResponseHead& head, Framing framing = Framing::length, std::uint64_t length = 0,
                    Persistence persistence = Persistence::implied) {
  Bytes out;
  head.write_to(out, framing, length, persistence, 0);
  return std::string(out.view());
}

/// Without the Date line, which is checked to be one.
std::string without_date(const std::string& text) {
  const std::size_t line = text.find("\r\nDate: ");
  REQUIRE(line != std::string::npos);
  const std::size_t end = text.find("\r\n", line + 2);
  const std::string date = text.substr(line + 8, end - line - 8);
  CHECK(date.size() == 29);  // "Sun, 06 Nov 1994 08:49:37 GMT"
  CHECK(date.substr(3, 2) == ", ");
  CHECK(date.substr(25) == " GMT");
  return text.substr(0, line) + text.substr(end);
}

}  // namespace

TEST_CASE("a plain response") {
  const ResponseHead head;
  CHECK(without_date(text_of(head, Framing::length, 13)) ==
        "HTTP/1.1 200 OK\r\nServer: evlua\r\nContent-Length: 13\r\n\r\n");
}

TEST_CASE("status, reason, framing, persistence and fields in order") {
  ResponseHead head;
  REQUIRE(head.set_status(404));
  REQUIRE(head.set("X-One", "1"));
  REQUIRE(head.add("X-Two", "2"));
  CHECK(without_date(text_of(head, Framing::chunked, 0, Persistence::close)) ==
        "HTTP/1.1 404 Not Found\r\nServer: evlua\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n"
        "X-One: 1\r\nX-Two: 2\r\n\r\n");
  REQUIRE(head.set_status(299, "Own Words"));
  CHECK(without_date(text_of(head, Framing::none, 0, Persistence::keep_alive)) ==
        "HTTP/1.1 299 Own Words\r\nServer: evlua\r\nConnection: keep-alive\r\nX-One: 1\r\nX-Two: 2\r\n\r\n");
  REQUIRE(head.set_status(299));
  CHECK(text_of(head, Framing::close).substr(0, 15) == "HTTP/1.1 299 \r\n");
}

TEST_CASE("fields are replaced, added and removed whatever their case") {
  ResponseHead head;
  REQUIRE(head.set("Content-Type", "a"));
  REQUIRE(head.set("content-type", "b"));
  CHECK(head.find("CONTENT-TYPE") == std::optional<std::string_view>("b"));
  REQUIRE(head.add("Set-Cookie", "a=1"));
  REQUIRE(head.add("Set-Cookie", "b=2"));
  CHECK(text_of(head).find("content-type: b\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\n") != std::string::npos);
  CHECK(head.remove("set-cookie"));
  CHECK_FALSE(head.remove("set-cookie"));
  CHECK_FALSE(head.has("Set-Cookie"));
  CHECK(head.has("content-type"));
  CHECK_FALSE(head.has("content"));
  head.reset();
  CHECK_FALSE(head.has("content-type"));
}

TEST_CASE("Date and Server can be replaced but not doubled") {
  ResponseHead head;
  REQUIRE(head.set("Server", "other"));
  REQUIRE(head.set("date", "then"));
  const std::string text = text_of(head);
  CHECK(text == "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nServer: other\r\ndate: then\r\n\r\n");
  CHECK(head.remove("server"));
  CHECK(head.remove("date"));
  CHECK(without_date(text_of(head)) == "HTTP/1.1 200 OK\r\nServer: evlua\r\nContent-Length: 0\r\n\r\n");
}

TEST_CASE("framing fields are understood, not copied") {
  ResponseHead head;
  CHECK_FALSE(head.set("Transfer-Encoding", "chunked"));
  CHECK_FALSE(head.add("transfer-encoding", "gzip"));
  CHECK_FALSE(head.set("Content-Length", "1x"));
  CHECK_FALSE(head.set("Content-Length", "-1"));
  REQUIRE(head.set("content-length", "12"));
  REQUIRE(head.add("Content-Length", "13"));
  CHECK(head.content_length() == std::optional<std::uint64_t>(13));
  CHECK(head.has("Content-Length"));
  CHECK(without_date(text_of(head, Framing::length, 13)) ==
        "HTTP/1.1 200 OK\r\nServer: evlua\r\nContent-Length: 13\r\n\r\n");
  CHECK(head.remove("Content-Length"));
  CHECK(head.content_length() == std::nullopt);
  CHECK_FALSE(head.asks_close());
  REQUIRE(head.set("Connection", "Close"));
  CHECK(head.asks_close());
  REQUIRE(head.set("Connection", "keep-alive"));
  CHECK(text_of(head).find("onnection") == std::string::npos);
}

TEST_CASE("no byte gets into a name, a value or a reason that has no business there") {
  for (int code = 0; code < 256; ++code) {
    CAPTURE(code);
    const char byte = static_cast<char>(code);
    const bool control = (code < 0x20 && byte != '\t') || code == 0x7f;
    for (const std::string& text : {"a"s + byte + "b", ""s + byte, "0123456789abcdef"s + byte + "0123456789abcdef"}) {
      ResponseHead head;
      CHECK(head.set("X", text).has_value() == !control);
      CHECK(head.add("X", text).has_value() == !control);
      CHECK(head.set_status(200, text).has_value() == !control);
      CHECK(head.set(text, "x").has_value() == is_token_byte(byte));
      CHECK(head.add(text, "x").has_value() == is_token_byte(byte));
      const std::string written = text_of(head);
      for (std::size_t at = written.find('\n'); at != std::string::npos; at = written.find('\n', at + 1)) {
        CHECK(written[at - 1] == '\r');
      }
      CHECK(written.find('\0') == std::string::npos);
    }
  }
  ResponseHead head;
  CHECK_FALSE(head.set("", "x"));
  CHECK_FALSE(head.set("X", "a\r\nY: b"));
  CHECK_FALSE(head.set("X\r\nY", "b"));
  CHECK(text_of(head).find('Y') == std::string::npos);
}

TEST_CASE("only final statuses are responses") {
  ResponseHead head;
  for (const int status : {200, 204, 304, 404, 599, 999}) CHECK(head.set_status(status));
  for (const int status : {-1, 0, 99, 100, 101, 199, 1000, 65536}) CHECK_FALSE(head.set_status(status));
  CHECK(head.status() == 999);
  CHECK_FALSE(status_has_body(204));
  CHECK_FALSE(status_has_body(304));
  CHECK_FALSE(status_has_body(100));
  CHECK(status_has_body(404));
}

TEST_CASE("many fields grow the head and reset gives the memory back") {
  ResponseHead head;
  for (int index = 0; index < 1000; ++index) REQUIRE(head.add("X-" + std::to_string(index), std::string(100, 'v')));
  CHECK(head.find("X-999").value_or("") == std::string(100, 'v'));
  CHECK(text_of(head).size() > 100'000);
  head.reset();
  CHECK(text_of(head).size() < 200);
}
