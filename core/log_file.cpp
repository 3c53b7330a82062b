#include "core/log_file.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstring>

namespace evlua {

namespace {

/// A pipe without a reader is an error (ENXIO), and not waited for.
int open_to_append(const std::string& path) noexcept {
  return ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_NONBLOCK | O_CLOEXEC | O_NOCTTY, 0640);
}

/// Another way to the same pipe or terminal, which does not block: what we make of ours would be seen by all who share
/// it. -1 if there is none.
int open_nonblocking(int fd) noexcept {
  const std::string path = "/proc/self/fd/" + std::to_string(fd);
  return ::open(path.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
}

bool is_pipe(int fd) noexcept {
  struct stat about {};
  return ::fstat(fd, &about) == 0 && S_ISFIFO(about.st_mode);
}

bool has_room(int fd, int milliseconds) noexcept {
  pollfd wanted{fd, POLLOUT, 0};
  return ::poll(&wanted, 1, milliseconds) == 1;
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
  const int fd = path == "-" ? standard : open_to_append(path);
  if (fd < 0) return fail(errno, OpCode::open);
  if (owned_) ::close(fd_);
  path_ = path;
  fd_ = fd;
  owned_ = path != "-";
  kind_ = Kind::plain;
  atomic_bytes_ = is_pipe(fd_) ? PIPE_BUF : SIZE_MAX;
  if (!owned_) look_at_kind();
  return {};
}

Result<void> LogFile::give_to(uid_t user, gid_t group) noexcept {
  if (path_ == "-") return {};
  return give_file_to(fd_, path_.c_str(), user, group);
}

void LogFile::look_at_kind() noexcept {
  struct stat about {};
  if (::fstat(fd_, &about) != 0) return;
  if (S_ISSOCK(about.st_mode)) kind_ = Kind::socket;
  if (!S_ISFIFO(about.st_mode) && ::isatty(fd_) == 0) return;
  kind_ = Kind::polled;
  const int own = open_nonblocking(fd_);
  if (own < 0) return;
  fd_ = own;
  owned_ = true;
  kind_ = Kind::plain;
}

Result<void> LogFile::reopen() noexcept {
  if (path_ == "-") return {};
  const int fresh = open_to_append(path_);
  if (fresh < 0) return fail(errno, OpCode::open);
  // One step for whoever writes: before it the old file, after it the new one.
  const int error = ::dup3(fresh, fd_, O_CLOEXEC) < 0 ? errno : 0;
  ::close(fresh);
  if (error != 0) return fail(error, OpCode::open);
  atomic_bytes_ = is_pipe(fd_) ? PIPE_BUF : SIZE_MAX;
  return {};
}

ssize_t LogFile::write(const iovec* parts, int count) noexcept {
  if (kind_ == Kind::socket) {
    msghdr message{};
    message.msg_iov = const_cast<iovec*>(parts);
    message.msg_iovlen = static_cast<std::size_t>(count);
    return ::sendmsg(fd_, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  }
  if (kind_ != Kind::polled) return ::writev(fd_, parts, count);
  if (!has_room(fd_, 0)) {
    errno = EAGAIN;
    return -1;
  }
  // So much fits into a pipe that has room.
  std::array<char, PIPE_BUF> piece;
  std::size_t size = 0;
  for (const iovec* part = parts; part != parts + count; ++part) {
    const std::size_t some = std::min(part->iov_len, piece.size() - size);
    std::memcpy(piece.data() + size, part->iov_base, some);
    size += some;
  }
  return ::write(fd_, piece.data(), size);
}

bool LogFile::wait_for_room(Duration limit) noexcept { return has_room(fd_, static_cast<int>(limit / kMillisecond)); }

}  // namespace evlua
