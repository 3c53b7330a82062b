// What the program has to say to whoever runs it, line by line, by levels. To standard error as "program: words"; to a
// file with the time and the level in front. Each line is one write(2), so lines of several threads and processes do
// not mix. It blocks where a disk does: say little. Where nobody reads (a pipe, a terminal) a line is dropped and
// counted; while the program does not work for others yet, or no longer, some time is given to the reader before.
//
// Control bytes are escaped, and the lines behind the first begin with a tab, so that nobody whose bytes are in a
// message can make up a line of ours. [any thread, unless marked]
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdarg>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/error.h"

namespace evlua {

enum class LogLevel : std::uint8_t { error, warn, info, debug };

class Log {
 public:
  static std::optional<LogLevel> level_of(std::string_view name) noexcept;

  /// What stands in front of messages on standard error. Before there are threads; `name` lives for ever.
  static void set_program(const char* name) noexcept;
  static void set_level(LogLevel level) noexcept { level_.store(level, std::memory_order_relaxed); }
  /// "-": standard error. Before there are threads.
  static Result<void> open(const std::string& path);
  /// As LogFile::give_to.
  static Result<void> give_to(uid_t user, gid_t group) noexcept;
  /// After the file was renamed.
  static Result<void> reopen() noexcept;

  /// Whether lines may wait for a reader. [any thread]
  static void set_patient(bool patient) noexcept { patient_.store(patient, std::memory_order_relaxed); }
  /// Lines that nobody read. [any thread]
  static std::uint64_t dropped() noexcept { return dropped_.load(std::memory_order_relaxed); }

  static bool on(LogLevel level) noexcept { return level <= level_.load(std::memory_order_relaxed); }

  [[gnu::format(printf, 1, 2)]] static void error(const char* format, ...) noexcept;
  [[gnu::format(printf, 1, 2)]] static void warn(const char* format, ...) noexcept;
  [[gnu::format(printf, 1, 2)]] static void info(const char* format, ...) noexcept;
  [[gnu::format(printf, 1, 2)]] static void debug(const char* format, ...) noexcept;

 private:
  static void write(LogLevel level, const char* format, va_list arguments) noexcept;

  static bool put(std::string_view line) noexcept;
  static void tell_losses() noexcept;

  static inline std::atomic<LogLevel> level_{LogLevel::info};
  static inline std::atomic<bool> patient_{true};
  static inline std::atomic<bool> stalled_{false};  // the reader has let time pass: it gets no more
  static inline std::atomic<bool> cut_{false};      // half of a line was written
  static inline std::atomic<std::uint64_t> dropped_{0};
  static inline std::atomic<std::uint64_t> told_{0};  // of them
};

}  // namespace evlua
