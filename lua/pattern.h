// Lua's patterns (reference manual, 6.4.1), matched so that a search which takes long can be interrupted.
//
// Backtracking makes some patterns exponential. Stock Lua matches in C code that nothing can interrupt; here a search
// pauses every so many steps, and goes on when it is told to, on another thread if need be: what would be nested calls
// of a recursive matcher are frames in the matcher itself.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace evlua::lua {

/// Trivially destructible and copyable: Lua may jump over it, and a search that has paused may be moved.
class PatternMatcher {
 public:
  static constexpr int kCapturesMax = 32;
  static constexpr std::ptrdiff_t kPosition = -2;  ///< the size of a capture "()"

  struct Capture {
    const char* start;
    std::ptrdiff_t size;
  };

  enum class Result : std::uint8_t { found, none, paused };

  PatternMatcher(std::string_view subject, std::string_view pattern) noexcept
      : begin_(subject.data()),
        end_(subject.data() + subject.size()),
        pattern_(pattern.data()),
        pattern_end_(pattern.data() + pattern.size()) {}

  /// The first match that begins at or behind `from` and does not end at `not_at`; that begins at `from` if `anchored`.
  /// Result::none if there is none, or an error.
  Result search(const char* from, bool anchored, const char* not_at = nullptr) noexcept;
  /// After Result::paused. One search is about a millisecond of computing, or less, between two pauses.
  Result go_on() noexcept;
  /// What has been done with the match took as long as so many steps of a search: the next one pauses the sooner.
  void add_steps(std::size_t count) noexcept { steps_ += count; }

  /// Where what was found begins and ends.
  const char* start() const noexcept { return start_; }
  const char* stop() const noexcept { return stop_; }
  /// Why the pattern is wrong; null when all is well. With "%d" in it: see error_number.
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
  static constexpr int kDepthMax = 200;  // as stock Lua's MAXCCALLS
  static constexpr std::size_t kStepsPerTurn = 1u << 17;
  static constexpr std::ptrdiff_t kLongSet = 64;
  static constexpr std::ptrdiff_t kScan = 1024;
  using Members = std::array<bool, 256>;

  /// Where in the subject and in the pattern.
  struct Place {
    const char* s;
    const char* p;
  };
  /// What has been decided, and is decided otherwise, or undone, where the rest does not match.
  struct Frame {
    enum class Kind : std::uint8_t { most, least, optional, opened, closed };
    Kind kind;
    Place next;
    std::ptrdiff_t count;  // most: how many times at most; closed: which capture
    const char* after;     // least: behind the single item
  };

  bool fail(const char* message, int number = 0) noexcept {
    if (error_ == nullptr) {
      error_ = message;
      error_number_ = number;
    }
    return false;
  }
  const char* malformed(const char* message) noexcept {
    (void)fail(message);
    return nullptr;
  }
  bool push(const Frame& frame) noexcept;
  const char* candidate(const char* from) noexcept;
  bool step(Place& at) noexcept;
  bool back_up(Place& at) noexcept;
  const char* single_end(const char* p) noexcept;
  bool matches_single(const char* s, const char* p, const char* single_end) const noexcept;
  bool in_set(unsigned char c, const char* p, const char* closing) const noexcept;
  static Members members_of(const char* p, const char* closing) noexcept;
  std::ptrdiff_t run_of(const char* s, const char* p, const char* after) const noexcept;
  void find_first() noexcept;
  bool most(Place& at, const char* after) noexcept;
  bool balanced(Place& at) noexcept;
  bool frontier(Place& at) noexcept;
  bool open_capture(Place& at) noexcept;
  bool close_capture(Place& at) noexcept;
  bool repeated_capture(Place& at) noexcept;

  const char* begin_;
  const char* end_;
  const char* pattern_;
  const char* pattern_end_;
  const char* first_ = nullptr;  // the single item that every match begins with, if there is one
  const char* first_end_ = nullptr;
  bool first_known_ = false;
  const char* start_ = nullptr;
  const char* stop_ = nullptr;
  const char* not_at_ = nullptr;
  bool anchored_ = false;
  const char* error_ = nullptr;
  int error_number_ = 0;
  int captures_ = 0;
  std::size_t depth_ = 0;
  std::size_t steps_ = 0;
  Place paused_{};
  std::array<Capture, kCapturesMax> capture_;
  std::array<Frame, kDepthMax> frame_;
};

}  // namespace evlua::lua
