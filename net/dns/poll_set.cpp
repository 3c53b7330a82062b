#include "net/dns/poll_set.h"

#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "core/worker.h"

namespace evlua::net {

PollSet::~PollSet() {
  if (fd_ >= 0) Worker::current().close_later(fd_);
}

Result<void> PollSet::open() noexcept {
  fd_ = ::epoll_create1(EPOLL_CLOEXEC);
  if (fd_ < 0) return fail(errno);
  return {};
}

void PollSet::watch(int fd, bool readable, bool writable) noexcept {
  epoll_event event{};
  event.data.fd = fd;
  event.events = (readable ? EPOLLIN : 0U) | (writable ? EPOLLOUT : 0U);
  if (event.events == 0) {
    (void)::epoll_ctl(fd_, EPOLL_CTL_DEL, fd, nullptr);
  } else if (::epoll_ctl(fd_, EPOLL_CTL_MOD, fd, &event) != 0) {
    (void)::epoll_ctl(fd_, EPOLL_CTL_ADD, fd, &event);
  }
}

int PollSet::ready(Ready (&out)[kReadyMax]) const noexcept {
  std::array<epoll_event, kReadyMax> events;
  const int count = ::epoll_wait(fd_, events.data(), kReadyMax, 0);
  for (int at = 0; at < count; ++at) {
    const epoll_event& event = events[static_cast<std::size_t>(at)];
    const bool failed = (event.events & (EPOLLERR | EPOLLHUP)) != 0;
    out[at] = {event.data.fd, failed || (event.events & EPOLLIN) != 0, failed || (event.events & EPOLLOUT) != 0};
  }
  return std::max(count, 0);
}

}  // namespace evlua::net
