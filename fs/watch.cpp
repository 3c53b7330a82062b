#include "fs/watch.h"

#include <poll.h>
#include <sys/inotify.h>
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

}  // namespace

Task<Result<std::unique_ptr<Watch>>> Watch::open(std::string path) {
  auto watch = std::make_unique<Watch>();
  const Result<void> done = co_await pooled([&path, &watch] {
    const int fd = ::inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (fd < 0) return errno;
    watch->file_ = File(fd, false);
    return ::inotify_add_watch(fd, path.c_str(), kInteresting) < 0 ? errno : 0;
  });
  if (!done) co_return fail(done.error());
  co_return watch;
}

bool Watch::take_event(WatchEvent& event) {
  while (begin_ < end_) {
    inotify_event head;
    std::memcpy(&head, bytes_.data() + begin_, sizeof head);
    const char* name = bytes_.data() + begin_ + sizeof head;
    begin_ += sizeof head + head.len;
    if ((head.mask & IN_IGNORED) != 0) ended_ = true;
    const char* type = type_of(head.mask);
    if (type == nullptr) continue;
    event = {type, std::string(name, ::strnlen(name, head.len)), (head.mask & IN_ISDIR) != 0, head.cookie};
    return true;
  }
  return false;
}

/// What has come already: true, with an event or an error.
bool Watch::try_next(Result<WatchEvent>& out) {
  WatchEvent event;
  if (begin_ >= end_ && !ended_) {
    const ssize_t got = ::read(file_.fd(), bytes_.data(), bytes_.size());
    begin_ = 0;
    end_ = got > 0 ? static_cast<std::size_t>(got) : 0;
    if (got < 0 && errno != EAGAIN && errno != EINTR) {
      out = fail(errno);
      return true;
    }
  }
  if (take_event(event)) {
    out = std::move(event);
    return true;
  }
  if (ended_) out = WatchEvent();
  return ended_;
}

Task<Result<WatchEvent>> Watch::next(Instant deadline) {
  if (!is_open()) co_return fail(EBADF);
  if (waiting_ != nullptr) co_return fail(EBUSY);
  Result<WatchEvent> event = fail(EAGAIN);
  while (!try_next(event)) {
    const Result<void> ready = co_await wait(deadline);
    if (!ready) co_return fail(ready.error());
  }
  co_return event;
}

Task<Result<void>> Watch::wait(Instant deadline) {
  IoAwait op(OpCode::poll, file_.fd(), OpArgs{.poll = {POLLIN}});
  op.until(deadline);
  waiting_ = &op;
  const Result<std::int32_t> polled = co_await op;
  waiting_ = nullptr;
  if (closed_) {
    const File closing(std::move(file_));  // which `close` has left to us
    co_return fail(ECANCELED);
  }
  if (!polled) co_return fail(polled.error().code);
  co_return Result<void>();
}

void Watch::close() noexcept {
  closed_ = true;
  if (waiting_ != nullptr) {
    Worker::cancel(*waiting_);
  } else {
    const File closing(std::move(file_));
  }
}

}  // namespace evlua::fs
