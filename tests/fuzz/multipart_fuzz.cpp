// A multipart body, whole and in pieces as the first byte says: the same comes out.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "net/http/multipart.h"

namespace {

using evlua::http::MultipartReader;

std::string read(std::string_view body, std::size_t piece) {
  MultipartReader reader("B");
  std::string seen;
  while (true) {
    switch (reader.next()) {
      case MultipartReader::Event::more:
        if (body.empty()) {
          reader.finish();
        } else {
          reader.feed(body.substr(0, piece));
          body.remove_prefix(std::min(piece, body.size()));
        }
        break;
      case MultipartReader::Event::part:
        seen += "[" + reader.head().name + "|" + reader.head().file_name.value_or("-") + "|";
        seen += reader.head().content_type;
        for (const auto& [name, value] : reader.head().fields) seen.append(name).append(value);
        break;
      case MultipartReader::Event::data: seen += reader.data(); break;
      case MultipartReader::Event::part_end: seen += ']'; break;
      case MultipartReader::Event::end: return seen + ".";
      // What of a broken body was seen before that depends on the pieces.
      case MultipartReader::Event::invalid: return "!";
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  static_cast<void>(evlua::http::multipart_boundary(input));
  if (size == 0) return 0;
  const std::string_view body = input.substr(1);
  if (read(body, 1 + data[0] % 61) != read(body, body.size() + 1)) std::abort();
  return 0;
}
