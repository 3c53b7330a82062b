// Operations on paths.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "core/error.h"
#include "core/task.h"
#include "core/time.h"

namespace evlua::fs {

struct FileInfo {
  const char* type = "";  ///< "file", "directory", "link", "fifo", "socket", "char device", "block device", "unknown"
  std::uint64_t size = 0;
  std::uint32_t permissions = 0;  ///< the low 12 bits of the mode
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::uint32_t links = 0;
  std::uint64_t inode = 0;
  std::uint64_t device = 0;
  double accessed = 0;  ///< seconds since the epoch
  double modified = 0;
  double changed = 0;
  double created = 0;  ///< 0 where the file system does not know
};

Task<Result<FileInfo>> stat(std::string path, bool follow_links, Instant deadline = kNever);
Task<Result<FileInfo>> stat(int fd, Instant deadline = kNever);
Task<Result<void>> rename(std::string from, std::string to, Instant deadline = kNever);
Task<Result<void>> unlink(std::string path, Instant deadline = kNever);
Task<Result<void>> rmdir(std::string path, Instant deadline = kNever);
/// With `parents`: makes what is missing of the path, and a directory that exists is no error.
Task<Result<void>> mkdir(std::string path, mode_t permissions, bool parents, Instant deadline = kNever);
Task<Result<void>> symlink(std::string target, std::string path);
Task<Result<std::string>> readlink(std::string path);
/// The absolute path without links.
Task<Result<std::string>> realpath(std::string path);

}  // namespace evlua::fs
