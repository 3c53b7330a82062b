// A pattern, its length in the first byte, and behind it the text that it is matched with: captures lie within the
// text, and a match that goes on and on ends when it is asked to.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "core/check.h"
#include "lua/pattern.h"

namespace {

using evlua::lua::PatternMatcher;

void check_captures(const PatternMatcher& matcher, std::string_view text) {
  EVLUA_CHECK(matcher.captures() <= PatternMatcher::kCapturesMax);
  for (int i = 0; i < matcher.captures(); ++i) {
    const PatternMatcher::Capture& capture = matcher.capture(i);
    EVLUA_CHECK(capture.start >= text.data() && capture.start <= text.data() + text.size());
    if (capture.size >= 0) EVLUA_CHECK(capture.size <= text.data() + text.size() - capture.start);
    EVLUA_CHECK(capture.size >= 0 || capture.size == PatternMatcher::kPosition || PatternMatcher::is_open(capture));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view input(reinterpret_cast<const char*>(data) + 1, size - 1);
  const std::size_t cut = std::min<std::size_t>(data[0], input.size());
  const std::string_view pattern = input.substr(0, cut);
  const std::string_view text = input.substr(cut);
  PatternMatcher matcher(text, pattern);
  const char* last = nullptr;
  auto result = matcher.search(text.data(), false);
  for (int pauses = 0;; result = matcher.search(last, false, last)) {
    while (result == PatternMatcher::Result::paused && ++pauses <= 3) result = matcher.go_on();
    if (result != PatternMatcher::Result::found) break;
    EVLUA_CHECK(matcher.start() >= text.data() && matcher.stop() >= matcher.start());
    EVLUA_CHECK(matcher.stop() <= text.data() + text.size() && matcher.stop() != last);
    check_captures(matcher, text);
    last = matcher.stop();
  }
  return 0;
}
