// A file that lines are appended to, and that can be exchanged for a new one of its name while others write: what was
// renamed (logrotate(8)) keeps what it has, and nothing is lost or written twice.
//
// It may also be a pipe, a socket or a terminal that nobody reads: writing never waits for that, and who wants to wait
// says for how long.
#pragma once

#include <sys/types.h>
#include <sys/uio.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

#include "core/error.h"
#include "core/time.h"

namespace evlua {

/// Makes the open file that user's, if it is a plain file which `path` names itself, and which has no other name.
Result<void> give_file_to(int fd, const char* path, uid_t user, gid_t group) noexcept;

class LogFile {
 public:
  LogFile() = default;
  ~LogFile();
  LogFile(const LogFile&) = delete;
  LogFile& operator=(const LogFile&) = delete;

  /// Makes the file if need be. "-" stands for the descriptor `standard`, which is never reopened.
  /// What was open before goes, unless this fails. Before others write.
  Result<void> open(const std::string& path, int standard);
  /// The descriptor goes on as that of the new file. It waits for the disk. [any thread, also while others write]
  Result<void> reopen() noexcept;

  /// Makes it that user's, if it is a plain file under its own name: what a link leads to may be anybody's.
  Result<void> give_to(uid_t user, gid_t group) noexcept;

  /// As writev(2); EAGAIN when a reader would have to be waited for. [any thread]
  ssize_t write(const iovec* parts, int count) noexcept;
  /// How much is written as a whole, without anything of others who write to the same: to a pipe no more than that.
  std::size_t atomic_bytes() const noexcept { return atomic_bytes_.load(std::memory_order_relaxed); }
  /// Until a reader has made room, or the time is over: false. [any thread]
  bool wait_for_room(Duration limit) noexcept;

  const std::string& path() const noexcept { return path_; }

 private:
  /// How to write without waiting: as to a file, or what says EAGAIN; not at all if poll(2) says so, else little; by a
  /// flag.
  enum class Kind : std::uint8_t { plain, polled, socket };

  void look_at_kind() noexcept;

  std::string path_;
  int fd_ = -1;
  bool owned_ = false;
  Kind kind_ = Kind::plain;
  std::atomic<std::size_t> atomic_bytes_ = SIZE_MAX;  // a file may become a pipe when it is opened again
};

}  // namespace evlua
