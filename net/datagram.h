// A socket for datagrams: UDP over IPv4 and IPv6, or Unix-domain.
//
// Used from one strand or one chain of tasks at a time: no locks. Any number may wait to send, one to receive; a second
// gets EBUSY. What is there is received many at a time, and kept for the receives that follow: an idle socket holds no
// memory for it. All of this runs the calls itself, as they wait for nothing; only where one must wait is there an
// operation (a poll, or a sendmsg).
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/event.h"
#include "core/intrusive.h"
#include "core/op.h"
#include "core/task.h"
#include "net/socket.h"

namespace evlua::net {

struct Datagram {
  std::string_view bytes;
  Address from;
  bool truncated = false;  ///< it was longer
};

/// One to be sent; `to` without a family: to whom the socket is connected.
struct OutgoingDatagram {
  iovec bytes;
  Address to;
};

class DatagramSocket {
 public:
  /// A longer one is truncated; none of UDP is.
  static constexpr std::size_t kBytesMax = 65536;
  /// That many are sent or received by one call.
  static constexpr unsigned kBatch = 32;

  /// An operation in progress, which close ends.
  struct Waiter : ListNode {
    Op* op = nullptr;
  };

  explicit DatagramSocket(Socket socket) noexcept : socket_(std::move(socket)), family_(socket_family()) {}
  DatagramSocket(const DatagramSocket&) = delete;
  DatagramSocket& operator=(const DatagramSocket&) = delete;
  /// Closes in the background, and removes the file of a Unix socket.
  ~DatagramSocket();

  /// A socket that is not bound. [worker]
  static Result<Socket> open(int family) noexcept;
  /// A Unix socket file that nobody has open is replaced. A Unix address without a path: any free name.
  Result<void> bind(const Address& address);
  /// From now on datagrams are sent to, and received from, that address only.
  Result<void> connect(const Address& address) noexcept;
  Result<void> disconnect() noexcept;
  /// `interface` is an index; 0 lets the system choose.
  Result<void> join(const Address& group, int interface) noexcept;
  Result<void> leave(const Address& group, int interface) noexcept;
  /// Whether receives tell what network and peers said about datagrams that were sent from a socket that is not
  /// connected. (The option has been set on the socket.)
  void tell_errors(bool tell) noexcept { tells_errors_ = tell; }

  /// Takes a datagram that is there: true, with it or an error in `out`. Its bytes stay valid until the next receive.
  bool try_receive(Result<Datagram>& out);
  /// After that was false, `op` is to be submitted.
  void begin_receive(Op& op, Waiter& waiter) noexcept;
  /// Takes the result of `op`. True: the wait is over, and end_receive must be called; false: submit `op` again.
  bool advance_receive(Op& op, Waiter& waiter, Result<void>& out);
  /// For a caller that waits until there is something to receive, without taking it: `op` is to be submitted. It counts
  /// as a receive, until end_watch.
  Result<void> begin_watch(Op& op, Waiter& waiter) noexcept;
  void end_watch(Waiter& waiter) noexcept;
  /// A receive would not have to wait. What the kernel has does not count.
  bool readable() const noexcept {
    return !is_open() || receiving_ || (queue_ != nullptr && queue_->next < queue_->entries.size());
  }
  /// The datagram that the wait was for, or why it has ended without.
  void end_receive(const Result<void>& waited, Result<Datagram>& out);
  /// Whom the latest failed receive was about; without a family if that is not known.
  const Address& failed() const noexcept { return failed_; }

  /// Sends as many as go without waiting: their number, or the error of the first. 0: it must wait.
  Result<unsigned> try_send(const OutgoingDatagram* datagrams, unsigned count) noexcept;
  /// `op` sends `message` and is to be submitted.
  void begin_send(Op& op, Waiter& waiter, msghdr& message) noexcept;
  /// The result of `op`.
  Result<void> end_send(const Op& op, Waiter& waiter) noexcept;
  /// Points `message` to the datagram, which must stay where it is.
  static void fill_message(msghdr& message, const OutgoingDatagram& datagram) noexcept;

  /// The file of a Unix socket stays: somebody else has the socket, too.
  void leave_file() noexcept { unlink_path_.clear(); }

  /// Ends what is in progress with ECANCELED, waits for it, closes. Calling it again does nothing.
  Task<void> close();

  bool is_open() const noexcept { return socket_.is_open() && !closing_; }
  int family() const noexcept { return family_; }
  const Socket& socket() const noexcept { return socket_; }

 private:
  struct Queue {
    struct Entry {
      std::size_t begin;
      std::size_t size;
      Address from;
      bool truncated;
    };
    std::string bytes;
    std::vector<Entry> entries;
    std::size_t next = 0;
  };

  int socket_family() const noexcept;
  bool take(Result<Datagram>& out) noexcept;
  Result<bool> fill();
  bool take_error(int& error) noexcept;
  Result<void> change_membership(const Address& group, int interface, int option, int option_v6) noexcept;
  void leave(Waiter& waiter) noexcept;

  Socket socket_;
  int family_;
  std::string unlink_path_;
  std::unique_ptr<Queue> queue_;
  Address failed_;
  List<Waiter> waiters_;
  bool receiving_ = false;
  bool tells_errors_ = false;
  bool closing_ = false;
  Event* all_left_ = nullptr;  // close waits on it
};

}  // namespace evlua::net
