#include "fs/path_ops.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdlib>

#include "core/blocking.h"
#include "core/io_await.h"
#include "core/worker.h"

namespace evlua::fs {

namespace {

const char* type_of(std::uint16_t mode) noexcept {
  switch (mode & S_IFMT) {
    case S_IFREG: return "file";
    case S_IFDIR: return "directory";
    case S_IFLNK: return "link";
    case S_IFIFO: return "fifo";
    case S_IFSOCK: return "socket";
    case S_IFCHR: return "char device";
    case S_IFBLK: return "block device";
    default: return "unknown";
  }
}

double seconds_of(const statx_timestamp& time) noexcept {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) / 1e9;
}

FileInfo info_of(const struct statx& raw) noexcept {
  FileInfo info;
  info.type = type_of(raw.stx_mode);
  info.size = raw.stx_size;
  info.permissions = raw.stx_mode & 07777;
  info.uid = raw.stx_uid;
  info.gid = raw.stx_gid;
  info.links = raw.stx_nlink;
  info.inode = raw.stx_ino;
  info.device = ::gnu_dev_makedev(raw.stx_dev_major, raw.stx_dev_minor);
  info.accessed = seconds_of(raw.stx_atime);
  info.modified = seconds_of(raw.stx_mtime);
  info.changed = seconds_of(raw.stx_ctime);
  if ((raw.stx_mask & STATX_BTIME) != 0) info.created = seconds_of(raw.stx_btime);
  return info;
}

Task<Result<FileInfo>> stat_at(int fd, const char* path, int flags, Instant deadline) {
  struct statx raw {};
  IoAwait op(OpCode::stat, fd, OpArgs{.stat = {path, flags, &raw}});
  op.until(deadline);
  const Result<std::int32_t> done = co_await op;
  if (!done) co_return fail(done.error());
  co_return info_of(raw);
}

Result<void> nothing_of(const Result<std::int32_t>& result) noexcept {
  if (!result) return fail(result.error());
  return {};
}

}  // namespace

Task<Result<FileInfo>> stat(std::string path, bool follow_links, Instant deadline) {
  Result<FileInfo> info = co_await stat_at(AT_FDCWD, path.c_str(), follow_links ? 0 : AT_SYMLINK_NOFOLLOW, deadline);
  co_return info;
}

Task<Result<FileInfo>> stat(int fd, Instant deadline) {
  Result<FileInfo> info = co_await stat_at(fd, "", AT_EMPTY_PATH, deadline);
  co_return info;
}

Task<Result<void>> rename(std::string from, std::string to, Instant deadline) {
  IoAwait op(OpCode::rename, -1, OpArgs{.rename = {from.c_str(), to.c_str(), 0}});
  op.until(deadline);
  const Result<std::int32_t> done = co_await op;
  co_return nothing_of(done);
}

Task<Result<void>> unlink(std::string path, Instant deadline) {
  IoAwait op(OpCode::unlink, -1, OpArgs{.unlink = {path.c_str(), 0}});
  op.until(deadline);
  const Result<std::int32_t> done = co_await op;
  co_return nothing_of(done);
}

Task<Result<void>> rmdir(std::string path, Instant deadline) {
  IoAwait op(OpCode::unlink, -1, OpArgs{.unlink = {path.c_str(), AT_REMOVEDIR}});
  op.until(deadline);
  const Result<std::int32_t> done = co_await op;
  co_return nothing_of(done);
}

namespace {

Task<Result<void>> make_one(const std::string& path, mode_t permissions, Instant deadline) {
  IoAwait op(OpCode::mkdir, -1, OpArgs{.mkdir = {path.c_str(), permissions}});
  op.until(deadline);
  const Result<std::int32_t> done = co_await op;
  co_return nothing_of(done);
}

}  // namespace

Task<Result<void>> mkdir(std::string path, mode_t permissions, bool parents, Instant deadline) {
  if (!parents) {
    Result<void> made = co_await make_one(path, permissions, deadline);
    co_return made;
  }
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  for (std::size_t at = path.find('/', 1); at != std::string::npos; at = path.find('/', at + 1)) {
    const std::string above = path.substr(0, at);
    const Result<void> made = co_await make_one(above, 0777, deadline);
    if (!made && !made.error().is(EEXIST)) co_return made;
  }
  const Result<void> made = co_await make_one(path, permissions, deadline);
  if (made || !made.error().is(EEXIST)) co_return made;
  const Result<FileInfo> info = co_await stat_at(AT_FDCWD, path.c_str(), 0, deadline);
  if (info && std::string_view(info->type) == "directory") co_return Result<void>();
  co_return made;
}

Task<Result<void>> symlink(std::string target, std::string path) {
  auto call =
      blocking(Worker::current().pool(), [&] { return ::symlink(target.c_str(), path.c_str()) == 0 ? 0 : errno; });
  const std::optional<int> error = co_await call;
  if (!error) co_return fail(ECANCELED);
  if (*error != 0) co_return fail(*error);
  co_return Result<void>();
}

Task<Result<std::string>> readlink(std::string path) {
  char target[PATH_MAX];
  auto call = blocking(Worker::current().pool(), [&] {
    const ssize_t size = ::readlink(path.c_str(), target, sizeof target);
    return size < 0 ? -static_cast<ssize_t>(errno) : size;
  });
  const std::optional<ssize_t> size = co_await call;
  if (!size) co_return fail(ECANCELED);
  if (*size < 0) co_return fail(static_cast<int>(-*size));
  co_return std::string(target, static_cast<std::size_t>(*size));
}

Task<Result<std::string>> realpath(std::string path) {
  char resolved[PATH_MAX];
  auto call =
      blocking(Worker::current().pool(), [&] { return ::realpath(path.c_str(), resolved) != nullptr ? 0 : errno; });
  const std::optional<int> error = co_await call;
  if (!error) co_return fail(ECANCELED);
  if (*error != 0) co_return fail(*error);
  co_return std::string(resolved);
}

}  // namespace evlua::fs
