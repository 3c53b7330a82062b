// An open socket, owned. Closing without waiting is what the destructor does; a Stream closes with care.
#pragma once

#include <utility>

#include "core/error.h"
#include "net/address.h"

namespace evlua::net {

class Socket {
 public:
  Socket() = default;
  explicit Socket(int fd) noexcept : fd_(fd) {}
  Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Socket& operator=(Socket&& other) noexcept {
    if (this != &other) {
      reset();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  /// REQUIRES: no operation is in flight on it. Closes in the background.
  ~Socket() { reset(); }

  /// A new stream socket of that family, close-on-exec, blocking or not as the worker's backend wants. [worker]
  static Result<Socket> make(int family) noexcept;

  /// Blocking or not as the worker's backend wants; for one that `make` has not made. [worker]
  void set_mode() noexcept;

  /// `type` is the socket's, SOCK_STREAM or SOCK_DGRAM. The file of a Unix socket that nobody has open is replaced.
  Result<void> bind(const Address& address, int type) noexcept;

  int fd() const noexcept { return fd_; }
  bool is_open() const noexcept { return fd_ >= 0; }
  int release() noexcept { return std::exchange(fd_, -1); }
  void reset() noexcept;

  Address local_address() const noexcept;
  Address remote_address() const noexcept;

  /// Sends small packets at once. Does nothing on Unix sockets.
  void set_no_delay() noexcept;

 private:
  int fd_ = -1;
};

}  // namespace evlua::net
