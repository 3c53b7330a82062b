#include "fs/file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>

#include "core/blocking.h"
#include "core/io_await.h"
#include "core/worker.h"
#include "fs/path_ops.h"
#include "fs/pooled.h"
#include "fs/write_here.h"

namespace evlua::fs {

namespace {

constexpr std::size_t kPiece = 1U << 30;

std::string directory_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

/// A name beside `path` that nobody else uses.
std::string temporary_beside(const std::string& path) {
  static std::atomic<unsigned> counter{0};
  return path + ".tmp-" + std::to_string(::getpid()) + "-" + std::to_string(counter.fetch_add(1));
}

}  // namespace

Result<OpenMode> parse_mode(std::string_view mode) noexcept {
  OpenMode parsed;
  if (mode.empty()) return fail(EINVAL, OpCode::open);
  const char kind = mode.front();
  bool update = false;
  bool exclusive = false;
  for (const char c : mode.substr(1)) {
    if (c == '+' && !update) {
      update = true;
    } else if (c == 'x' && !exclusive && kind != 'r') {
      exclusive = true;
    } else if (c != 'b') {
      return fail(EINVAL, OpCode::open);
    }
  }
  switch (kind) {
    case 'r': parsed.flags = update ? O_RDWR : O_RDONLY; break;
    case 'w': parsed.flags = (update ? O_RDWR : O_WRONLY) | O_CREAT | O_TRUNC; break;
    case 'a': parsed.flags = (update ? O_RDWR : O_WRONLY) | O_CREAT | O_APPEND; break;
    default: return fail(EINVAL, OpCode::open);
  }
  parsed.append = kind == 'a';
  if (exclusive) parsed.flags |= O_EXCL;
  return parsed;
}

File& File::operator=(File&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(append_, other.append_);
  std::swap(alignment_bits_, other.alignment_bits_);
  std::swap(memory_alignment_bits_, other.memory_alignment_bits_);
  return *this;
}

File::~File() {
  if (fd_ < 0) return;
  Worker* worker = Worker::current_or_null();
  if (worker != nullptr) {
    worker->close_later(fd_);
  } else {
    ::close(fd_);
  }
}

Task<Result<File>> File::open(std::string path, OpenMode mode, mode_t permissions, Instant deadline) {
  const int flags = mode.flags | (mode.direct ? O_DIRECT : 0);
  IoAwait op(OpCode::open, AT_FDCWD, OpArgs{.open = {path.c_str(), flags, permissions}});
  op.until(deadline);
  const Result<std::int32_t> fd = co_await op;
  if (!fd) co_return fail(mode.direct && fd.error().is(EINVAL) ? EOPNOTSUPP : fd.error().code, OpCode::open);
  File file(*fd, mode.append);
  if (mode.direct) {
    const Result<void> learned = co_await pooled([&file] { return file.learn_alignment(); });
    if (!learned) co_return fail(learned.error().code, OpCode::open);
  }
  co_return file;
}

Task<Result<std::size_t>> File::read_at(void* data, std::size_t size, std::int64_t offset, Instant deadline) {
  if (is_direct()) {
    const Result<std::size_t> read = co_await read_direct(data, size, offset, deadline);
    co_return read;
  }
  const auto piece = static_cast<std::uint32_t>(std::min(size, kPiece));
  IoAwait op(OpCode::read, fd_, OpArgs{.read = {data, piece, offset}});
  op.until(deadline);
  const Result<std::int32_t> got = co_await op;
  if (!got) co_return fail(got.error());
  co_return static_cast<std::size_t>(*got);
}

Task<Result<void>> File::write_at(std::string_view bytes, std::int64_t offset, Instant deadline) {
  if (is_direct()) {
    const Result<void> written = co_await write_direct(bytes, offset, deadline);
    co_return written;
  }
  while (!bytes.empty()) {
    const auto piece = static_cast<std::uint32_t>(std::min(bytes.size(), kPiece));
    Result<std::int32_t> wrote = fail(EIO, OpCode::write);
    if (offset < 0) {
      wrote = co_await write_here(fd_, bytes, deadline);
    } else {
      IoAwait op(OpCode::write, fd_, OpArgs{.write = {bytes.data(), piece, offset}});
      op.until(deadline);
      wrote = co_await op;
    }
    if (!wrote) co_return fail(wrote.error());
    if (*wrote == 0) co_return fail(EIO, OpCode::write);
    bytes.remove_prefix(static_cast<std::size_t>(*wrote));
    if (offset >= 0) offset += *wrote;
  }
  co_return Result<void>();
}

Task<Result<void>> File::sync(bool data_only, Instant deadline) {
  IoAwait op(OpCode::fsync, fd_, OpArgs{.fsync = {data_only}});
  op.until(deadline);
  const Result<std::int32_t> done = co_await op;
  if (!done) co_return fail(done.error());
  co_return Result<void>();
}

Task<Result<void>> File::truncate(std::int64_t size, Instant deadline) {
  IoAwait op(OpCode::truncate, fd_, OpArgs{.truncate = {size}});
  op.until(deadline);
  const Result<std::int32_t> done = co_await op;
  if (!done) co_return fail(done.error());
  co_return Result<void>();
}

Task<Result<void>> File::close() {
  if (!is_open()) co_return Result<void>();
  const int fd = std::exchange(fd_, -1);
  const Result<std::int32_t> done = co_await io::close(fd);
  if (!done) co_return fail(done.error());
  co_return Result<void>();
}

namespace {

constexpr std::size_t kSmall = 256U << 10;

/// A small file, read by one call on the pool.
struct SmallRead {
  std::string content;
  bool done = false;
  int error = 0;  // of open
};

/// Until the end; false when something came between, or the file has grown.
bool read_until_end(int fd, std::string& content) {
  std::size_t size = 0;
  while (size < content.size()) {
    const ssize_t got = ::read(fd, content.data() + size, content.size() - size);
    if (got < 0) return false;
    if (got == 0) {
      content.resize(size);
      return true;
    }
    size += static_cast<std::size_t>(got);
  }
  return false;
}

bool is_small(const struct stat& info, std::size_t limit) noexcept {
  return S_ISREG(info.st_mode) && info.st_size > 0 && static_cast<std::size_t>(info.st_size) <= std::min(limit, kSmall);
}

/// Not done: a file that may have to be waited for, such as a pipe, or has no size that could be relied on, as in
/// /proc; a file that is not small; and whatever else is not plain. [pool]
void read_small(const char* path, std::size_t limit, SmallRead& read) {
  struct stat info {};
  if (::stat(path, &info) != 0) {
    read.error = errno;
  } else if (is_small(info, limit)) {
    const int fd = ::open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // it may be another file by now, a FIFO
    if (fd < 0) {
      read.error = errno;
    } else if (::fstat(fd, &info) == 0 && is_small(info, limit)) {
      read.content.resize(static_cast<std::size_t>(info.st_size) + 1);
      read.done = read_until_end(fd, read.content);
    }
    if (fd >= 0) (void)::close(fd);
  }
  read.done = read.done || (read.error != 0 && read.error != EINTR && read.error != EAGAIN);
}

/// A backend that only knows what is ready makes of each operation on a path a call on the pool: better one than many.
bool paths_go_to_pool() noexcept { return Worker::current().backend().capabilities().nonblocking_sockets; }

Task<Result<std::string>> read_by_steps(std::string path, std::size_t limit, Instant deadline) {
  const OpenMode reading{O_RDONLY, false};
  Result<File> file = co_await File::open(std::move(path), reading, 0, deadline);
  if (!file) co_return fail(file.error());
  struct statx info {};
  IoAwait stat(OpCode::stat, file->fd(), OpArgs{.stat = {"", AT_EMPTY_PATH, &info}});
  const Result<std::int32_t> looked = co_await stat;
  // Files of /proc say 0 and have content; pipes say nothing at all: the size is only a hint.
  const bool regular = looked && S_ISREG(info.stx_mode);
  std::size_t expected = regular ? static_cast<std::size_t>(std::min<std::uint64_t>(info.stx_size, limit)) : 0;
  std::string content;
  std::size_t size = 0;
  while (true) {
    if (size == content.size()) {
      content.resize(size == 0 ? std::max<std::size_t>(expected + 1, 4096) : size + std::max<std::size_t>(size, 4096));
    }
    const Result<std::size_t> got = co_await file->read_at(content.data() + size, content.size() - size,
                                                           regular ? static_cast<std::int64_t>(size) : -1, deadline);
    if (!got) co_return fail(got.error());
    size += *got;
    if (*got == 0) break;
    if (size > limit) co_return fail(Errc::too_large, OpCode::read);
  }
  content.resize(size);
  (void)co_await file->close();
  co_return content;
}

}  // namespace

Task<Result<std::string>> read_file(std::string path, std::size_t limit, Instant deadline) {
  if (deadline == kNever && paths_go_to_pool()) {
    SmallRead small;
    auto call = blocking(Worker::current().pool(), [&path, limit, &small] {
      read_small(path.c_str(), limit, small);
      return 0;
    });
    const std::optional<int> ran = co_await call;
    if (!ran) co_return fail(ECANCELED, OpCode::open);
    if (small.done && small.error != 0) co_return fail(small.error, OpCode::open);
    if (small.done) co_return std::move(small.content);
  }
  Result<std::string> content = co_await read_by_steps(std::move(path), limit, deadline);
  co_return content;
}

namespace {

Task<Result<void>> write_and_close(File& file, std::string_view bytes, std::int64_t offset, bool durable,
                                   Instant deadline) {
  Result<void> outcome = co_await file.write_at(bytes, offset, deadline);
  if (outcome && durable) outcome = co_await file.sync(false, deadline);
  const Result<void> closed = co_await file.close();
  if (outcome && !closed) outcome = closed;
  co_return outcome;
}

Task<Result<void>> sync_directory(std::string path, Instant deadline) {
  const OpenMode listing{O_RDONLY | O_DIRECTORY, false};
  Result<File> directory = co_await File::open(std::move(path), listing, 0, deadline);
  if (!directory) co_return fail(directory.error());
  const Result<void> synced = co_await directory->sync(false, deadline);
  (void)co_await directory->close();
  co_return synced;
}

/// Makes a new file look like the one it is to replace. To give it to another owner is for the superuser.
Task<Result<void>> take_after(const File& file, const FileInfo& existing) {
  auto call = blocking(Worker::current().pool(), [&] {
    (void)!::fchown(file.fd(), existing.uid, existing.gid);
    return ::fchmod(file.fd(), existing.permissions) == 0 ? 0 : errno;
  });
  const std::optional<int> error = co_await call;
  if (!error) co_return fail(ECANCELED, OpCode::open);
  if (*error != 0) co_return fail(*error, OpCode::open);
  co_return Result<void>();
}

/// The file that `path` stands for, which is another where the path is a link. It need not be there, as for open.
Task<Result<std::string>> behind_links(std::string path, Instant deadline) {
  constexpr int kLinksMax = 40;  // as the kernel's
  for (int links = 0; links < kLinksMax; ++links) {
    const Result<FileInfo> info = co_await stat(path, false, deadline);
    if (!info || std::string_view(info->type) != "link") co_return path;
    const Result<std::string> target = co_await readlink(path);
    if (!target) co_return fail(target.error());
    path = target->starts_with('/') ? *target : directory_of(path) + "/" + *target;
  }
  co_return fail(ELOOP, OpCode::open);
}

/// A pipe, a socket or a device would be gone, and with it what is behind it.
Result<void> may_replace(const FileInfo& existing) {
  const std::string_view type = existing.type;
  if (type == "file") return {};
  return fail(type == "directory" ? EISDIR : EOPNOTSUPP, OpCode::write);
}

Task<Result<void>> write_replacement(File& file, std::string_view bytes, const FileInfo* existing, Instant deadline) {
  if (existing != nullptr) {
    const Result<void> alike = co_await take_after(file, *existing);
    if (!alike) co_return alike;
  }
  Result<void> outcome = co_await write_and_close(file, bytes, 0, true, deadline);
  co_return outcome;
}

Task<Result<void>> write_atomically(std::string given, std::string_view bytes, std::optional<mode_t> permissions,
                                    Instant deadline) {
  const Result<FileInfo> existing = co_await stat(given, true, deadline);
  if (existing) {
    const Result<void> allowed = may_replace(*existing);
    if (!allowed) co_return allowed;
  }
  const Result<std::string> found = co_await behind_links(std::move(given), deadline);
  if (!found) co_return fail(found.error());
  const std::string& path = *found;
  const std::string temporary = temporary_beside(path);
  std::string opened = temporary;
  const OpenMode fresh{O_WRONLY | O_CREAT | O_EXCL, false};
  const mode_t mode = permissions.value_or(existing ? 0600 : 0666);
  Result<File> file = co_await File::open(std::move(opened), fresh, mode, deadline);
  if (!file) co_return fail(file.error());
  const FileInfo* model = existing && !permissions ? &*existing : nullptr;
  Result<void> outcome = co_await write_replacement(*file, bytes, model, deadline);
  if (outcome) outcome = co_await rename(temporary, path, deadline);
  if (!outcome) {
    (void)::unlink(temporary.c_str());  // also when we are cancelled, and no wait would succeed
    co_return outcome;
  }
  std::string directory = directory_of(path);
  outcome = co_await sync_directory(std::move(directory), deadline);
  co_return outcome;
}

}  // namespace

Task<Result<void>> write_file(std::string path, std::string_view bytes, WriteOptions options, Instant deadline) {
  if (options.atomic) {
    Result<void> replaced = co_await write_atomically(std::move(path), bytes, options.permissions, deadline);
    co_return replaced;
  }
  const OpenMode how{O_WRONLY | O_CREAT | (options.append ? O_APPEND : O_TRUNC), options.append};
  const mode_t mode = options.permissions.value_or(0666);
  Result<File> file = co_await File::open(std::move(path), how, mode, deadline);
  if (!file) co_return fail(file.error());
  Result<void> outcome = co_await write_and_close(*file, bytes, -1, false, deadline);
  co_return outcome;
}

}  // namespace evlua::fs
