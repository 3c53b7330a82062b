#include "net/socket.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include <cerrno>

#include "core/worker.h"

namespace evlua::net {

Result<Socket> Socket::make(int family) noexcept {
  const int mode = Worker::current().backend().capabilities().nonblocking_sockets ? SOCK_NONBLOCK : 0;
  const int fd = ::socket(family, SOCK_STREAM | SOCK_CLOEXEC | mode, 0);
  if (fd < 0) return fail(errno, OpCode::connect);
  return Socket(fd);
}

void Socket::set_mode() noexcept {
  const bool nonblocking = Worker::current().backend().capabilities().nonblocking_sockets;
  const int flags = ::fcntl(fd_, F_GETFL);
  if (flags >= 0) (void)::fcntl(fd_, F_SETFL, nonblocking ? flags | O_NONBLOCK : flags & ~O_NONBLOCK);
}

void Socket::reset() noexcept {
  const int fd = release();
  if (fd < 0) return;
  Worker* worker = Worker::current_or_null();
  if (worker != nullptr) {
    worker->close_later(fd);
  } else {
    ::close(fd);
  }
}

Address Socket::local_address() const noexcept {
  sockaddr_storage storage{};
  socklen_t length = sizeof storage;
  if (::getsockname(fd_, reinterpret_cast<sockaddr*>(&storage), &length) != 0) return {};
  return Address::from(reinterpret_cast<sockaddr*>(&storage), length);
}

Address Socket::remote_address() const noexcept {
  sockaddr_storage storage{};
  socklen_t length = sizeof storage;
  if (::getpeername(fd_, reinterpret_cast<sockaddr*>(&storage), &length) != 0) return {};
  return Address::from(reinterpret_cast<sockaddr*>(&storage), length);
}

void Socket::set_no_delay() noexcept {
  const int on = 1;
  (void)::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

}  // namespace evlua::net
