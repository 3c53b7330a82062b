// What clients send, as parts of log lines and pages: nothing in it ends its field, its line or its element.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/bytes.h"
#include "core/check.h"
#include "lua/error_page.h"
#include "lua/json_scan.h"
#include "net/http/access_lines.h"

namespace {

/// Quotes, and backslashes that begin nothing, would end the field or eat its end.
void check_field(std::string_view text, std::string_view escapes) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    EVLUA_CHECK(static_cast<unsigned char>(text[i]) >= 0x20 && text[i] != '"');
    if (text[i] != '\\') continue;
    EVLUA_CHECK(i + 1 < text.size() && escapes.find(text[i + 1]) != std::string_view::npos);
    ++i;
    if (text[i] == 'u') EVLUA_CHECK(i + 4 < text.size());
    if (text[i] == 'x') EVLUA_CHECK(i + 2 < text.size());
  }
}

std::size_t count(std::string_view text, char wanted) {
  std::size_t found = 0;
  for (const char c : text) found += c == wanted ? 1 : 0;
  return found;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace evlua;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  Bytes line;
  http::append_escaped(line, input, 1024);
  for (const char c : line.view()) EVLUA_CHECK(static_cast<unsigned char>(c) < 0x7f);
  check_field(line.view(), "x");
  line.clear();
  http::append_json(line, input, 1024);
  check_field(line.view(), "u\"\\");
  EVLUA_CHECK(lua::find_invalid_utf8(line.view()) == std::string_view::npos);

  // As many elements as with harmless words: one for each line of the traceback, and the message's.
  const std::string page = lua::error_page(input, input, {});
  std::string harmless(input);
  for (char& c : harmless) {
    if (c == '<' || c == '>' || c == '&' || c == '"' || c == '\'') c = '_';
  }
  const std::string other = lua::error_page(harmless, harmless, {});
  EVLUA_CHECK(count(page, '<') == count(other, '<') && count(page, '>') == count(other, '>'));
  return 0;
}
