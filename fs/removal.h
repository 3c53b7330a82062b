// Removing a directory with everything in it, step by step.
//
// However deep the tree is, only the innermost few directories are open. The way back up is "..", and what that leads
// to must be the directory which was come from: others may move directories meanwhile, also to places that are none of
// ours. Then it begins again at the top. What is a link, or has become one, is removed and never followed.
#pragma once

#include <dirent.h>
#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace evlua::fs {

/// Used by one thread at a time. What it does blocks.
class Removal {
 public:
  static constexpr std::size_t kOpenMax = 16;

  explicit Removal(std::string path, std::size_t open_max = kOpenMax) : path_(std::move(path)), open_max_(open_max) {}
  Removal(const Removal&) = delete;
  Removal& operator=(const Removal&) = delete;
  ~Removal();

  /// Takes so many steps, each of which looks at an entry or leaves a directory. 0 or an errno; EBUSY when others move
  /// its directories away faster than it can remove anything. REQUIRES: not done, and no error yet.
  int go_on(std::size_t steps);
  bool done() const noexcept { return done_; }

 private:
  /// Of a directory, as long as it exists; and beyond, since an inode's number comes again, and the time does not.
  struct Identity {
    std::uint64_t device = 0;
    std::uint64_t inode = 0;
    std::int64_t born_s = 0;
    std::uint32_t born_ns = 0;
    bool operator==(const Identity&) const = default;
  };
  struct Level {
    std::string name;  // in the level above
    Identity identity;
    DIR* listing = nullptr;  // null while it is closed
  };

  int begin();
  int step();
  int take_away(int directory, const char* name);
  int enter(int directory, const char* name);
  int leave();
  int open_parent(bool& is_there);
  int begin_again();
  bool close_outermost() noexcept;
  void close_all() noexcept;
  static int identify(int directory, Identity& identity) noexcept;
  int remove_directory(int above, const char* name) noexcept;

  const std::string path_;
  const std::size_t open_max_;
  std::vector<Level> levels_;
  std::size_t first_open_ = 0;  // from here on all levels are open
  std::size_t removed_ = 0;     // since it has begun again
  bool begun_ = false;
  bool done_ = false;
};

}  // namespace evlua::fs
