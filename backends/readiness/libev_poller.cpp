// libev keeps its own idea of what the kernel watches and tells the kernel only about changes, in batches, before it
// sleeps. That idea is wrong when a descriptor number has been closed and has come back as another file in between. So
// a watcher that starts is always set anew: this flag (EV__IOFDSET) makes libev tell the kernel in any case.
#include "backends/readiness/libev_poller.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <mutex>
#include <vector>

#if defined(__clang__)
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wextern-c-compat"
#endif
#define EV_COMPAT3 0
#include <ev.h>
#if defined(__clang__)
#pragma clang diagnostic pop
#endif

#include "core/check.h"

#if EVLUA_TSAN
// A descriptor that nobody awaits may be closed by one worker while another's loop, told of a stale event, takes it out
// of its epoll set. The kernel settles that (EBADF, ENOENT), and libev expects it; ThreadSanitizer cannot know.
extern "C" const char* __tsan_default_suppressions();
extern "C" const char* __tsan_default_suppressions() { return "race:libev.so\n"; }
#endif

namespace evlua {

namespace {

class LibevPoller final : public Poller {
 public:
  explicit LibevPoller(struct ev_loop* loop) : loop_(loop) {
    ev_set_userdata(loop_, this);
    ev_async_init(&wake_, [](struct ev_loop*, ev_async*, int) {});
    ev_async_start(loop_, &wake_);
    ev_init(&timer_, [](struct ev_loop*, ev_timer*, int) {});
  }

  ~LibevPoller() override {
    for (std::unique_ptr<ev_io>& io : watchers_) {
      if (io != nullptr) ev_io_stop(loop_, io.get());
    }
    ev_timer_stop(loop_, &timer_);
    ev_async_stop(loop_, &wake_);
    ev_loop_destroy(loop_);
  }

  void arm(int fd, Direction direction) noexcept override {
    ev_io& io = watcher(fd, direction);
    if (ev_is_active(&io)) return;
    ev_io_set(&io, fd, direction == Direction::reading ? EV_READ : EV_WRITE);
    ev_io_start(loop_, &io);
  }

  void disarm(int fd, Direction direction) noexcept override {
    const std::size_t index = index_of(fd, direction);
    if (index < watchers_.size() && watchers_[index] != nullptr) ev_io_stop(loop_, watchers_[index].get());
  }

  void forget(int fd) noexcept override {
    disarm(fd, Direction::reading);
    disarm(fd, Direction::writing);
  }

  void wait(Listener& listener, Duration timeout) noexcept override {
    listener_ = &listener;
    if (timeout <= 0) {
      ev_run(loop_, EVRUN_NOWAIT);
      return;
    }
    if (timeout != kNever) {
      // libev measures timers from its own idea of now.
      ev_now_update(loop_);
      ev_timer_set(&timer_, static_cast<double>(timeout) / 1e9, 0.);
      ev_timer_start(loop_, &timer_);
    }
    // epoll counts in milliseconds: libev sleeps the whole ones and then once more, a millisecond, for the rest.
    ev_run(loop_, EVRUN_ONCE);
    if (timeout != kNever) ev_timer_stop(loop_, &timer_);
  }

  void wake() noexcept override { ev_async_send(loop_, &wake_); }

 private:
  static std::size_t index_of(int fd, Direction direction) noexcept {
    return 2 * static_cast<std::size_t>(fd) + static_cast<std::size_t>(direction);
  }

  ev_io& watcher(int fd, Direction direction) {
    const std::size_t index = index_of(fd, direction);
    if (index >= watchers_.size()) watchers_.resize(std::max(index + 128, watchers_.size() * 2));
    std::unique_ptr<ev_io>& io = watchers_[index];
    if (io == nullptr) {
      io = std::make_unique<ev_io>();
      ev_init(io.get(), &LibevPoller::on_event);
    }
    return *io;
  }

  /// Also called, with EV_ERROR and the watcher stopped, when the kernel refuses the descriptor: whoever waits shall
  /// try and see the error.
  static void on_event(struct ev_loop* loop, ev_io* io, int) {
    auto& self = *static_cast<LibevPoller*>(ev_userdata(loop));
    self.listener_->on_ready(io->fd, (io->events & EV_READ) != 0 ? Direction::reading : Direction::writing);
  }

  struct ev_loop* loop_;
  ev_async wake_;
  ev_timer timer_;
  Listener* listener_ = nullptr;
  std::vector<std::unique_ptr<ev_io>> watchers_;  // by index_of; libev links them, so they stay put
};

}  // namespace

namespace {

/// Whether a loop gets what it needs: an epoll, and an eventfd or a pipe. Otherwise `errno` says why not.
bool finds_descriptors() noexcept {
  std::array<int, 3> probes{-1, -1, -1};
  for (int& fd : probes) fd = ::eventfd(0, EFD_CLOEXEC);
  const int error = errno;
  const bool all = probes.back() >= 0;
  for (const int fd : probes) {
    if (fd >= 0) ::close(fd);
  }
  errno = error;
  return all;
}

}  // namespace

std::unique_ptr<Poller> make_libev_poller() {
  // libev ends the process where it gets no pipe. So that is looked at before, by one thread at a time.
  static std::mutex one_at_a_time;
  const std::lock_guard guard(one_at_a_time);
  if (!finds_descriptors()) return nullptr;
  // Not the default loop: that one takes over SIGCHLD. No signal descriptors, no inotify either.
  struct ev_loop* loop = ev_loop_new(EVFLAG_AUTO | EVFLAG_NOSIGMASK | EVFLAG_NOINOTIFY);
  if (loop == nullptr) return nullptr;
  return std::make_unique<LibevPoller>(loop);
}

}  // namespace evlua
