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

int asked = 0;

const char* go_on() noexcept { return ++asked > 3 ? "too long" : nullptr; }

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
  asked = 0;
  PatternMatcher matcher(text, pattern, go_on);
  for (const char* from = matcher.candidate(text.data()); from != nullptr; from = matcher.candidate(from + 1)) {
    const char* end = matcher.match(from);
    if (matcher.error() != nullptr) break;
    if (end != nullptr) {
      EVLUA_CHECK(end >= from && end <= text.data() + text.size());
      check_captures(matcher, text);
    }
    if (from == text.data() + text.size()) break;
  }
  return 0;
}
