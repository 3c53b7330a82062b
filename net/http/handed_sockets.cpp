#include "net/http/handed_sockets.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "net/socket.h"

namespace evlua::http {

namespace {

constexpr int kBacklog = 4096;

net::Address bound_address(int fd) noexcept {
  sockaddr_storage storage{};
  socklen_t length = sizeof storage;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&storage), &length) != 0) return {};
  return net::Address::from(reinterpret_cast<const sockaddr*>(&storage), length);
}

bool is_listening(int fd) noexcept {
  int listening = 0;
  socklen_t length = sizeof listening;
  return ::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length) == 0 && listening != 0;
}

/// The descriptor, or why there is none.
Result<int> listen_on(const net::Address& address, bool share) noexcept {
  net::Socket socket(::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket.is_open()) return fail(errno);
  const int on = 1;
  const bool tcp = !address.is_unix();
  if (tcp) (void)::setsockopt(socket.fd(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (share && ::setsockopt(socket.fd(), SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) != 0) return fail(errno);
  const Result<void> bound = socket.bind(address, SOCK_STREAM);
  if (!bound) return fail(bound.error());
  if (::listen(socket.fd(), kBacklog) != 0) return fail(errno);
  return socket.release();
}

}  // namespace

HandedSockets::~HandedSockets() {
  for (const Handed& handed : sockets_) ::close(handed.fd);
}

bool HandedSockets::add(int fd, std::string name) {
  if (!is_listening(fd)) return false;
  (void)::fcntl(fd, F_SETFD, FD_CLOEXEC);
  sockets_.push_back({fd, std::move(name), bound_address(fd)});
  return true;
}

Result<void> HandedSockets::open(const net::Address& address, unsigned count) {
  const bool share = !address.is_unix() && count > 1;
  if (share && address.port() != 0) {
    // SO_REUSEPORT would share the port with another program of ours without a word; a plain bind tells.
    const Result<int> probe = listen_on(address, false);
    if (!probe) return fail(probe.error());
    ::close(*probe);
  }
  net::Address wanted = address;
  for (unsigned index = 0; index < (share ? count : 1); ++index) {
    const Result<int> made = listen_on(wanted, share);
    if (!made) return fail(made.error());
    wanted = bound_address(*made);
    sockets_.push_back({*made, address.to_string(), wanted});
  }
  return {};
}

bool HandedSockets::has(const net::Address& address) const {
  const std::string name = address.to_string();
  return std::any_of(sockets_.begin(), sockets_.end(), [&](const Handed& handed) { return handed.is(name); });
}

std::vector<int> HandedSockets::take(const net::Address& address) {
  const std::string name = address.to_string();
  std::vector<int> taken;
  std::erase_if(sockets_, [&](const Handed& handed) {
    if (!handed.is(name)) return false;
    taken.push_back(handed.fd);
    return true;
  });
  return taken;
}

std::vector<net::Address> HandedSockets::addresses() const {
  std::vector<net::Address> found;
  for (const Handed& handed : sockets_) {
    const auto same = [&](const net::Address& other) { return other.to_string() == handed.bound.to_string(); };
    if (std::none_of(found.begin(), found.end(), same)) found.push_back(handed.bound);
  }
  return found;
}

}  // namespace evlua::http
