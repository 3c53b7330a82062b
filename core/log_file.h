// A file that lines are appended to, and that can be exchanged for a new one of its name while others write: what was
// renamed (logrotate(8)) keeps what it has, and nothing is lost or written twice.
#pragma once

#include <sys/types.h>

#include <string>

#include "core/error.h"

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
  Result<void> open(const std::string& path, int standard);
  /// The descriptor goes on as that of the new file. It blocks. [any thread, also while others write]
  Result<void> reopen() noexcept;

  /// Makes it that user's, if it is a plain file under its own name: what a link leads to may be anybody's.
  Result<void> give_to(uid_t user, gid_t group) noexcept;

  int fd() const noexcept { return fd_; }
  const std::string& path() const noexcept { return path_; }

 private:
  std::string path_;
  int fd_ = -1;
  bool owned_ = false;
};

}  // namespace evlua
