// A socket whose calls never wait: what would have to wait says EAGAIN. The caller then waits until it is ready (a poll
// operation) and calls again. For those who want the system's sockets as they are; a Stream does more.
//
// Used from one strand: no locks. Any number may wait for it; close and release end their waits.
#pragma once

#include <cstdint>

#include "core/error.h"
#include "core/intrusive.h"
#include "core/op.h"
#include "net/address.h"

namespace evlua::net {

class PlainSocket {
 public:
  /// A wait in progress.
  struct Waiter : ListNode {
    Op* op = nullptr;
    bool dismissed = false;  ///< the socket was closed or released meanwhile
    bool closes = false;     ///< of the socket's own descriptor: the last of those who wait is to close it
  };

  PlainSocket() = default;
  PlainSocket(const PlainSocket&) = delete;
  PlainSocket& operator=(const PlainSocket&) = delete;
  /// REQUIRES: nobody waits.
  ~PlainSocket() { close(); }

  /// A new descriptor, in place of the one that may be there.
  Result<void> open(int family, int type) noexcept;
  /// Takes a descriptor, in place of the one that may be there.
  void adopt(int fd) noexcept;
  /// Gives the descriptor away; -1 if there is none.
  int release() noexcept;
  /// Closes in the background. Calling it again does nothing.
  void close() noexcept;
  /// For a caller who closes by himself: what there is to close, or -1. Those who wait come first, where there are any,
  /// and the last of them closes.
  int detach() noexcept;

  bool is_open() const noexcept { return fd_ >= 0; }
  int fd() const noexcept { return fd_; }

  Result<void> bind(const Address& address) noexcept;
  Result<void> listen(int backlog) noexcept;
  /// EINPROGRESS: wait until it is writable, then ask for pending_error. Without a family: takes an earlier one back.
  Result<void> connect(const Address& address) noexcept;
  /// What has gone wrong since it was asked the last time.
  Result<void> pending_error() noexcept;
  Result<int> accept() noexcept;
  Result<std::uint32_t> receive(void* data, std::uint32_t size, Address* from = nullptr) noexcept;
  /// `to` null: to whom it is connected.
  Result<std::uint32_t> send(const void* data, std::uint32_t size, const Address* to = nullptr) noexcept;

  /// `op` is a poll of `fd`, or of a set with `fd` in it, and about to be submitted.
  void enter(Waiter& waiter, Op& op) noexcept;
  /// `op` is over.
  void leave(Waiter& waiter) noexcept;

 private:
  void dismiss_waiters() noexcept;

  int fd_ = -1;
  List<Waiter> waiters_;
};

}  // namespace evlua::net
