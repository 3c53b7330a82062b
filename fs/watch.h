// Being told what happens to a file or in a directory, by inotify(7).
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "core/error.h"
#include "core/io_await.h"
#include "core/task.h"
#include "core/time.h"
#include "fs/file.h"

namespace evlua::fs {

struct WatchEvent {
  const char* type = "";  ///< "created", "removed", "modified", "written", "moved_from", "moved_to", "attributes",
                          ///< "moved", "overflow"
  std::string name;       ///< in the directory that is watched; empty: what is watched itself
  bool is_directory = false;
  std::uint32_t cookie = 0;  ///< the same for "moved_from" and "moved_to" of one move
};

/// Used from one strand; one task reads at a time.
class Watch {
 public:
  static Task<Result<std::unique_ptr<Watch>>> open(std::string path);

  /// The next event; one without a type when what was watched is no more. Errors: EBADF, EBUSY.
  Task<Result<WatchEvent>> next(Instant deadline);
  /// A read in progress ends with ECANCELED.
  void close() noexcept;

  bool is_open() const noexcept { return file_.is_open() && !closed_; }

 private:
  bool try_next(Result<WatchEvent>& out);
  bool take_event(WatchEvent& event);
  Task<Result<void>> wait(Instant deadline);

  File file_;
  std::array<char, 4096> bytes_{};
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  IoAwait* waiting_ = nullptr;
  bool closed_ = false;
  bool ended_ = false;
};

}  // namespace evlua::fs
