#include "fs/watch.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "core/worker.h"
#include "fs/pooled.h"

namespace evlua::fs {

namespace {

constexpr std::uint32_t kInteresting = IN_CREATE | IN_DELETE | IN_MODIFY | IN_CLOSE_WRITE | IN_MOVED_FROM |
                                       IN_MOVED_TO | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF;

/// Null for what nobody needs to know.
const char* type_of(std::uint32_t mask) noexcept {
  if ((mask & IN_Q_OVERFLOW) != 0) return "overflow";
  if ((mask & IN_CREATE) != 0) return "created";
  if ((mask & (IN_DELETE | IN_DELETE_SELF | IN_UNMOUNT)) != 0) return "removed";
  if ((mask & IN_MODIFY) != 0) return "modified";
  if ((mask & IN_CLOSE_WRITE) != 0) return "written";
  if ((mask & IN_MOVED_FROM) != 0) return "moved_from";
  if ((mask & IN_MOVED_TO) != 0) return "moved_to";
  if ((mask & IN_ATTRIB) != 0) return "attributes";
  if ((mask & IN_MOVE_SELF) != 0) return "moved";
  return nullptr;
}

/// So many entries are looked at before somebody looks whether it is still wanted.
constexpr std::size_t kLookAtOnce = 1000;

std::string below(const std::string& folder, const char* name) { return folder.empty() ? name : folder + "/" + name; }

bool is_at_or_below(const std::string& name, const std::string& folder) noexcept {
  return name.compare(0, folder.size(), folder) == 0 && (name.size() == folder.size() || name[folder.size()] == '/');
}

struct CloseDirectory {
  void operator()(DIR* directory) const noexcept { ::closedir(directory); }
};

/// Whether an entry is a directory, and no link to one.
bool is_directory(DIR* parent, const dirent& entry) noexcept {
  if (entry.d_type != DT_UNKNOWN) return entry.d_type == DT_DIR;
  struct stat info {};
  return ::fstatat(::dirfd(parent), entry.d_name, &info, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(info.st_mode);
}

bool is_dots(const char* name) noexcept { return std::strcmp(name, ".") == 0 || std::strcmp(name, "..") == 0; }

}  // namespace

// -- making ---------------------------------------------------------------------------------------------------------

Task<Result<std::unique_ptr<Watch>>> Watch::open(std::string path, bool recursive) {
  auto watch = std::make_unique<Watch>();
  watch->path_ = std::move(path);
  watch->recursive_ = recursive;
  const Result<void> done = co_await pooled([&watch] {
    const int fd = ::inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (fd < 0) return errno;
    watch->file_ = File(fd, false);
    watch->root_ = ::inotify_add_watch(fd, watch->path_.c_str(), kInteresting);
    if (watch->root_ < 0) return errno;
    return 0;
  });
  if (!done) co_return fail(done.error());
  if (recursive) watch->to_look_at_.push_back({"", false});
  while (!watch->to_look_at_.empty()) {
    const Result<void> looked = co_await watch->look();
    if (!looked) co_return fail(looked.error());
  }
  co_return watch;
}

std::string Watch::path_of(const std::string& name) const { return name.empty() ? path_ : path_ + "/" + name; }

/// 0 or an errno. What is gone already, or no directory any more, is nobody's business, and others are still to be
/// watched when one may not be, or is too deep. [pool]
int Watch::watch_directory(const std::string& name) noexcept {
  const std::uint32_t only = name.empty() ? 0 : IN_ONLYDIR | IN_DONT_FOLLOW;
  const int watch = ::inotify_add_watch(file_.fd(), path_of(name).c_str(), kInteresting | only);
  if (watch >= 0) watched_[watch] = name;
  return watch >= 0 || errno == ENOENT || errno == ENOTDIR || errno == ELOOP || errno == EACCES || errno == ENAMETOOLONG
             ? 0
             : errno;
}

/// Watches directories that have appeared, and finds those in them. First the watch, then the look: what comes between
/// is seen twice. [pool]
int Watch::look_at_some() {
  for (std::size_t seen = 0; !to_look_at_.empty() && seen < kLookAtOnce; ++seen) {
    const Found folder = std::move(to_look_at_.front());
    to_look_at_.pop_front();
    if (const int error = watch_directory(folder.name); error != 0) {
      to_look_at_.clear();  // there is no watch left for these either
      return error;
    }
    const std::unique_ptr<DIR, CloseDirectory> directory(::opendir(path_of(folder.name).c_str()));
    if (directory == nullptr) continue;
    while (const dirent* entry = ::readdir(directory.get())) {
      if (is_dots(entry->d_name)) continue;
      ++seen;
      const bool is_folder = is_directory(directory.get(), *entry);
      std::string name = below(folder.name, entry->d_name);
      if (folder.tells && told_.insert(name).second) found_events_.push_back({"created", name, is_folder, 0});
      if (is_folder) to_look_at_.push_back({std::move(name), folder.tells});
    }
  }
  return 0;
}

// -- reading --------------------------------------------------------------------------------------------------------

void Watch::forget_tree(const std::string& name) noexcept {
  for (auto at = watched_.begin(); at != watched_.end();) {
    if (!is_at_or_below(at->second, name)) {
      ++at;
      continue;
    }
    (void)::inotify_rm_watch(file_.fd(), at->first);
    at = watched_.erase(at);
  }
}

/// Keeps the tree's watches in step, and gives the event its whole name. False: nobody needs to know of it.
bool Watch::take_from_tree(const inotify_event& head, WatchEvent& event) {
  if ((head.mask & IN_Q_OVERFLOW) != 0) {
    if (!moved_) to_look_at_.push_back({"", false});  // who is told of this looks at everything anyway
    return true;
  }
  const auto folder = watched_.find(head.wd);
  if (folder == watched_.end()) return false;
  const bool is_root = head.wd == root_;
  if ((head.mask & IN_IGNORED) != 0) {
    watched_.erase(folder);
    return false;
  }
  moved_ = moved_ || (is_root && (head.mask & IN_MOVE_SELF) != 0);
  if (event.name.empty()) return is_root;  // the directory above tells it of others
  event.name = below(folder->second, event.name.c_str());
  if ((head.mask & IN_CREATE) != 0 && told_.erase(event.name) > 0) return false;
  if ((head.mask & (IN_DELETE | IN_MOVED_FROM)) != 0) told_.erase(event.name);
  if (!event.is_directory) return true;
  if ((head.mask & (IN_DELETE | IN_MOVED_FROM)) != 0) forget_tree(event.name);
  if (!moved_ && (head.mask & (IN_CREATE | IN_MOVED_TO)) != 0) to_look_at_.push_back({event.name, true});
  return true;
}

bool Watch::take_event(WatchEvent& event) {
  if (!found_events_.empty()) {
    event = std::move(found_events_.front());
    found_events_.pop_front();
    return true;
  }
  while (begin_ < end_ && to_look_at_.empty()) {
    inotify_event head;
    std::memcpy(&head, bytes_.data() + begin_, sizeof head);
    const char* name = bytes_.data() + begin_ + sizeof head;
    begin_ += sizeof head + head.len;
    if ((head.mask & IN_IGNORED) != 0 && head.wd == root_) ended_ = true;
    const char* type = type_of(head.mask);
    event = {type, std::string(name, ::strnlen(name, head.len)), (head.mask & IN_ISDIR) != 0, head.cookie};
    const bool told = !recursive_ || take_from_tree(head, event);
    if (told && type != nullptr) return true;
  }
  return false;
}

/// Reads from the system. False: nothing is there, or `error`.
bool Watch::fill(int& error) noexcept {
  const ssize_t got = ::read(file_.fd(), bytes_.data(), bytes_.size());
  begin_ = 0;
  end_ = got > 0 ? static_cast<std::size_t>(got) : 0;
  if (got > 0) return true;
  if (got < 0 && errno != EAGAIN && errno != EINTR) error = errno;
  if (got < 0 && errno == EAGAIN) told_.clear();  // whatever was told twice has come by now
  return false;
}

/// What has come already: true, with an event or an error.
bool Watch::try_next(Result<WatchEvent>& out) {
  WatchEvent event;
  int error = 0;
  do {
    if (take_event(event)) {
      out = std::move(event);
      return true;
    }
  } while (to_look_at_.empty() && !ended_ && fill(error));
  if (error != 0) {
    out = fail(error);
    return true;
  }
  if (ended_) out = WatchEvent();
  return ended_;
}

/// Cancelled before it has begun, it is still to be done.
Task<Result<void>> Watch::look() {
  const Result<void> looked = co_await pooled([this] { return look_at_some(); });
  co_return looked;
}

Task<Result<WatchEvent>> Watch::next(Instant deadline) {
  if (!is_open()) co_return fail(EBADF);
  if (reading_) co_return fail(EBUSY);
  reading_ = true;
  bool looked = false;
  Result<WatchEvent> event = fail(EAGAIN);
  while (!try_next(event)) {
    Result<void> ready;
    if (to_look_at_.empty()) {
      ready = co_await wait(deadline);
    } else if (looked && Worker::current().now() >= deadline) {
      ready = fail(ETIMEDOUT);
    } else {
      ready = co_await look();
      looked = true;
    }
    if (closed_) {
      event = fail(ECANCELED);
      break;
    }
    if (!ready) {
      event = fail(ready.error());
      break;
    }
  }
  reading_ = false;
  if (closed_) {
    const File closing(std::move(file_));  // which `close` has left to us
  }
  co_return event;
}

Task<Result<void>> Watch::wait(Instant deadline) {
  IoAwait op(OpCode::poll, file_.fd(), OpArgs{.poll = {POLLIN}});
  op.until(deadline);
  waiting_ = &op;
  const Result<std::int32_t> polled = co_await op;
  waiting_ = nullptr;
  if (!polled) co_return fail(polled.error().code);
  co_return Result<void>();
}

void Watch::close() noexcept {
  closed_ = true;
  if (waiting_ != nullptr) Worker::cancel(*waiting_);
  if (!reading_) {
    const File closing(std::move(file_));
  }
}

}  // namespace evlua::fs
