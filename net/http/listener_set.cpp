#include "net/http/listener_set.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace evlua::http {

namespace {

/// Connections inherit it, which saves a system call for each.
void send_at_once(const net::Listener& listener) noexcept {
  const int on = 1;
  static_cast<void>(::setsockopt(listener.fd(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on));
}

bool shares_port(const net::Listener& listener) noexcept {
  int on = 0;
  socklen_t length = sizeof on;
  return ::getsockopt(listener.fd(), SOL_SOCKET, SO_REUSEPORT, &on, &length) == 0 && on != 0;
}

/// SO_REUSEPORT would let another process of ours share the port without a word; a plain bind tells.
/// Closed at once and not in the background: the listeners that follow want the port.
Result<void> check_free(const net::Address& address) noexcept {
  Result<net::Socket> probe = net::Socket::make(address.family());
  if (!probe) return fail(probe.error());
  const int on = 1;
  static_cast<void>(::setsockopt(probe->fd(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
  const int error = ::bind(probe->fd(), address.get(), address.length()) == 0 ? 0 : errno;
  ::close(probe->release());
  if (error != 0) return fail(error);
  return {};
}

}  // namespace

Result<void> ListenerSet::add(const net::Address& address, tls::ContextSlot* tls, const std::vector<int>& handed) {
  std::vector<net::Listener> listeners;
  for (const int fd : handed) listeners.push_back(net::adopt_listener(fd));
  const net::Address bound = handed.empty() ? address : listeners.front().local_address();
  const Result<void> added = add_missing(listeners, bound, !handed.empty());
  if (!added) return added;
  addresses_.push_back(listeners.front().local_address());
  shared_.push_back({std::move(listeners), tls, address.to_string()});
  return {};
}

/// One for each worker where the port can be shared.
Result<void> ListenerSet::add_missing(std::vector<net::Listener>& listeners, const net::Address& address,
                                      bool handed) const {
  const bool single = address.is_unix() || (handed && !shares_port(listeners.front()));
  net::ListenOptions options;
  options.reuse_port = !address.is_unix() && workers_ > 1;
  options.backlog = 4096;
  if (!handed && options.reuse_port && address.port() != 0) {
    const Result<void> available = check_free(address);
    if (!available) return available;
  }
  net::Address bound = address;
  while (listeners.size() < (single ? 1 : workers_)) {
    Result<net::Listener> listener = net::listen(bound, options);
    if (!listener && handed) break;  // there may be a lack of privileges: workers share what there is
    if (!listener) return fail(listener.error());
    bound = listener->local_address();
    listeners.push_back(std::move(*listener));
  }
  if (address.is_unix()) return {};
  for (const net::Listener& listener : listeners) send_at_once(listener);
  return {};
}

std::vector<ListenerSet::Open> ListenerSet::sockets() const {
  std::vector<Open> all;
  for (const Shared& shared : shared_) {
    for (const net::Listener& listener : shared.listeners) all.push_back({listener.fd(), shared.name});
  }
  return all;
}

void ListenerSet::leave_files() noexcept {
  for (Shared& shared : shared_) {
    for (net::Listener& listener : shared.listeners) listener.leave_file();
  }
}

std::vector<std::vector<Listening>> ListenerSet::descriptors() const {
  std::vector<std::vector<Listening>> result(workers_);
  for (const Shared& shared : shared_) {
    const std::size_t count = shared.listeners.size();
    for (std::size_t index = 0; index < std::max<std::size_t>(workers_, count); ++index) {
      result[index % workers_].push_back({shared.listeners[index % count].fd(), shared.tls});
    }
  }
  return result;
}

}  // namespace evlua::http
