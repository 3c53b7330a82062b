// What the program has to say to whoever runs it, line by line, by levels. To standard error as "program: words"; to a
// file with the time and the level in front. Each line is one write(2), so lines of several threads and processes do
// not mix. It blocks where the file does: say little.
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

  static bool on(LogLevel level) noexcept { return level <= level_.load(std::memory_order_relaxed); }

  [[gnu::format(printf, 1, 2)]] static void error(const char* format, ...) noexcept;
  [[gnu::format(printf, 1, 2)]] static void warn(const char* format, ...) noexcept;
  [[gnu::format(printf, 1, 2)]] static void info(const char* format, ...) noexcept;
  [[gnu::format(printf, 1, 2)]] static void debug(const char* format, ...) noexcept;

 private:
  static void write(LogLevel level, const char* format, va_list arguments) noexcept;

  static inline std::atomic<LogLevel> level_{LogLevel::info};
};

}  // namespace evlua
