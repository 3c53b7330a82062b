#include "net/http/listener_set.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace evlua::http {

namespace {

/// Connections inherit it, which saves a system call for each.
void send_at_once(const net::Listener& listener) noexcept {
  const int on = 1;
  static_cast<void>(::setsockopt(listener.fd(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on));
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

Result<void> ListenerSet::add(const net::Address& address, tls::ContextSlot* tls) {
  const bool shared = address.is_unix();
  net::ListenOptions options;
  options.reuse_port = !shared && workers_ > 1;
  options.backlog = 4096;
  if (options.reuse_port && address.port() != 0) {
    const Result<void> available = check_free(address);
    if (!available) return available;
  }
  std::vector<net::Listener> listeners;
  net::Address bound = address;
  for (unsigned index = 0; index < (shared ? 1 : workers_); ++index) {
    Result<net::Listener> listener = net::listen(bound, options);
    if (!listener) return fail(listener.error());
    if (!shared) send_at_once(*listener);
    bound = listener->local_address();
    listeners.push_back(std::move(*listener));
  }
  addresses_.push_back(bound);
  shared_.push_back({std::move(listeners), tls});
  return {};
}

std::vector<std::vector<Listening>> ListenerSet::descriptors() const {
  std::vector<std::vector<Listening>> result(workers_);
  for (const Shared& shared : shared_) {
    for (unsigned index = 0; index < workers_; ++index) {
      const net::Listener& listener = shared.listeners[shared.listeners.size() == 1 ? 0 : index];
      result[index].push_back({listener.fd(), shared.tls});
    }
  }
  return result;
}

}  // namespace evlua::http
