#include "core/log.h"

#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <ctime>
#include <mutex>
#include <new>

#include "core/log_file.h"

namespace evlua {

namespace {

constexpr Duration kPatience = kSecond;

constexpr std::array<const char*, 4> kNames = {"error", "warn", "info", "debug"};

const char* program = "evlua";

/// Never destroyed: threads that outlive main may have something to say.
LogFile& file() {
  static LogFile& only = *[] {
    auto* made = new LogFile;
    static_cast<void>(made->open("-", STDERR_FILENO));
    return made;
  }();
  return only;
}

std::string heading(LogLevel level) {
  if (file().path() == "-") return std::string(program) + ": ";
  timeval now{};
  ::gettimeofday(&now, nullptr);
  std::tm parts{};
  ::gmtime_r(&now.tv_sec, &parts);
  std::array<char, 96> text{};
  std::snprintf(text.data(), text.size(), "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ %s [%d] ", parts.tm_year + 1900,
                parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec,
                static_cast<int>(now.tv_usec / 1000), kNames[static_cast<std::size_t>(level)],
                static_cast<int>(::getpid()));
  return text.data();
}

/// UTF-8 is left alone; what a terminal or a reader of lines would act upon is not.
void append_harmless(std::string& out, std::string_view text) {
  while (text.ends_with('\n')) text.remove_suffix(1);
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (byte == '\n') {
      out += i + 1 < text.size() && text[i + 1] == '\t' ? "\n" : "\n\t";
    } else if ((byte < 0x20 && byte != '\t') || byte == 0x7f) {
      std::array<char, 5> escape{};
      std::snprintf(escape.data(), escape.size(), "\\x%02x", byte);
      out += escape.data();
    } else {
      out += text[i];
    }
  }
  out += '\n';
}

std::string formatted(const char* format, va_list arguments) {
  va_list again;
  va_copy(again, arguments);
  const int size = std::vsnprintf(nullptr, 0, format, again);
  va_end(again);
  std::string text(size > 0 ? static_cast<std::size_t>(size) : 0, '\0');
  std::vsnprintf(text.data(), text.size() + 1, format, arguments);
  return text;
}

}  // namespace

std::optional<LogLevel> Log::level_of(std::string_view name) noexcept {
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    if (name == kNames[i]) return static_cast<LogLevel>(i);
  }
  return std::nullopt;
}

void Log::set_program(const char* name) noexcept { program = name; }

Result<void> Log::open(const std::string& path) { return file().open(path, STDERR_FILENO); }

Result<void> Log::give_to(uid_t user, gid_t group) noexcept { return file().give_to(user, group); }

Result<void> Log::reopen() noexcept { return file().reopen(); }

void Log::write(LogLevel level, const char* format, va_list arguments) noexcept {
  if (!on(level)) return;
  std::string line = heading(level);
  append_harmless(line, formatted(format, arguments));
  if (put(line)) {
    if (told_.load(std::memory_order_relaxed) != dropped()) tell_losses();
  } else {
    dropped_.fetch_add(1, std::memory_order_relaxed);
  }
}

/// False: not, or not all of it.
bool Log::put(std::string_view line) noexcept {
  // A pipe may take a line in pieces, and what one thread has begun no other may go on with.
  static std::mutex writing;
  const std::lock_guard guard(writing);
  std::string mended;
  if (cut_.exchange(false)) line = mended = "\n" + std::string(line);
  std::string_view rest = line;
  while (!rest.empty()) {
    const iovec part{const_cast<char*>(rest.data()), rest.size()};
    const ssize_t written = file().write(&part, 1);
    if (written > 0) {
      rest.remove_prefix(static_cast<std::size_t>(written));
      stalled_.store(false, std::memory_order_relaxed);
      continue;
    }
    if (written < 0 && errno == EINTR) continue;
    const bool full = written < 0 && errno == EAGAIN;
    const bool waits = full && patient_.load(std::memory_order_relaxed) && !stalled_.load(std::memory_order_relaxed);
    if (waits && file().wait_for_room(kPatience)) continue;
    if (waits) stalled_.store(true, std::memory_order_relaxed);
    if (rest.size() != line.size() || !mended.empty()) cut_.store(true);
    return false;
  }
  return true;
}

void Log::tell_losses() noexcept {
  const std::uint64_t now = dropped();
  const std::uint64_t before = told_.exchange(now);
  if (before >= now) return;
  std::string line = heading(LogLevel::warn);
  line += std::to_string(now - before) + " lines were dropped, since nobody read them\n";
  if (!put(line)) told_.store(before);
}

void Log::error(const char* format, ...) noexcept {
  va_list arguments;
  va_start(arguments, format);
  write(LogLevel::error, format, arguments);
  va_end(arguments);
}

void Log::warn(const char* format, ...) noexcept {
  va_list arguments;
  va_start(arguments, format);
  write(LogLevel::warn, format, arguments);
  va_end(arguments);
}

void Log::info(const char* format, ...) noexcept {
  va_list arguments;
  va_start(arguments, format);
  write(LogLevel::info, format, arguments);
  va_end(arguments);
}

void Log::debug(const char* format, ...) noexcept {
  va_list arguments;
  va_start(arguments, format);
  write(LogLevel::debug, format, arguments);
  va_end(arguments);
}

}  // namespace evlua
