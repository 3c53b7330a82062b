#include "fs/removal.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>

#include "fs/pooled.h"
#include "fs/tree.h"

namespace evlua::fs {

namespace {

/// So many steps are taken before somebody looks whether it is still wanted.
constexpr std::size_t kStepsAtOnce = 1000;

int open_directory(int at, const char* name) noexcept {
  return ::openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

}  // namespace

Removal::~Removal() { close_all(); }

int Removal::go_on(std::size_t steps) {
  int error = 0;
  for (std::size_t taken = 0; taken < steps && error == 0 && !done_; ++taken) {
    error = begun_ ? step() : begin();
    done_ = begun_ && levels_.empty();
  }
  return error;
}

int Removal::begin() {
  struct stat info {};
  if (::lstat(path_.c_str(), &info) != 0) return errno;
  begun_ = true;
  return take_away(AT_FDCWD, path_.c_str());
}

int Removal::step() {
  DIR* listing = levels_.back().listing;
  errno = 0;
  const dirent* entry = ::readdir(listing);
  if (entry == nullptr) return errno != 0 ? errno : leave();
  if (std::strcmp(entry->d_name, ".") == 0 || std::strcmp(entry->d_name, "..") == 0) return 0;
  return take_away(::dirfd(listing), entry->d_name);
}

/// Removes the entry, or goes into it.
int Removal::take_away(int directory, const char* name) {
  if (::unlinkat(directory, name, 0) == 0) {
    ++removed_;
    return 0;
  }
  if (errno == ENOENT) return 0;
  if (errno != EISDIR && errno != EPERM) return errno;
  const int why = errno;
  const int error = enter(directory, name);
  return error == ENOTDIR || error == ELOOP ? why : error == ENOENT ? 0 : error;
}

int Removal::enter(int directory, const char* name) {
  Level level{name, {}, nullptr};
  int inner = open_directory(directory, name);
  while (inner < 0 && (errno == EMFILE || errno == ENFILE) && close_outermost()) {
    inner = open_directory(directory, level.name.c_str());
  }
  if (inner < 0) return errno;
  int error = identify(inner, level.identity);
  if (error == 0) {
    level.listing = ::fdopendir(inner);
    if (level.listing == nullptr) error = errno;
  }
  if (error != 0) {
    (void)::close(inner);
    return error;
  }
  levels_.push_back(std::move(level));
  if (levels_.size() - first_open_ > open_max_) (void)close_outermost();
  return 0;
}

/// Out of the innermost directory, which is empty.
int Removal::leave() {
  if (levels_.size() == 1) {
    close_all();
    return remove_directory(AT_FDCWD, path_.c_str());
  }
  if (first_open_ + 1 == levels_.size()) {
    bool is_there = false;
    const int error = open_parent(is_there);
    if (error != 0) return error;
    if (!is_there) return begin_again();
  }
  const Level left = std::move(levels_.back());
  levels_.pop_back();
  (void)::closedir(left.listing);
  return remove_directory(::dirfd(levels_.back().listing), left.name.c_str());
}

/// Opens the level above the innermost one, unless something else is there by now.
int Removal::open_parent(bool& is_there) {
  Level& parent = levels_[levels_.size() - 2];
  const int above = open_directory(::dirfd(levels_.back().listing), "..");
  if (above < 0) return errno;
  Identity identity;
  const int error = identify(above, identity);
  is_there = error == 0 && identity == parent.identity;
  if (!is_there) {
    (void)::close(above);
    return error;
  }
  parent.listing = ::fdopendir(above);
  if (parent.listing == nullptr) {
    const int why = errno;
    (void)::close(above);
    return why;
  }
  --first_open_;
  return 0;
}

int Removal::begin_again() {
  close_all();
  if (std::exchange(removed_, 0) == 0) return EBUSY;
  const int error = begin();
  return error == ENOENT ? 0 : error;
}

/// False: there is none but the innermost one.
bool Removal::close_outermost() noexcept {
  if (first_open_ + 1 >= levels_.size()) return false;
  (void)::closedir(std::exchange(levels_[first_open_++].listing, nullptr));
  return true;
}

void Removal::close_all() noexcept {
  for (std::size_t i = first_open_; i < levels_.size(); ++i) (void)::closedir(levels_[i].listing);
  levels_.clear();
  first_open_ = 0;
}

int Removal::identify(int directory, Identity& identity) noexcept {
  struct statx info {};
  if (::statx(directory, "", AT_EMPTY_PATH, STATX_INO | STATX_BTIME, &info) != 0) return errno;
  identity.device = ::makedev(info.stx_dev_major, info.stx_dev_minor);
  identity.inode = info.stx_ino;
  identity.born_s = info.stx_btime.tv_sec;
  identity.born_ns = info.stx_btime.tv_nsec;
  return 0;
}

int Removal::remove_directory(int above, const char* name) noexcept {
  if (::unlinkat(above, name, AT_REMOVEDIR) != 0) {
    if (errno == ENOENT) return 0;
    if (errno != ENOTDIR || ::unlinkat(above, name, 0) != 0) return errno;  // others have put a link in its place
  }
  ++removed_;
  return 0;
}

namespace {

/// Of "x/..", "x/." and "/" nothing could be removed but what is in there: nobody has meant that.
bool names_no_entry(std::string_view path) noexcept {
  const std::size_t end = path.find_last_not_of('/');
  if (end == std::string_view::npos) return !path.empty();
  path = path.substr(0, end + 1);
  const std::string_view name = path.substr(path.find_last_of('/') + 1);
  return name == "." || name == "..";
}

}  // namespace

Task<Result<void>> remove_tree(std::string path) {
  if (names_no_entry(path)) co_return fail(EINVAL, OpCode::nop);
  Removal removal(std::move(path));
  Result<void> outcome;
  while (outcome && !removal.done()) {
    outcome = co_await pooled([&removal] { return removal.go_on(kStepsAtOnce); });
  }
  co_return outcome;
}

}  // namespace evlua::fs
