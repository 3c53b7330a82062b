#include "core/log_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

namespace evlua {

namespace {

int open_to_append(const std::string& path) noexcept {
  return ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0640);
}

}  // namespace

LogFile::~LogFile() {
  if (owned_) ::close(fd_);
}

Result<void> LogFile::open(const std::string& path, int standard) {
  path_ = path;
  fd_ = standard;
  if (path == "-") return {};
  fd_ = open_to_append(path);
  if (fd_ < 0) return fail(errno, OpCode::open);
  owned_ = true;
  return {};
}

Result<void> LogFile::reopen() noexcept {
  if (!owned_) return {};
  const int fresh = open_to_append(path_);
  if (fresh < 0) return fail(errno, OpCode::open);
  // One step for whoever writes: before it the old file, after it the new one.
  const int error = ::dup3(fresh, fd_, O_CLOEXEC) < 0 ? errno : 0;
  ::close(fresh);
  if (error != 0) return fail(error, OpCode::open);
  return {};
}

}  // namespace evlua
