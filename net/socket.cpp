#include "net/socket.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "core/worker.h"

namespace evlua::net {

namespace {

/// The file of a Unix socket that is gone.
bool is_stale(const Address& address, int type) noexcept {
  const int fd = ::socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return false;
  const bool refused = ::connect(fd, address.get(), address.length()) != 0 && errno == ECONNREFUSED;
  ::close(fd);
  struct stat info {};
  const std::string path(address.path());
  return refused && ::lstat(path.c_str(), &info) == 0 && S_ISSOCK(info.st_mode);
}

}  // namespace

Result<void> Socket::bind(const Address& address, int type) noexcept {
  if (::bind(fd_, address.get(), address.length()) == 0) return {};
  const int error = errno;
  if (error != EADDRINUSE || address.path().empty() || !is_stale(address, type)) return fail(error);
  const std::string path(address.path());
  (void)::unlink(path.c_str());
  if (::bind(fd_, address.get(), address.length()) == 0) return {};
  return fail(errno);
}

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
