#include "lua/pattern.h"

#include <cctype>
#include <cstring>

namespace evlua::lua {

namespace {

constexpr char kEscape = '%';

unsigned char byte(const char* at) noexcept { return static_cast<unsigned char>(*at); }

/// For each letter behind '%' the bytes of its class, as in the C locale; or none: then it stands for itself.
class Classes {
 public:
  Classes() noexcept {
    add('a', std::isalpha);
    add('c', std::iscntrl);
    add('d', std::isdigit);
    add('g', std::isgraph);
    add('l', std::islower);
    add('p', std::ispunct);
    add('s', std::isspace);
    add('u', std::isupper);
    add('w', std::isalnum);
    add('x', std::isxdigit);
    add('z', [](int c) { return c == 0 ? 1 : 0; });  // of Lua 5.1
  }

  bool has(unsigned char c, unsigned char letter) const noexcept {
    const std::uint32_t bit = bit_[letter];
    return bit == 0 ? letter == c : (members_[c] & bit) != 0;
  }

 private:
  void add(char letter, int (*is)(int)) noexcept {
    const std::uint32_t bit = 1u << count_++;
    const std::uint32_t complement = 1u << count_++;
    bit_[static_cast<unsigned char>(letter)] = bit;
    bit_[static_cast<unsigned char>(std::toupper(letter))] = complement;
    for (int c = 0; c < 256; ++c) members_[static_cast<std::size_t>(c)] |= is(c) != 0 ? bit : complement;
  }

  std::array<std::uint32_t, 256> members_{};
  std::array<std::uint32_t, 256> bit_{};
  int count_ = 0;
};

const Classes classes;

bool in_class(unsigned char c, unsigned char letter) noexcept { return classes.has(c, letter); }

}  // namespace

void PatternMatcher::find_first() noexcept {
  const char* p = pattern_;
  while (p != pattern_end_ && *p == '(') p += p + 1 != pattern_end_ && p[1] == ')' ? 2 : 1;
  if (p == pattern_end_ || *p == ')' || *p == '$' || *p == '[') return;
  if (*p == kEscape && (p + 1 == pattern_end_ || p[1] == 'b' || p[1] == 'f' || std::isdigit(byte(p + 1)) != 0)) return;
  const char* after = p + (*p == kEscape ? 2 : 1);
  const char suffix = after == pattern_end_ ? '\0' : *after;
  if (*p != '.' && suffix != '*' && suffix != '-' && suffix != '?') first_ = p;
}

const char* PatternMatcher::candidate(const char* from) const noexcept {
  if (first_ == nullptr) return from;
  if (*first_ != kEscape) {
    const auto left = static_cast<std::size_t>(end_ - from);
    return left == 0 ? nullptr : static_cast<const char*>(std::memchr(from, byte(first_), left));
  }
  while (from != end_ && !in_class(byte(from), byte(first_ + 1))) ++from;
  return from != end_ ? from : nullptr;
}

/// False: the match must end.
bool PatternMatcher::ask() noexcept {
  steps_ = 0;
  const char* ends = go_on_();
  if (ends != nullptr) (void)fail(ends);
  return ends == nullptr;
}

const char* PatternMatcher::run_deeper(const char* s, const char* p) noexcept {
  if (depth_ + 1 == kDepthMax) return fail("pattern too complex");
  ++depth_;
  const char* end = run(s, p);
  --depth_;
  return end;
}

/// Matches the pattern from `p` on at `s`.
const char* PatternMatcher::run(const char* s, const char* p) noexcept {
  while (true) {
    if (p == pattern_end_) return s;
    if (!count(1)) return nullptr;
    switch (*p) {
      case '(':
        if (p + 1 != pattern_end_ && p[1] == ')') return open_capture(s, p + 2, kPosition);
        return open_capture(s, p + 1, kOpen);
      case ')': return close_capture(s, p + 1);
      case '$':
        if (p + 1 == pattern_end_) return s == end_ ? s : nullptr;
        break;
      case kEscape:
        if (p + 1 == pattern_end_) break;
        if (p[1] == 'b') {
          s = balanced(s, p + 2);
          if (s == nullptr) return nullptr;
          p += 4;
          continue;
        }
        if (p[1] == 'f') {
          p += 2;
          if (p == pattern_end_ || *p != '[') return fail("missing '[' after '%%f' in pattern");
          const char* after = single_end(p);
          if (after == nullptr) return nullptr;
          const unsigned char before = s == begin_ ? 0 : byte(s - 1);
          const unsigned char here = s == end_ ? 0 : byte(s);
          if (in_set(before, p, after - 1) || !in_set(here, p, after - 1)) return nullptr;
          p = after;
          continue;
        }
        if (std::isdigit(byte(p + 1)) != 0) {
          s = repeated_capture(s, byte(p + 1));
          if (s == nullptr) return nullptr;
          p += 2;
          continue;
        }
        break;
      default: break;
    }
    const char* after = single_end(p);
    if (after == nullptr) return nullptr;
    const char suffix = after == pattern_end_ ? '\0' : *after;
    if (!matches_single(s, p, after)) {
      if (suffix != '*' && suffix != '-' && suffix != '?') return nullptr;
      p = after + 1;
    } else if (suffix == '*') {
      return most(s, p, after);
    } else if (suffix == '+') {
      return most(s + 1, p, after);
    } else if (suffix == '-') {
      return least(s, p, after);
    } else if (suffix == '?') {
      const char* end = run_deeper(s + 1, after + 1);
      if (end != nullptr || error_ != nullptr) return end;
      p = after + 1;
    } else {
      ++s;
      p = after;
    }
  }
}

/// Behind the single character, class or set at `p`.
const char* PatternMatcher::single_end(const char* p) noexcept {
  if (*p == kEscape) {
    if (p + 1 == pattern_end_) return fail("malformed pattern (ends with '%%')");
    return p + 2;
  }
  if (*p++ != '[') return p;
  if (p != pattern_end_ && *p == '^') ++p;
  do {  // a ']' that comes first stands for itself
    if (p == pattern_end_) return fail("malformed pattern (missing ']')");
    if (*p++ == kEscape) {
      if (p == pattern_end_) return fail("malformed pattern (missing ']')");
      ++p;
    }
  } while (p == pattern_end_ || *p != ']');
  return p + 1;
}

inline bool PatternMatcher::matches_single(const char* s, const char* p, const char* single_end) const noexcept {
  if (s == end_) return false;
  switch (*p) {
    case '.': return true;
    case kEscape: return in_class(byte(s), byte(p + 1));
    case '[': return in_set(byte(s), p, single_end - 1);
    default: return *p == *s;
  }
}

/// `p` is at the '[', `closing` at the ']'.
bool PatternMatcher::in_set(unsigned char c, const char* p, const char* closing) const noexcept {
  bool in = true;
  if (p[1] == '^') {
    in = false;
    ++p;
  }
  while (++p < closing) {
    if (*p == kEscape) {
      ++p;
      if (in_class(c, byte(p))) return in;
    } else if (p[1] == '-' && p + 2 < closing) {
      if (byte(p) <= c && c <= byte(p + 2)) return in;
      p += 2;
    } else if (byte(p) == c) {
      return in;
    }
  }
  return !in;
}

/// How many bytes from `s` on match the single item at `p`.
std::size_t PatternMatcher::run_of(const char* s, const char* p, const char* after) const noexcept {
  const char* at = s;
  switch (*p) {
    case '.': at = end_; break;
    case kEscape:
      while (at != end_ && in_class(byte(at), byte(p + 1))) ++at;
      break;
    case '[':
      while (at != end_ && in_set(byte(at), p, after - 1)) ++at;
      break;
    default:
      while (at != end_ && *at == *p) ++at;
  }
  return static_cast<std::size_t>(at - s);
}

/// As many as possible, then ever fewer.
const char* PatternMatcher::most(const char* s, const char* p, const char* after) noexcept {
  auto times = static_cast<std::ptrdiff_t>(run_of(s, p, after));
  if (!count(static_cast<std::size_t>(times))) return nullptr;
  if (after + 1 == pattern_end_) return s + times;
  for (; times >= 0; --times) {
    const char* end = run_deeper(s + times, after + 1);
    if (end != nullptr || error_ != nullptr) return end;
  }
  return nullptr;
}

/// As few as possible, then ever more.
const char* PatternMatcher::least(const char* s, const char* p, const char* after) noexcept {
  while (true) {
    const char* end = run_deeper(s, after + 1);
    if (end != nullptr || error_ != nullptr) return end;
    if (!count(1) || !matches_single(s, p, after)) return nullptr;
    ++s;
  }
}

/// %bxy, `p` being at the x.
const char* PatternMatcher::balanced(const char* s, const char* p) noexcept {
  if (pattern_end_ - p < 2) return fail("malformed pattern (missing arguments to '%%b')");
  if (s == end_ || *s != *p) return nullptr;
  int level = 1;
  for (const char* at = s + 1; at != end_; ++at) {
    if (*at == p[1]) {
      if (--level == 0) return count(static_cast<std::size_t>(at - s)) ? at + 1 : nullptr;
    } else if (*at == p[0]) {
      ++level;
    }
  }
  (void)count(static_cast<std::size_t>(end_ - s));
  return nullptr;
}

const char* PatternMatcher::open_capture(const char* s, const char* p, std::ptrdiff_t kind) noexcept {
  if (captures_ == kCapturesMax) return fail("too many captures");
  capture_[static_cast<std::size_t>(captures_)] = {s, kind};
  ++captures_;
  const char* end = run_deeper(s, p);
  if (end == nullptr) --captures_;
  return end;
}

const char* PatternMatcher::close_capture(const char* s, const char* p) noexcept {
  int index = captures_ - 1;
  while (index >= 0 && !is_open(capture_[static_cast<std::size_t>(index)])) --index;
  if (index < 0) return fail("invalid pattern capture");
  Capture& closed = capture_[static_cast<std::size_t>(index)];
  closed.size = s - closed.start;
  const char* end = run_deeper(s, p);
  if (end == nullptr) closed.size = kOpen;
  return end;
}

/// %1 to %9: what the capture has matched, once more.
const char* PatternMatcher::repeated_capture(const char* s, unsigned char digit) noexcept {
  const int index = digit - '1';
  if (index < 0 || index >= captures_ || is_open(capture(index))) return fail("invalid capture index %%%d", index + 1);
  const Capture& before = capture(index);
  const auto size = static_cast<std::size_t>(before.size);
  if (static_cast<std::size_t>(end_ - s) < size || std::memcmp(before.start, s, size) != 0) return nullptr;
  return s + size;
}

}  // namespace evlua::lua
