// Files. Every call waits without blocking a thread: io_uring operations, or the blocking pool where the backend has
// nothing better.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "core/error.h"
#include "core/task.h"
#include "core/time.h"

namespace evlua::fs {

struct OpenMode {
  int flags = 0;
  bool append = false;
  bool direct = false;  ///< past the page cache, see File
};

/// "r", "r+", "w", "w+", "a", "a+" with optional "b" and "x" (fail if it exists). EINVAL otherwise.
Result<OpenMode> parse_mode(std::string_view mode) noexcept;

/// An open file. Used from one strand or one chain of tasks at a time.
///
/// One that is open `direct` (O_DIRECT) reads and writes through memory that is aligned as the device wants it. Reads
/// may begin and end anywhere: what is around them is read, too. Writes must begin and end at multiples of `alignment`,
/// else they are EINVAL: nobody could write the rest of a block without a race.
class File {
 public:
  File() = default;
  File(int fd, bool append) noexcept : fd_(fd), append_(append) {}
  File(File&& other) noexcept { *this = std::move(other); }
  File& operator=(File&& other) noexcept;
  /// Closes in the background. REQUIRES: no operation is in flight on it.
  ~File();

  /// EOPNOTSUPP where it cannot be open `direct`.
  static Task<Result<File>> open(std::string path, OpenMode mode, mode_t permissions, Instant deadline = kNever);

  int fd() const noexcept { return fd_; }
  bool is_open() const noexcept { return fd_ >= 0; }
  bool appends() const noexcept { return append_; }
  bool is_direct() const noexcept { return alignment_bits_ > 0; }
  /// Of offsets and sizes; 1 if the file is not open `direct`.
  std::uint32_t alignment() const noexcept { return 1U << alignment_bits_; }
  int release() noexcept { return std::exchange(fd_, -1); }

  /// Up to `size` bytes at `offset` (-1: where the file itself is, for what cannot seek); 0 at the end.
  Task<Result<std::size_t>> read_at(void* data, std::size_t size, std::int64_t offset, Instant deadline = kNever);
  /// All of `bytes` at `offset` (-1: where the file itself is). Short writes are continued.
  Task<Result<void>> write_at(std::string_view bytes, std::int64_t offset, Instant deadline = kNever);
  Task<Result<void>> sync(bool data_only, Instant deadline = kNever);
  Task<Result<void>> truncate(std::int64_t size, Instant deadline = kNever);
  Task<Result<void>> close();

  /// Asks the system how a descriptor that came open `direct` is to be read and written; 0 or an errno. [pool]
  int learn_alignment() noexcept;

 private:
  Task<Result<std::size_t>> read_direct(void* data, std::size_t size, std::int64_t offset, Instant deadline);
  Task<Result<void>> write_direct(std::string_view bytes, std::int64_t offset, Instant deadline);

  int fd_ = -1;
  std::uint8_t alignment_bits_ = 0;  // alignments are powers of two
  std::uint8_t memory_alignment_bits_ = 0;
  bool append_ = false;
};

/// The whole file, or Errc::too_large when it has more than `limit` bytes.
Task<Result<std::string>> read_file(std::string path, std::size_t limit, Instant deadline = kNever);

struct WriteOptions {
  /// Readers see the old content or the new: temporary file, fsync, rename, fsync of the folder. A link stays, what it
  /// points to is replaced.
  bool atomic = false;
  bool append = false;
  /// Of a new file, before the umask: 0666 without. An existing file keeps its own, and its owner where that is
  /// allowed; an atomic write sets them.
  std::optional<mode_t> permissions = std::nullopt;
};

/// REQUIRES: `bytes` stay valid until the task ends.
Task<Result<void>> write_file(std::string path, std::string_view bytes, WriteOptions options,
                              Instant deadline = kNever);

}  // namespace evlua::fs
