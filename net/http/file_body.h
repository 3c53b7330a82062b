// A file on its way into a response: opened, looked at, and the parts of it that are to be sent.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"

namespace evlua::http {

/// An open regular file, owned.
class OpenFile {
 public:
  OpenFile() = default;
  OpenFile(OpenFile&& other) noexcept { *this = std::move(other); }
  OpenFile& operator=(OpenFile&& other) noexcept;
  ~OpenFile();

  int fd = -1;
  std::uint64_t size = 0;
  std::int64_t modified = 0;      ///< seconds since 1970
  std::uint32_t nanoseconds = 0;  ///< and these
};

/// Opens the file at `path` below the directory `root` (AT_FDCWD, and then anywhere): no "..", symbolic link or mount
/// leads out of it. EISDIR for a directory, EACCES for what is neither. Without `may_wait` EAGAIN when a disk would
/// have to be asked. [any thread]
Result<OpenFile> open_file(int root, const char* path, bool may_wait) noexcept;

/// Reads without waiting for a disk: EAGAIN when that is needed.
Result<std::size_t> read_cached(int fd, char* to, std::size_t size, std::uint64_t offset) noexcept;

/// Sends from the page cache to the socket, without copying and without waiting for either: what was sent, 0 at the end
/// of the file, EAGAIN when the socket is full, EXDEV when that part of the file is not in memory.
Result<std::size_t> send_cached(int socket, int fd, std::uint64_t offset, std::uint64_t size) noexcept;

struct FileBody {
  struct Part {
    std::string head;  ///< goes before it
    std::uint64_t offset = 0;
    std::uint64_t size = 0;
  };

  OpenFile file;
  std::vector<Part> parts;
  std::string tail;

  void take_whole() {
    if (file.size > 0) parts.push_back({{}, 0, file.size});
  }
  std::uint64_t size() const noexcept {
    std::uint64_t all = tail.size();
    for (const Part& part : parts) all += part.head.size() + part.size;
    return all;
  }
};

}  // namespace evlua::http
