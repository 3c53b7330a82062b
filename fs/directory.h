// Listing a directory, a batch at a time, on the blocking pool (there is no io_uring operation for it).
#pragma once

#include <dirent.h>

#include <string>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/task.h"

namespace evlua::fs {

struct Entry {
  std::string name;
  const char* type = "unknown";  ///< as FileInfo::type; "unknown" where the file system does not say
};

/// An open directory. Used by one task at a time.
class Directory {
 public:
  Directory(Directory&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Directory& operator=(Directory&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Directory();

  static Task<Result<Directory>> open(std::string path);

  /// Some more entries, without "." and ".."; none at the end.
  Task<Result<std::vector<Entry>>> next_batch();

  bool is_open() const noexcept { return handle_ != nullptr; }
  void close() noexcept;

 private:
  explicit Directory(DIR* handle) noexcept : handle_(handle) {}

  DIR* handle_;
};

}  // namespace evlua::fs
