// multipart/form-data, cut into pieces in every way.
#include "net/http/multipart.h"

#include <doctest/doctest.h>

#include <string>
#include <string_view>

namespace evlua::http {
namespace {

/// Everything that comes out, in words.
std::string read(std::string_view body, std::size_t piece, std::string_view boundary = "B") {
  MultipartReader reader(boundary);
  std::string seen;
  while (true) {
    const MultipartReader::Event event = reader.next();
    switch (event) {
      case MultipartReader::Event::more:
        if (body.empty()) {
          reader.finish();
        } else {
          reader.feed(body.substr(0, piece));
          body.remove_prefix(std::min(piece, body.size()));
        }
        break;
      case MultipartReader::Event::part:
        seen += "[" + reader.head().name;
        if (reader.head().file_name) seen += "|" + *reader.head().file_name;
        if (!reader.head().content_type.empty()) seen += "|" + std::string(reader.head().content_type);
        seen += ":";
        break;
      case MultipartReader::Event::data: seen += reader.data(); break;
      case MultipartReader::Event::part_end: seen += "]"; break;
      case MultipartReader::Event::end: return seen + ".";
      case MultipartReader::Event::invalid: return seen + "!";
    }
  }
}

std::string part(std::string_view disposition, std::string_view content, std::string_view more = "") {
  return "\r\n--B\r\nContent-Disposition: " + std::string(disposition) + "\r\n" + std::string(more) + "\r\n" +
         std::string(content);
}

TEST_CASE("parts come out the same however the body is cut") {
  const std::string body =
      "preamble" + part("form-data; name=\"a\"", "1") + part("form-data; name=b", "") +
      part("form-data; name=\"f\"; filename=\"x.txt\"", "\r\n--not\r\n-\r\n", "content-TYPE: text/x\r\n") +
      "\r\n--B  \t\r\nContent-Disposition: form-data; name=\"last\"\r\n\r\n\r\n\r\n--B--\r\nepilogue";
  for (std::size_t piece = 1; piece <= body.size(); ++piece) {
    CAPTURE(piece);
    CHECK(read(body, piece) == "[a:1][b:][f|x.txt|text/x:\r\n--not\r\n-\r\n][last:\r\n].");
  }
  CHECK(read("--B--", 1) == ".");
  CHECK(read("--B\r\nContent-Disposition: form-data; name=a\r\n\r\nx\r\n--B--", 3) == "[a:x].");
}

TEST_CASE("names") {
  const auto name = [](std::string_view disposition) { return read(part(disposition, "") + "\r\n--B--", 1000); };
  CHECK(name("form-data; name=\"a b;c=\\\"d\\\"\"") == "[a b;c=\"d\":].");
  CHECK(name("form-data; name=\"a\"; filename=\"C:\\docs\\x.txt\"") == "[a|x.txt:].");
  CHECK(name("form-data; name=\"a\"; filename=\"../../etc/passwd\"") == "[a|passwd:].");
  CHECK(name("form-data; name=\"a\"; filename=\"\"") == "[a|:].");
  CHECK(name("form-data; name=\"a\"; filename=\"e.txt\"; filename*=UTF-8''%c3%a4.txt") == "[a|\xc3\xa4.txt:].");
  CHECK(name("form-data; name=\"a\"; filename*=utf-8''..%2Fb; filename=c") == "[a|b:].");
  CHECK(name("FORM-DATA;name=a") == "[a:].");
  for (const std::string_view bad : {"form-data", "form-data; filename=\"x\"", "attachment; name=\"a\"",
                                     "form-data; name=\"a", "form-data; name=\"a\"; rubbish"}) {
    CAPTURE(bad);
    CHECK(name(bad) == "!");
  }
}

TEST_CASE("what is broken or too much") {
  CHECK(read("", 1) == "!");
  CHECK(read("no boundary at all", 5) == "!");
  CHECK(read("--B\r\nContent-Disposition: form-data; name=a\r\n\r\nxyz", 5) == "[a:!");
  CHECK(read("--B\r\nno field\r\n\r\n\r\n--B--", 5) == "!");
  CHECK(read("--B\r\n\r\n\r\n--B--", 5) == "!");
  CHECK(read("--Bx\r\nContent-Disposition: form-data; name=a\r\n\r\n\r\n--B--", 5) == "!");
  CHECK(read("--B\r\nContent-Disposition: form-data; name=a\r\nX: a\001b\r\n\r\n\r\n--B--", 5) == "!");
  CHECK(read("--B\r\n" + std::string(20000, 'x'), 1000) == "!");
  CHECK(read("--B" + std::string(1000, ' '), 100) == "!");
  std::string many;
  for (std::size_t i = 0; i <= MultipartReader::kPartsMax; ++i) many += part("form-data; name=a", "");
  CHECK(read(many + "\r\n--B--", 1000).ends_with("]!"));
}

TEST_CASE("boundaries") {
  CHECK(multipart_boundary("multipart/form-data; boundary=abc") == "abc");
  CHECK(multipart_boundary("Multipart/Form-Data; charset=x; Boundary=\"a b\"") == "a b");
  CHECK(!multipart_boundary("multipart/form-data"));
  CHECK(!multipart_boundary("multipart/mixed; boundary=abc"));
  CHECK(!multipart_boundary("multipart/form-data; boundary="));
  CHECK(!multipart_boundary("multipart/form-data; boundary=" + std::string(300, 'x')));
}

}  // namespace
}  // namespace evlua::http
