// Being told what happens to a file, in a directory, or in all of a tree, by inotify(7).
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "core/error.h"
#include "core/io_await.h"
#include "core/task.h"
#include "core/time.h"
#include "fs/file.h"

struct inotify_event;

namespace evlua::fs {

struct WatchEvent {
  const char* type = "";  ///< "created", "removed", "modified", "written", "moved_from", "moved_to", "attributes",
                          ///< "moved", "overflow"
  std::string name;       ///< below what is watched; empty: what is watched itself
  bool is_directory = false;
  std::uint32_t cookie = 0;  ///< the same for "moved_from" and "moved_to" of one move
};

/// Used from one strand; one task reads at a time.
///
/// The kernel watches single directories. Of a tree each has a watch of its own, and one that appears gets its watch as
/// soon as that is read. What was put into it before is found by looking, and told as created; what the kernel tells
/// of the same then is left out.
class Watch {
 public:
  /// Of a tree, without following links. ENOSPC: no more watches are allowed (fs.inotify.max_user_watches). Cancelled
  /// within one job of the pool, however large the tree is.
  static Task<Result<std::unique_ptr<Watch>>> open(std::string path, bool recursive);

  /// The next event; one without a type when what was watched is no more. Errors: EBADF, EBUSY; ENOSPC when a directory
  /// has appeared that cannot be watched, after which it goes on.
  Task<Result<WatchEvent>> next(Instant deadline);
  /// A read in progress ends with ECANCELED.
  void close() noexcept;

  bool is_open() const noexcept { return file_.is_open() && !closed_; }

 private:
  /// A directory that has appeared, to be looked at.
  struct Found {
    std::string name;
    bool tells = true;  // what is in it is told
  };

  bool try_next(Result<WatchEvent>& out);
  bool fill(int& error) noexcept;
  bool take_event(WatchEvent& event);
  bool take_from_tree(const inotify_event& head, WatchEvent& event);
  void forget_tree(const std::string& name) noexcept;
  Task<Result<void>> wait(Instant deadline);
  Task<Result<void>> look();
  int look_at_some();
  int watch_directory(const std::string& name) noexcept;
  std::string path_of(const std::string& name) const;

  File file_;
  std::string path_;
  bool recursive_ = false;
  int root_ = -1;                                 // its watch
  bool moved_ = false;                            // nobody knows where it is: no directory can be added
  std::unordered_map<int, std::string> watched_;  // of a tree: the name of each directory
  std::unordered_set<std::string> told_;          // found by looking; the kernel may tell it once more
  std::deque<WatchEvent> found_events_;
  std::deque<Found> to_look_at_;
  std::array<char, 4096> bytes_{};
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  IoAwait* waiting_ = nullptr;
  bool reading_ = false;
  bool closed_ = false;
  bool ended_ = false;
};

}  // namespace evlua::fs
