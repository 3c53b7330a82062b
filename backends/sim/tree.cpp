#include "backends/sim/tree.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>

#include "core/check.h"

namespace evlua {
namespace {

constexpr std::size_t kNameMax = 255;

bool writes(int flags) noexcept { return (flags & O_ACCMODE) != O_RDONLY; }

bool is_within(SimNodePointer node, const SimNodePointer& directory) {
  for (; node != nullptr; node = node->parent.lock()) {
    if (node == directory) return true;
    if (node->parent.lock() == node) return false;
  }
  return false;
}

}  // namespace

SimTree::SimTree() {
  root_ = std::make_shared<SimNode>(SimNode::Kind::directory, 0755, next_number_++);
  root_->parent = root_;
}

int SimTree::walk(const SimNodePointer& base, std::string_view path, Place& place) const {
  if (path.empty()) return -ENOENT;
  place.node = path.front() == '/' ? root_ : base;
  place.parent = place.node;
  while (!path.empty()) {
    if (path.front() == '/') {
      path.remove_prefix(1);
      place.wants_directory = true;
      continue;
    }
    const std::string_view name = path.substr(0, path.find('/'));
    path.remove_prefix(name.size());
    if (place.node == nullptr) return -ENOENT;
    if (!place.node->is_directory()) return -ENOTDIR;
    if (name.size() > kNameMax) return -ENAMETOOLONG;
    place.parent = place.node;
    place.wants_directory = false;
    place.name.clear();
    if (name == ".") continue;
    if (name == "..") {
      place.node = place.node->parent.lock();
      continue;
    }
    place.name = name;
    const auto found = place.parent->entries.find(place.name);
    place.node = found == place.parent->entries.end() ? nullptr : found->second;
  }
  if (place.wants_directory && place.node != nullptr && !place.node->is_directory()) return -ENOTDIR;
  return 0;
}

void SimTree::put(const Place& place, const SimNodePointer& node) {
  place.parent->entries[place.name] = node;
  touch(*place.parent);
  touch(*node);
  if (!node->is_directory()) return;
  node->parent = place.parent;
  ++place.parent->links;
}

void SimTree::erase(const Place& place) {
  place.parent->entries.erase(place.name);
  touch(*place.parent);
  if (place.node->is_directory()) --place.parent->links;
}

SimNodePointer SimTree::add(const Place& place, SimNode::Kind kind, mode_t mode) {
  auto node = std::make_shared<SimNode>(kind, mode, next_number_++);
  put(place, node);
  return node;
}

int SimTree::find(const SimNodePointer& base, std::string_view path, SimNodePointer& result) const {
  Place place;
  if (const int error = walk(base, path, place); error != 0) return error;
  result = place.node;
  return result == nullptr ? -ENOENT : 0;
}

int SimTree::make(const SimNodePointer& base, std::string_view path, SimNode::Kind kind, mode_t mode) {
  Place place;
  if (const int error = walk(base, path, place); error != 0) return error;
  if (place.node != nullptr) return -EEXIST;
  add(place, kind, mode);
  return 0;
}

int SimTree::open(const SimNodePointer& base, std::string_view path, int flags, mode_t mode, SimNodePointer& result) {
  Place place;
  if (const int error = walk(base, path, place); error != 0) return error;
  if (place.node == nullptr) {
    if ((flags & O_CREAT) == 0) return -ENOENT;
    if (place.wants_directory) return -EISDIR;
    result = add(place, SimNode::Kind::file, mode);
    return 0;
  }
  if ((flags & O_CREAT) != 0 && (flags & O_EXCL) != 0) return -EEXIST;
  if (place.node->is_directory() && (writes(flags) || (flags & O_CREAT) != 0)) return -EISDIR;
  if ((flags & O_DIRECTORY) != 0 && !place.node->is_directory()) return -ENOTDIR;
  if ((flags & O_TRUNC) != 0 && place.node->kind == SimNode::Kind::file) {
    place.node->data.clear();
    touch(*place.node);
  }
  result = place.node;
  return 0;
}

int SimTree::rename(const SimNodePointer& base, std::string_view from_path, std::string_view to_path, unsigned flags) {
  Place from;
  Place to;
  if (const int error = walk(base, from_path, from); error != 0) return error;
  if (const int error = walk(base, to_path, to); error != 0) return error;
  if (from.name.empty() || to.name.empty()) return -EBUSY;
  if (from.node == nullptr) return -ENOENT;
  if (to.node != nullptr && (flags & RENAME_NOREPLACE) != 0) return -EEXIST;
  if (to.node == nullptr && (flags & RENAME_EXCHANGE) != 0) return -ENOENT;
  if (to.wants_directory && !from.node->is_directory()) return -ENOTDIR;
  if (from.node == to.node) return 0;
  if (from.node->is_directory() && is_within(to.parent, from.node)) return -EINVAL;
  const bool exchange = (flags & RENAME_EXCHANGE) != 0;
  if (exchange && to.node->is_directory() && is_within(from.parent, to.node)) return -EINVAL;
  if (to.node != nullptr && !exchange) {
    if (to.node->is_directory() && is_within(from.parent, to.node)) return -ENOTEMPTY;
    if (to.node->is_directory() && !from.node->is_directory()) return -EISDIR;
    if (!to.node->is_directory() && from.node->is_directory()) return -ENOTDIR;
    if (!to.node->entries.empty()) return -ENOTEMPTY;
  }
  erase(from);
  if (to.node != nullptr) erase(to);
  put(to, from.node);
  if (exchange) {
    put(from, to.node);
  } else if (to.node != nullptr) {
    to.node->links = 0;
  }
  return 0;
}

int SimTree::unlink(const SimNodePointer& base, std::string_view path, int flags) {
  Place place;
  if (const int error = walk(base, path, place); error != 0) return error;
  if (place.node == nullptr) return -ENOENT;
  if ((flags & AT_REMOVEDIR) == 0) {
    if (place.node->is_directory()) return -EISDIR;
  } else {
    if (!place.node->is_directory()) return -ENOTDIR;
    if (place.node == root_) return -EBUSY;
    if (place.name.empty()) return -EINVAL;
    if (!place.node->entries.empty()) return -ENOTEMPTY;
  }
  erase(place);
  place.node->links = 0;
  return 0;
}

void SimTree::fill(const SimNode& node, struct statx& out) noexcept {
  out = {};
  out.stx_mask = STATX_BASIC_STATS;
  out.stx_blksize = 4096;
  out.stx_nlink = node.links;
  out.stx_ino = node.number;
  out.stx_size = node.data.size();
  out.stx_blocks = (node.data.size() + 511) / 512;
  std::uint32_t type = S_IFREG;
  if (node.is_directory()) type = S_IFDIR;
  if (node.kind == SimNode::Kind::fifo) type = S_IFIFO;
  out.stx_mode = static_cast<std::uint16_t>(type | node.mode);
  out.stx_mtime.tv_sec = node.changed / kSecond;
  out.stx_mtime.tv_nsec = static_cast<std::uint32_t>(node.changed % kSecond);
  out.stx_atime = out.stx_ctime = out.stx_mtime;
}

}  // namespace evlua
