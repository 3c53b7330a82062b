// The simulator's file system: directories, files and FIFOs in memory, with the errors Linux gives. No locking.
//
// Functions return 0 or a negated errno.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "core/time.h"

struct statx;

namespace evlua {

struct SimChannel;

struct SimNode {
  enum class Kind : std::uint8_t { file, directory, fifo };

  Kind kind;
  mode_t mode;
  std::uint64_t number;
  std::uint32_t links;
  Instant changed = 0;
  std::string data;                                         // file
  std::map<std::string, std::shared_ptr<SimNode>> entries;  // directory
  std::weak_ptr<SimNode> parent;                            // directory
  std::shared_ptr<SimChannel> channel;                      // FIFO, while somebody has it open or opens it

  SimNode(Kind node_kind, mode_t permissions, std::uint64_t inode) noexcept
      : kind(node_kind), mode(permissions & 07777), number(inode), links(node_kind == Kind::directory ? 2 : 1) {}

  bool is_directory() const noexcept { return kind == Kind::directory; }
};
using SimNodePointer = std::shared_ptr<SimNode>;

class SimTree {
 public:
  SimTree();

  const SimNodePointer& root() const noexcept { return root_; }
  /// Stamped on what changes.
  void set_time(Instant now) noexcept { now_ = now; }

  /// `base` is the directory a relative path starts at. `flags` are those of open(2).
  int open(const SimNodePointer& base, std::string_view path, int flags, mode_t mode, SimNodePointer& result);
  int find(const SimNodePointer& base, std::string_view path, SimNodePointer& result) const;
  /// A file, directory or FIFO that must not exist yet.
  int make(const SimNodePointer& base, std::string_view path, SimNode::Kind kind, mode_t mode);
  int rename(const SimNodePointer& base, std::string_view from, std::string_view to, unsigned flags);
  /// `flags`: AT_REMOVEDIR.
  int unlink(const SimNodePointer& base, std::string_view path, int flags);
  void touch(SimNode& node) const noexcept { node.changed = now_; }

  static void fill(const SimNode& node, struct statx& out) noexcept;

 private:
  /// Where a path leads: the directory, the last name in it, and what is there, if anything.
  struct Place {
    SimNodePointer parent;
    std::string name;  // empty: the path ends in "/", "." or ".."
    SimNodePointer node;
    bool wants_directory = false;
  };

  int walk(const SimNodePointer& base, std::string_view path, Place& place) const;
  SimNodePointer add(const Place& place, SimNode::Kind kind, mode_t mode);
  void put(const Place& place, const SimNodePointer& node);
  void erase(const Place& place);

  SimNodePointer root_;
  std::uint64_t next_number_ = 1;
  Instant now_ = 0;
};

}  // namespace evlua
