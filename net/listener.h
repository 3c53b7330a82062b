// A listening socket.
#pragma once

#include <string>

#include "core/event.h"
#include "core/task.h"
#include "net/socket.h"

namespace evlua::net {

struct ListenOptions {
  bool reuse_port = false;  ///< SO_REUSEPORT: several listeners share the port, the kernel spreads connections
  int backlog = 1024;
};

/// Used from one strand or chain of tasks at a time.
class Listener {
 public:
  Listener(Socket socket, std::string unlink_path);
  Listener(Listener&&) = default;
  Listener& operator=(Listener&&) = delete;  // the socket file of the old one would stay
  /// Closes in the background, and removes the file of a Unix socket.
  ~Listener();

  /// The next connection. A lack of descriptors or memory is waited out, with growing pauses; connections that died
  /// in the queue are skipped. ECANCELED once `close` was called; EBUSY when somebody accepts already.
  Task<Result<Socket>> accept(Instant deadline = kNever);

  /// For a caller that waits for a connection to be there, without taking it: `op` is to be submitted. It counts as an
  /// accept, until end_watch.
  Result<void> begin_watch(Op& op) noexcept;
  void end_watch() noexcept;

  /// Ends an accept in progress, waits for it, closes. Calling it again does nothing.
  Task<void> close();

  /// The file of a Unix socket stays: somebody else listens on it, too.
  void leave_file() noexcept { unlink_path_.clear(); }

  bool is_open() const noexcept { return socket_.is_open() && !closing_; }
  Address local_address() const noexcept { return socket_.local_address(); }
  int fd() const noexcept { return socket_.fd(); }

 private:
  Socket socket_;
  std::string unlink_path_;
  Op* accepting_ = nullptr;
  bool busy_ = false;
  bool closing_ = false;
  std::unique_ptr<Event> idle_ = std::make_unique<Event>();
};

/// A socket that listens already. [worker]
Listener adopt_listener(int fd);

/// Binds and listens. A Unix socket file that nobody answers on is replaced. [worker]
Result<Listener> listen(const Address& address, const ListenOptions& options);

}  // namespace evlua::net
