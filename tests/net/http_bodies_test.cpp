// Bodies with a Content-Encoding and fields behind bodies, as an exchange's handler reads them, inline and deferred, on
// both backends, with one worker and with two.
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "net/http/compressor.h"
#include "tests/net/http_fixture.h"
#include "tests/support/doctest.h"

using namespace evlua;
using namespace evlua::test;

namespace {

const std::vector<std::string> kReporters = {"/report", "/report-there", "/begin-inline", "/inline-report"};

std::string gzip(std::string_view text) {
  const auto compressor = http::Compressor::make(http::Coding::gzip, 6);
  Bytes out;
  REQUIRE(compressor->run(text, http::Compressor::Then::end, out));
  return std::string(out.view());
}

std::string post(const std::string& path, const std::string& body, const std::string& fields) {
  return "POST " + path + " HTTP/1.1\r\nHost: test\r\nContent-Length: " + std::to_string(body.size()) + "\r\n" +
         fields + "\r\n" + body;
}

std::string post_chunked(const std::string& path, const std::string& body, std::size_t step, const std::string& fields,
                         const std::string& trailers) {
  std::string bytes = "POST " + path + " HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n" + fields + "\r\n";
  for (std::size_t at = 0; at < body.size(); at += step) {
    const std::string part = body.substr(at, step);
    char size[32];
    std::snprintf(size, sizeof size, "%zx\r\n", part.size());
    bytes += size + part + "\r\n";
  }
  return bytes + "0\r\n" + trailers + "\r\n";
}

/// What /report says of a body that was read whole.
std::string report(std::string_view text) {
  std::uint64_t sum = 0;
  for (const char byte : text) sum = sum * 31 + static_cast<unsigned char>(byte);
  return std::to_string(text.size()) + ' ' + std::to_string(sum) + " -";
}

/// The error of a report.
std::string error_in(const std::string& text) { return text.substr(text.rfind(' ') + 1); }

/// Text that does not compress well.
std::string noise(std::size_t bytes) {
  std::string text(bytes, '\0');
  std::uint32_t random = 1;
  for (char& byte : text) {
    random = random * 1664525U + 1013904223U;
    byte = static_cast<char>('a' + (random >> 24) % 16);
  }
  return text;
}

const std::string kGzip = "Content-Encoding: gzip\r\n";

}  // namespace

TEST_CASE("trailers are there once the body was read") {
  on_every_setup([](const ServerSetup& setup) {
    TestServer server(setup);
    Client client(server.port());
    const std::string trailers = "X-Sum: 1\r\nHost: evil\r\nx-sum:  2 \r\nContent-Length: 7\r\n";
    for (const std::string& path : kReporters) {
      CAPTURE(path);
      client.send(post_chunked(path + "?100", "0123456789", 3, "", trailers));
      const Response response = client.read();
      // A handler that may not wait sees what came with the head.
      if (response.body != "would wait") CHECK(response.body == report("0123456789") + " X-Sum=1 x-sum=2");
      if (response.body == "would wait") CHECK(path == "/inline-report");
      // The next request knows nothing of them.
      client.send(post_chunked(path + "?100", "a", 1, "", ""));
      CHECK(client.read().body.find('=') == std::string::npos);
      client.send(post(path + "?100", "ab", ""));
      CHECK(client.read().body == report("ab"));
    }
    // Byte by byte, so that the end comes alone.
    for (const char byte : post_chunked("/report-there?100", "abc", 3, "", trailers)) {
      REQUIRE(client.send(std::string(1, byte)));
    }
    CHECK(client.read().body == report("abc") + " X-Sum=1 x-sum=2");
    CHECK(client.get("/").status == 200);
  });
}

TEST_CASE("a body that breaks has no trailers, nor has one with too many") {
  on_every_setup([](ServerSetup setup) {
    setup.limits.trailer_bytes = 100;
    TestServer server(setup);
    const std::string long_field = "X: " + std::string(100, 'y') + "\r\n";
    for (const std::string& trailers : {long_field, std::string("X-A: 1\r\nbroken\r\n"), std::string("X-A: \1\r\n")}) {
      Client client(server.port());
      client.send(post_chunked("/report?100", "0123456789", 3, "", trailers));
      CHECK(client.read().body == report("0123456789").substr(0, report("0123456789").size() - 1) + "EPROTO");
      CHECK(client.ends());
    }
    Client client(server.port());
    client.send(post_chunked("/", "nobody reads this", 5, "", "X-A: 1\r\n"));
    CHECK(client.read().status == 200);
    CHECK(client.get("/").status == 200);
  });
}

TEST_CASE("an encoded body is decoded") {
  on_every_setup([](const ServerSetup& setup) {
    TestServer server(setup);
    Client client(server.port());
    const std::string text = noise(300'000);
    const std::string bytes = gzip(text);
    for (const std::string& path : kReporters) {
      CAPTURE(path);
      for (const std::string most : {"7", "1000", "1000000"}) {
        client.send(post(path + "?" + most, bytes, kGzip));
        const Response whole = client.read();
        CHECK((whole.body == report(text) || (path == "/inline-report" && whole.body == "would wait")));
        client.send(post_chunked(path + "?" + most, bytes, 1000, kGzip, "X-A: b\r\n"));
        const Response pieces = client.read();
        CHECK((pieces.body == report(text) + " X-A=b" || (path == "/inline-report" && pieces.body == "would wait")));
      }
      client.send(post(path + "?100", gzip("short"), "content-encoding: X-Gzip\r\nContent-Encoding: identity\r\n"));
      CHECK(client.read().body == report("short"));
      client.send(post_chunked(path + "?100", "", 1, kGzip, ""));
      const std::string empty = client.read().body;
      CHECK((empty == report("") || (path == "/inline-report" && empty == "would wait")));
      client.send(post(path + "?100", "", kGzip));
      CHECK(client.read().body == report(""));
    }
    for (const char* path : {"/echo", "/echo-there", "/echo-anywhere", "/stream-echo"}) {
      client.send(post(path, bytes, kGzip));
      CHECK((client.read().body == text));
    }
    client.send(post("/raw-echo", bytes, kGzip));
    CHECK((client.read().body == bytes));
    // Several in one packet; what one of them has not decoded yet does not get into the next.
    client.send(post("/report-there?10", gzip(noise(2000)), kGzip) + post("/", gzip("unread"), kGzip) +
                post("/echo", gzip("second"), kGzip) + post("/inline-report?2", gzip("third"), kGzip));
    CHECK(client.read().body == report(noise(2000)));
    CHECK(client.read().body == "hello");
    CHECK(client.read().body == "second");
    CHECK(client.read().body == report("third"));
  });
}

TEST_CASE("an encoded body that arrives byte by byte") {
  on_every_setup([](const ServerSetup& setup) {
    TestServer server(setup);
    Client client(server.port());
    const std::string text = noise(500);
    for (const char* path : {"/echo", "/echo-there"}) {
      for (const char byte : post(path, gzip(text), kGzip)) REQUIRE(client.send(std::string(1, byte)));
      CHECK(client.read().body == text);
    }
  });
}

TEST_CASE("a body that is not what it claims to be") {
  on_every_setup([](const ServerSetup& setup) {
    TestServer server(setup);
    Client client(server.port());
    const std::string bytes = gzip(noise(1000));
    std::string changed = bytes;
    changed[changed.size() / 2] = static_cast<char>(changed[changed.size() / 2] ^ 1);
    for (const std::string& path : kReporters) {
      CAPTURE(path);
      for (const std::string& body :
           {changed, bytes.substr(0, bytes.size() - 1), bytes.substr(0, 5), bytes + "x", std::string("plain")}) {
        client.send(post(path + "?100", body, kGzip));
        CHECK(error_in(client.read().body) == "EPROTO");
      }
      for (const char* coding : {"compress", "gzip, gzip", "gzip\r\nContent-Encoding: br", "gzip;q=1"}) {
        client.send(post(path + "?100", bytes, "Content-Encoding: " + std::string(coding) + "\r\n"));
        CHECK(error_in(client.read().body) == "EINVAL");
      }
    }
    client.send(post("/echo", changed, kGzip));
    CHECK(client.read().status == 400);
    CHECK(client.get("/").status == 200);  // the framing was good
  });
}

TEST_CASE("bombs are bounded") {
  on_every_setup([](ServerSetup setup) {
    setup.limits.buffered_body_bytes = 1'000'000;
    setup.limits.expansion_ratio = 10;
    TestServer server(setup);
    Client client(server.port());
    std::string zeros;
    zeros.resize(50'000'000);
    const std::string bomb = gzip(zeros);
    for (const std::string& path : kReporters) {
      client.send(post(path + "?100000", bomb, kGzip));
      const std::string said = client.read().body;
      CHECK((error_in(said) == "ELIMIT" || (path == "/inline-report" && said == "would wait")));
    }
    client.send(post("/echo", bomb, kGzip));
    CHECK(client.read().status == 413);
    client.send(post("/echo", gzip(std::string(1'000'001, 'x')), kGzip));
    CHECK(client.read().status == 413);
    client.send(post("/echo", gzip(std::string(1'000'000, 'x')), kGzip));
    CHECK(client.read().body.size() == 1'000'000);
    // More than that, but not that many times what came.
    const std::string text = noise(1'500'000);
    client.send(post("/report?100000", gzip(text), kGzip));
    CHECK(client.read().body == report(text));
    // It is the decoded size that counts.
    const std::string raw = noise(1'000'001);
    client.send(post("/echo", gzip(raw), kGzip));
    CHECK(client.read().status == 413);
  });
}
