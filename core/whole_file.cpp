#include "core/whole_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

namespace evlua {

namespace {

constexpr std::size_t kPieceBytes = 16 * 1024;

}  // namespace

Result<std::string> read_whole_file(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY);
  if (fd < 0) return fail(errno, OpCode::open);
  std::string text;
  ssize_t got = 0;
  int error = 0;
  do {
    const std::size_t had = text.size();
    text.resize(had + kPieceBytes);
    got = ::read(fd, text.data() + had, kPieceBytes);
    error = got < 0 ? errno : 0;
    text.resize(had + (got > 0 ? static_cast<std::size_t>(got) : 0));
  } while (got > 0 || error == EINTR);
  ::close(fd);
  if (error != 0) return fail(error, OpCode::read);
  return text;
}

int write_all(int fd, std::string_view text) noexcept {
  while (!text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return written < 0 ? errno : EIO;
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  return 0;
}

Result<void> write_whole_file(const std::string& path, std::string_view text) noexcept {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW, 0666);
  if (fd < 0) return fail(errno, OpCode::open);
  int error = write_all(fd, text);
  if (::close(fd) != 0 && error == 0) error = errno;
  if (error != 0) return fail(error, OpCode::write);
  return {};
}

}  // namespace evlua
