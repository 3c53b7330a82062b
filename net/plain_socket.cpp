#include "net/plain_socket.h"

#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "core/worker.h"
#include "net/socket.h"

namespace evlua::net {

namespace {

/// Closing must not hold a thread; the kernel sends what is left all the same.
void forbid_lingering(int fd) noexcept {
  linger lingering{};
  socklen_t size = sizeof lingering;
  if (::getsockopt(fd, SOL_SOCKET, SO_LINGER, &lingering, &size) == 0 && lingering.l_onoff != 0 &&
      lingering.l_linger != 0) {
    lingering = {};
    (void)::setsockopt(fd, SOL_SOCKET, SO_LINGER, &lingering, sizeof lingering);
  }
}

/// Repeats `call` while signals interrupt it.
template <class Call>
auto uninterrupted(Call call) noexcept {
  while (true) {
    const auto result = call();
    if (result >= 0 || errno != EINTR) return result;
  }
}

}  // namespace

// -- the descriptor -------------------------------------------------------------------------------------------------

Result<void> PlainSocket::open(int family, int type) noexcept {
  const int fd = ::socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return fail(errno);
  adopt(fd);
  return {};
}

void PlainSocket::adopt(int fd) noexcept {
  close();
  fd_ = fd;
}

int PlainSocket::release() noexcept {
  dismiss_waiters();
  return std::exchange(fd_, -1);
}

int PlainSocket::detach() noexcept {
  const int fd = std::exchange(fd_, -1);
  if (fd < 0) return -1;
  forbid_lingering(fd);
  bool awaited = false;
  waiters_.for_each([&](Waiter& waiter) {  // some may have been dismissed before, and still be there
    if (waiter.op->fd == fd) waiter.closes = awaited = true;
  });
  dismiss_waiters();
  return awaited ? -1 : fd;
}

void PlainSocket::close() noexcept { Socket(detach()).reset(); }

void PlainSocket::dismiss_waiters() noexcept {
  waiters_.for_each([&](Waiter& waiter) {
    if (waiter.dismissed) return;
    waiter.dismissed = true;
    Worker::cancel(*waiter.op);
  });
}

void PlainSocket::enter(Waiter& waiter, Op& op) noexcept {
  waiter.op = &op;
  waiters_.push_back(waiter);
}

void PlainSocket::leave(Waiter& waiter) noexcept {
  List<Waiter>::erase(waiter);
  if (!waiter.closes) return;
  const int fd = waiter.op->fd;
  bool last = true;
  waiters_.for_each([&](const Waiter& other) { last = last && other.op->fd != fd; });
  if (last) Socket(fd).reset();
}

// -- calls ----------------------------------------------------------------------------------------------------------

Result<void> PlainSocket::bind(const Address& address) noexcept {
  if (::bind(fd_, address.get(), address.length()) != 0) return fail(errno);
  return {};
}

Result<void> PlainSocket::listen(int backlog) noexcept {
  if (::listen(fd_, backlog) != 0) return fail(errno);
  return {};
}

Result<void> PlainSocket::connect(const Address& address) noexcept {
  sockaddr nobody{};
  nobody.sa_family = AF_UNSPEC;
  const bool connects = address.length() != 0;
  const sockaddr* target = connects ? address.get() : &nobody;
  const socklen_t size = connects ? address.length() : sizeof nobody;
  if (uninterrupted([&] { return ::connect(fd_, target, size); }) != 0) return fail(errno, OpCode::connect);
  return {};
}

Result<void> PlainSocket::pending_error() noexcept {
  int error = 0;
  socklen_t size = sizeof error;
  if (::getsockopt(fd_, SOL_SOCKET, SO_ERROR, &error, &size) != 0) return fail(errno);
  if (error != 0) return fail(error, OpCode::connect);
  return {};
}

Result<int> PlainSocket::accept() noexcept {
  const int fd = uninterrupted([&] { return ::accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK); });
  if (fd < 0) return fail(errno, OpCode::accept);
  return fd;
}

Result<std::uint32_t> PlainSocket::receive(void* data, std::uint32_t size, Address* from) noexcept {
  sockaddr_storage name{};
  socklen_t length = sizeof name;
  auto* address = reinterpret_cast<sockaddr*>(&name);
  const ssize_t got = uninterrupted([&] {
    return from != nullptr ? ::recvfrom(fd_, data, size, MSG_DONTWAIT, address, &length)
                           : ::recv(fd_, data, size, MSG_DONTWAIT);
  });
  if (got < 0) return fail(errno, OpCode::recv);
  if (from != nullptr) *from = Address::from(address, length);
  return static_cast<std::uint32_t>(got);
}

Result<std::uint32_t> PlainSocket::send(const void* data, std::uint32_t size, const Address* to) noexcept {
  const ssize_t sent = uninterrupted([&] {
    return to != nullptr ? ::sendto(fd_, data, size, MSG_DONTWAIT | MSG_NOSIGNAL, to->get(), to->length())
                         : ::send(fd_, data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
  });
  if (sent < 0) return fail(errno, OpCode::send);
  return static_cast<std::uint32_t>(sent);
}

}  // namespace evlua::net
