// Lua's patterns (reference manual, 6.4.1), matched so that a match which takes too long can be ended.
//
// Backtracking makes some patterns exponential. Stock Lua matches in C code that nothing can interrupt; here every so
// many steps somebody is asked whether to go on.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace evlua::lua {

/// Trivially destructible: Lua may jump over it.
class PatternMatcher {
 public:
  static constexpr int kCapturesMax = 32;
  static constexpr std::ptrdiff_t kPosition = -2;  ///< the size of a capture "()"

  struct Capture {
    const char* start;
    std::ptrdiff_t size;
  };

  /// `go_on` returns null, or why the match must end.
  PatternMatcher(std::string_view subject, std::string_view pattern, const char* (*go_on)() noexcept) noexcept
      : begin_(subject.data()),
        end_(subject.data() + subject.size()),
        pattern_(pattern.data()),
        pattern_end_(pattern.data() + pattern.size()),
        go_on_(go_on) {
    find_first();
  }

  /// The next position, `from` or behind it, where a match may begin; null when there is none.
  const char* candidate(const char* from) const noexcept;

  /// The end of a match that begins at `from`, or null: no match, or an error.
  const char* match(const char* from) noexcept {
    captures_ = 0;
    depth_ = 0;
    return run(from, pattern_);
  }
  /// Why the pattern is wrong or the match was ended; null when all is well. With "%d" in it: see error_number.
  const char* error() const noexcept { return error_; }
  int error_number() const noexcept { return error_number_; }

  int captures() const noexcept { return captures_; }
  const Capture& capture(int index) const noexcept { return capture_[static_cast<std::size_t>(index)]; }
  const char* begin() const noexcept { return begin_; }
  const char* end() const noexcept { return end_; }
  /// Whether a capture is still open at the end of the pattern.
  static bool is_open(const Capture& capture) noexcept { return capture.size == kOpen; }

 private:
  static constexpr std::ptrdiff_t kOpen = -1;
  static constexpr int kDepthMax = 200;
  static constexpr std::uint32_t kStepsPerAsk = 1u << 16;

  const char* fail(const char* message, int number = 0) noexcept {
    if (error_ == nullptr) {
      error_ = message;
      error_number_ = number;
    }
    return nullptr;
  }
  bool count(std::size_t steps) noexcept {
    steps_ += static_cast<std::uint32_t>(steps);
    return steps_ < kStepsPerAsk || ask();
  }
  bool ask() noexcept;
  const char* run(const char* s, const char* p) noexcept;
  const char* run_deeper(const char* s, const char* p) noexcept;
  const char* single_end(const char* p) noexcept;
  bool matches_single(const char* s, const char* p, const char* single_end) const noexcept;
  bool in_set(unsigned char c, const char* p, const char* closing) const noexcept;
  std::size_t run_of(const char* s, const char* p, const char* after) const noexcept;
  void find_first() noexcept;
  const char* most(const char* s, const char* p, const char* after) noexcept;
  const char* least(const char* s, const char* p, const char* after) noexcept;
  const char* balanced(const char* s, const char* p) noexcept;
  const char* open_capture(const char* s, const char* p, std::ptrdiff_t kind) noexcept;
  const char* close_capture(const char* s, const char* p) noexcept;
  const char* repeated_capture(const char* s, unsigned char digit) noexcept;

  const char* begin_;
  const char* end_;
  const char* pattern_;
  const char* pattern_end_;
  const char* (*go_on_)() noexcept;
  const char* first_ = nullptr;  // the single item that every match begins with, if that is known
  const char* error_ = nullptr;
  int error_number_ = 0;
  int captures_ = 0;
  int depth_ = 0;
  std::uint32_t steps_ = 0;
  std::array<Capture, kCapturesMax> capture_;
};

}  // namespace evlua::lua
