#include "net/http/file_body.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif

namespace evlua::http {

namespace {

constexpr std::uint64_t kSendPiece = 512 * 1024;  // at a time, so that other connections get their turn

/// linux/mman.h of newer kernels.
struct CachedRange {
  std::uint64_t offset, size;
};
struct CachedPages {
  std::uint64_t cached, dirty, writeback, evicted, recently_evicted;
};

bool probe(int fd, std::uint64_t offset) noexcept {
  char byte = 0;
  return read_cached(fd, &byte, 1, offset).has_value();
}

bool is_cached(int fd, std::uint64_t offset, std::uint64_t size) noexcept {
  static const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  const CachedRange range{offset, size};
  CachedPages pages{};
  if (::syscall(SYS_cachestat, fd, &range, &pages, 0) == 0) {
    const std::uint64_t wanted = (offset + size + page - 1) / page - offset / page;
    return pages.cached >= wanted;
  }
  return probe(fd, offset) && probe(fd, offset + size - 1);  // before Linux 6.5
}

}  // namespace

OpenFile& OpenFile::operator=(OpenFile&& other) noexcept {
  std::swap(fd, other.fd);
  size = other.size;
  modified = other.modified;
  nanoseconds = other.nanoseconds;
  return *this;
}

OpenFile::~OpenFile() {
  if (fd >= 0) ::close(fd);
}

Result<OpenFile> open_file(int root, const char* path, bool may_wait) noexcept {
  open_how how{};
  how.flags = O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;  // a pipe must not hold us up
  how.resolve = RESOLVE_NO_MAGICLINKS;
  if (root != AT_FDCWD) how.resolve |= RESOLVE_BENEATH;
  if (!may_wait) how.resolve |= RESOLVE_CACHED;
  OpenFile opened;
  opened.fd = static_cast<int>(::syscall(SYS_openat2, root, path, &how, sizeof how));
  if (opened.fd < 0) return fail(errno, OpCode::open);
  struct stat status {};
  if (::fstat(opened.fd, &status) != 0) return fail(errno, OpCode::stat);
  if (S_ISDIR(status.st_mode)) return fail(EISDIR, OpCode::open);
  if (!S_ISREG(status.st_mode)) return fail(EACCES, OpCode::open);
  opened.size = static_cast<std::uint64_t>(status.st_size);
  opened.modified = status.st_mtim.tv_sec;
  opened.nanoseconds = static_cast<std::uint32_t>(status.st_mtim.tv_nsec);
  return opened;
}

Result<std::size_t> read_cached(int fd, char* to, std::size_t size, std::uint64_t offset) noexcept {
  const iovec room{to, size};
  const ssize_t got = ::preadv2(fd, &room, 1, static_cast<off_t>(offset), RWF_NOWAIT);
  if (got >= 0) return static_cast<std::size_t>(got);
  return fail(errno == EOPNOTSUPP ? EAGAIN : errno, OpCode::read);
}

Result<std::size_t> send_cached(int socket, int fd, std::uint64_t offset, std::uint64_t size) noexcept {
  size = std::min(size, kSendPiece);
  if (!is_cached(fd, offset, size)) return fail(EXDEV, OpCode::send);
  // Sockets block where the backend wants it so; for this call it must not.
  const int flags = ::fcntl(socket, F_GETFL);
  const bool blocks = (flags & O_NONBLOCK) == 0;
  if (blocks) ::fcntl(socket, F_SETFL, flags | O_NONBLOCK);
  auto at = static_cast<off_t>(offset);
  const ssize_t sent = ::sendfile(socket, fd, &at, size);
  const int error = errno;
  if (blocks) ::fcntl(socket, F_SETFL, flags);
  if (sent < 0) return fail(error, OpCode::send);
  return static_cast<std::size_t>(sent);
}

}  // namespace evlua::http
