#include "core/log_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace evlua {

namespace {

int open_to_append(const std::string& path) noexcept {
  return ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0640);
}

}  // namespace

Result<void> give_file_to(int fd, const char* path, uid_t user, gid_t group) noexcept {
  struct stat file {};
  struct stat named {};
  if (::fstat(fd, &file) != 0 || ::lstat(path, &named) != 0) return fail(errno, OpCode::open);
  const bool plain = S_ISREG(file.st_mode) && file.st_nlink == 1;
  const bool same = file.st_dev == named.st_dev && file.st_ino == named.st_ino;
  // Who may write to the folder must not get another's file by a link to it.
  if (!plain || !same) return {};
  if (::fchown(fd, user, group) != 0) return fail(errno, OpCode::open);
  return {};
}

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

Result<void> LogFile::give_to(uid_t user, gid_t group) noexcept {
  if (!owned_) return {};
  return give_file_to(fd_, path_.c_str(), user, group);
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
