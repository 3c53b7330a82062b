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
  first_known_ = true;
  const char* p = pattern_;
  for (int opened = 0; p != pattern_end_ && *p == '('; ++opened) {
    if (opened == kCapturesMax) return;  // an error, which is found by matching
    p += p + 1 != pattern_end_ && p[1] == ')' ? 2 : 1;
  }
  if (p == pattern_end_ || *p == ')' || *p == '$') return;
  if (*p == kEscape && (p + 1 == pattern_end_ || p[1] == 'b' || p[1] == 'f' || std::isdigit(byte(p + 1)) != 0)) return;
  const char* after = single_end(p);
  if (after == nullptr) return;
  const char suffix = after == pattern_end_ ? '\0' : *after;
  if (*p == '.' || suffix == '*' || suffix == '-' || suffix == '?') return;
  first_ = p;
  first_end_ = after;
}

/// At or behind `from`, where the pattern may match; null if it does not. What takes long is left to the search, which
/// pauses.
const char* PatternMatcher::candidate(const char* from) noexcept {
  if (!first_known_) find_first();
  if (first_ == nullptr) return from;
  if (*first_ != kEscape && *first_ != '[') {
    const auto left = static_cast<std::size_t>(end_ - from);
    return left == 0 ? nullptr : static_cast<const char*>(std::memchr(from, byte(first_), left));
  }
  const char* const begin = from;
  const char* const stop = end_ - from > kScan ? from + kScan : end_;
  if (*first_ == kEscape) {
    while (from != stop && !in_class(byte(from), byte(first_ + 1))) ++from;
  } else {
    while (from != stop && !in_set(byte(from), first_, first_end_ - 1)) ++from;
  }
  steps_ += static_cast<std::size_t>((from - begin) * (first_end_ - first_));
  return from != end_ ? from : nullptr;
}

[[gnu::always_inline]] inline bool PatternMatcher::push(const Frame& frame) noexcept {
  if (depth_ + 1 == kDepthMax) return fail("pattern too complex");
  frame_[depth_++] = frame;
  return true;
}

/// Behind the single character, class or set at `p`.
const char* PatternMatcher::single_end(const char* p) noexcept {
  if (*p == kEscape) {
    if (p + 1 == pattern_end_) return malformed("malformed pattern (ends with '%%')");
    return p + 2;
  }
  if (*p++ != '[') return p;
  if (p != pattern_end_ && *p == '^') ++p;
  do {  // a ']' that comes first stands for itself
    if (p == pattern_end_) return malformed("malformed pattern (missing ']')");
    if (*p++ == kEscape) {
      if (p == pattern_end_) return malformed("malformed pattern (missing ']')");
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

/// Of a set that is too long to be looked through for each byte.
PatternMatcher::Members PatternMatcher::members_of(const char* p, const char* closing) noexcept {
  Members members{};
  const bool complement = p[1] == '^';
  if (complement) ++p;
  const auto add = [&members](unsigned char from, unsigned char to) {
    for (unsigned c = from; c <= to; ++c) members[c] = true;
  };
  while (++p < closing) {
    if (*p == kEscape) {
      ++p;
      for (unsigned c = 0; c < members.size(); ++c) members[c] |= in_class(static_cast<unsigned char>(c), byte(p));
    } else if (p[1] == '-' && p + 2 < closing) {
      add(byte(p), byte(p + 2));
      p += 2;
    } else {
      add(byte(p), byte(p));
    }
  }
  if (complement) {
    for (bool& member : members) member = !member;
  }
  return members;
}

/// How many bytes from `s` on match the single item at `p`.
std::ptrdiff_t PatternMatcher::run_of(const char* s, const char* p, const char* after) const noexcept {
  const char* at = s;
  switch (*p) {
    case '.': at = end_; break;
    case kEscape:
      while (at != end_ && in_class(byte(at), byte(p + 1))) ++at;
      break;
    case '[':
      if (after - p > kLongSet) {
        const Members members = members_of(p, after - 1);
        while (at != end_ && members[byte(at)]) ++at;
      } else {
        while (at != end_ && in_set(byte(at), p, after - 1)) ++at;
      }
      break;
    default:
      while (at != end_ && *at == *p) ++at;
  }
  return at - s;
}

/// As many as possible, then ever fewer.
[[gnu::always_inline]] inline bool PatternMatcher::most(Place& at, const char* after) noexcept {
  const std::ptrdiff_t count = run_of(at.s, at.p, after);
  steps_ += static_cast<std::size_t>(count);
  const Place least{at.s, after + 1};
  at = {at.s + count, after + 1};
  if (after + 1 == pattern_end_) return true;
  return push({Frame::Kind::most, least, count, nullptr});
}

/// %bxy
[[gnu::always_inline]] inline bool PatternMatcher::balanced(Place& at) noexcept {
  const char* p = at.p + 2;
  if (pattern_end_ - p < 2) return fail("malformed pattern (missing arguments to '%%b')");
  if (at.s == end_ || *at.s != *p) return false;
  int level = 1;
  const char* s = at.s + 1;
  for (; s != end_; ++s) {
    if (*s == p[1]) {
      if (--level == 0) break;
    } else if (*s == p[0]) {
      ++level;
    }
  }
  steps_ += static_cast<std::size_t>(s - at.s);
  if (s == end_) return false;
  at = {s + 1, p + 2};
  return true;
}

/// %f[set]
[[gnu::always_inline]] inline bool PatternMatcher::frontier(Place& at) noexcept {
  const char* p = at.p + 2;
  if (p == pattern_end_ || *p != '[') return fail("missing '[' after '%%f' in pattern");
  const char* after = single_end(p);
  if (after == nullptr) return false;
  steps_ += static_cast<std::size_t>(after - p);
  const unsigned char before = at.s == begin_ ? 0 : byte(at.s - 1);
  const unsigned char here = at.s == end_ ? 0 : byte(at.s);
  at.p = after;
  return !in_set(before, p, after - 1) && in_set(here, p, after - 1);
}

[[gnu::always_inline]] inline bool PatternMatcher::open_capture(Place& at) noexcept {
  const bool is_position = at.p + 1 != pattern_end_ && at.p[1] == ')';
  if (captures_ == kCapturesMax) return fail("too many captures");
  capture_[static_cast<std::size_t>(captures_)] = {at.s, is_position ? kPosition : kOpen};
  ++captures_;
  at.p += is_position ? 2 : 1;
  return push({Frame::Kind::opened, at, 0, nullptr});
}

[[gnu::always_inline]] inline bool PatternMatcher::close_capture(Place& at) noexcept {
  int index = captures_ - 1;
  while (index >= 0 && !is_open(capture(index))) --index;
  if (index < 0) return fail("invalid pattern capture");
  Capture& closed = capture_[static_cast<std::size_t>(index)];
  closed.size = at.s - closed.start;
  ++at.p;
  return push({Frame::Kind::closed, at, index, nullptr});
}

/// %1 to %9: what the capture has matched, once more.
[[gnu::always_inline]] inline bool PatternMatcher::repeated_capture(Place& at) noexcept {
  const int index = at.p[1] - '1';
  if (index < 0 || index >= captures_ || is_open(capture(index))) return fail("invalid capture index %%%d", index + 1);
  const Capture& before = capture(index);
  const auto size = static_cast<std::size_t>(before.size);
  if (static_cast<std::size_t>(end_ - at.s) < size) return false;
  steps_ += size;
  if (std::memcmp(before.start, at.s, size) != 0) return false;
  at = {at.s + size, at.p + 2};
  return true;
}

/// Matches the item of the pattern that is at `at.p`, in the first of the ways in which that is possible.
[[gnu::always_inline]] inline bool PatternMatcher::step(Place& at) noexcept {
  const char* const p = at.p;
  switch (*p) {
    case '(': return open_capture(at);
    case ')': return close_capture(at);
    case '$':
      if (p + 1 != pattern_end_) break;
      at.p = pattern_end_;
      return at.s == end_;
    case kEscape:
      if (p + 1 == pattern_end_) break;
      if (p[1] == 'b') return balanced(at);
      if (p[1] == 'f') return frontier(at);
      if (std::isdigit(byte(p + 1)) != 0) return repeated_capture(at);
      break;
    default: break;
  }
  const char* after = single_end(p);
  if (after == nullptr) return false;
  steps_ += static_cast<std::size_t>(after - p);
  const char suffix = after == pattern_end_ ? '\0' : *after;
  if (!matches_single(at.s, p, after)) {
    at.p = after + 1;
    return suffix == '*' || suffix == '-' || suffix == '?';
  }
  switch (suffix) {
    case '*': return most(at, after);
    case '+': ++at.s; return most(at, after);
    case '-': at.p = after + 1; return push({Frame::Kind::least, {at.s, p}, 0, after});
    case '?': at.p = after + 1; return push({Frame::Kind::optional, {at.s++, after + 1}, 0, nullptr});
    default:
      ++at.s;
      at.p = after;
      return true;
  }
}

/// Decides otherwise what was decided last and can be decided otherwise.
[[gnu::always_inline]] inline bool PatternMatcher::back_up(Place& at) noexcept {
  for (; depth_ > 0; --depth_) {
    Frame& last = frame_[depth_ - 1];
    switch (last.kind) {
      case Frame::Kind::most:
        if (last.count-- == 0) break;
        at = {last.next.s + last.count, last.next.p};
        return true;
      case Frame::Kind::least:
        steps_ += static_cast<std::size_t>(last.after - last.next.p);
        if (!matches_single(last.next.s, last.next.p, last.after)) break;
        at = {++last.next.s, last.after + 1};
        return true;
      case Frame::Kind::optional:
        at = last.next;
        --depth_;
        return true;
      case Frame::Kind::opened: --captures_; break;
      case Frame::Kind::closed: capture_[static_cast<std::size_t>(last.count)].size = kOpen; break;
    }
  }
  return false;
}

PatternMatcher::Result PatternMatcher::search(const char* from, bool anchored, const char* not_at) noexcept {
  anchored_ = anchored;
  not_at_ = not_at;
  start_ = first_known_ && !anchored ? candidate(from) : from;  // a match that is there at once is looked for at once
  if (start_ == nullptr) return Result::none;
  captures_ = 0;
  depth_ = 0;
  paused_ = {start_, pattern_};
  return go_on();
}

PatternMatcher::Result PatternMatcher::go_on() noexcept {
  Place at = paused_;
  while (true) {
    if (at.p == pattern_end_) {
      stop_ = at.s;
      if (stop_ != not_at_) return Result::found;
    } else if (++steps_ >= kStepsPerTurn) {
      steps_ = 0;
      paused_ = at;
      return Result::paused;
    } else if (step(at)) {
      continue;
    } else if (error_ != nullptr) {
      return Result::none;
    } else if (back_up(at)) {
      continue;
    }
    if (anchored_ || start_ == end_) return Result::none;
    start_ = candidate(start_ + 1);
    if (start_ == nullptr) return Result::none;
    captures_ = 0;
    depth_ = 0;
    at = {start_, pattern_};
  }
}

}  // namespace evlua::lua
