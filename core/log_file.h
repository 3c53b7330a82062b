// A file that lines are appended to, and that can be exchanged for a new one of its name while others write: what was
// renamed (logrotate(8)) keeps what it has, and nothing is lost or written twice.
#pragma once

#include <string>

#include "core/error.h"

namespace evlua {

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

  int fd() const noexcept { return fd_; }
  const std::string& path() const noexcept { return path_; }

 private:
  std::string path_;
  int fd_ = -1;
  bool owned_ = false;
};

}  // namespace evlua
