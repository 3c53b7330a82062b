#include "net/datagram.h"

// The order matters: the kernel's header needs what the others declare.
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <linux/errqueue.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <optional>

#include "core/check.h"
#include "core/io_await.h"
#include "core/worker.h"

namespace evlua::net {

namespace {

/// Where a call puts what it receives, one for each thread. Pages that no datagram reached cost nothing.
struct Landing {
  static constexpr unsigned kCount = DatagramSocket::kBatch;
  static constexpr std::size_t kBytes = DatagramSocket::kBytesMax;

  Landing() : bytes(new char[kCount * kBytes]) {
    for (unsigned at = 0; at < kCount; ++at) {
      parts[at] = {bytes.get() + at * kBytes, kBytes};
      messages[at].msg_hdr.msg_iov = &parts[at];
      messages[at].msg_hdr.msg_iovlen = 1;
      messages[at].msg_hdr.msg_name = &names[at];
    }
  }
  /// Datagrams that have come, or -1 with errno.
  int receive(int fd) noexcept {
    for (mmsghdr& message : messages) message.msg_hdr.msg_namelen = sizeof(sockaddr_storage);
    while (true) {
      const int count = ::recvmmsg(fd, messages.data(), kCount, MSG_DONTWAIT, nullptr);
      if (count >= 0 || errno != EINTR) return count;
    }
  }

  std::unique_ptr<char[]> bytes;
  std::array<iovec, kCount> parts{};
  std::array<sockaddr_storage, kCount> names{};
  std::array<mmsghdr, kCount> messages{};
};

Landing& landing() {
  thread_local std::optional<Landing> mine;
  if (!mine) mine.emplace();
  return *mine;
}

}  // namespace

// -- making ---------------------------------------------------------------------------------------------------------

Result<Socket> DatagramSocket::open(int family) noexcept {
  const int mode = Worker::current().backend().capabilities().nonblocking_sockets ? SOCK_NONBLOCK : 0;
  const int fd = ::socket(family, SOCK_DGRAM | SOCK_CLOEXEC | mode, 0);
  if (fd < 0) return fail(errno);
  return Socket(fd);
}

DatagramSocket::~DatagramSocket() {
  if (socket_.is_open() && !unlink_path_.empty()) (void)::unlink(unlink_path_.c_str());
}

int DatagramSocket::socket_family() const noexcept {
  int family = AF_UNSPEC;
  socklen_t size = sizeof family;
  (void)::getsockopt(socket_.fd(), SOL_SOCKET, SO_DOMAIN, &family, &size);
  return family;
}

Result<void> DatagramSocket::bind(const Address& address) {
  const Result<void> bound = socket_.bind(address, SOCK_DGRAM);
  if (!bound) return bound;
  unlink_path_ = address.path();
  return {};
}

Result<void> DatagramSocket::connect(const Address& address) noexcept {
  if (!is_open()) return fail(EBADF, OpCode::connect);
  if (::connect(socket_.fd(), address.get(), address.length()) != 0) return fail(errno, OpCode::connect);
  return {};
}

Result<void> DatagramSocket::disconnect() noexcept {
  if (!is_open()) return fail(EBADF);
  sockaddr nobody{};
  nobody.sa_family = AF_UNSPEC;
  if (::connect(socket_.fd(), &nobody, sizeof nobody) != 0) return fail(errno);
  return {};
}

Result<void> DatagramSocket::change_membership(const Address& group, int interface, int option,
                                               int option_v6) noexcept {
  if (!is_open()) return fail(EBADF);
  if (group.family() != family_) return fail(EAFNOSUPPORT);
  int result = -1;
  if (family_ == AF_INET) {
    ip_mreqn request{};
    request.imr_multiaddr = reinterpret_cast<const sockaddr_in*>(group.get())->sin_addr;
    request.imr_ifindex = interface;
    result = ::setsockopt(socket_.fd(), IPPROTO_IP, option, &request, sizeof request);
  } else {
    ipv6_mreq request{};
    request.ipv6mr_multiaddr = reinterpret_cast<const sockaddr_in6*>(group.get())->sin6_addr;
    request.ipv6mr_interface = static_cast<unsigned>(interface);
    result = ::setsockopt(socket_.fd(), IPPROTO_IPV6, option_v6, &request, sizeof request);
  }
  if (result != 0) return fail(errno);
  return {};
}

Result<void> DatagramSocket::join(const Address& group, int interface) noexcept {
  return change_membership(group, interface, IP_ADD_MEMBERSHIP, IPV6_ADD_MEMBERSHIP);
}

Result<void> DatagramSocket::leave(const Address& group, int interface) noexcept {
  return change_membership(group, interface, IP_DROP_MEMBERSHIP, IPV6_DROP_MEMBERSHIP);
}

// -- receiving ------------------------------------------------------------------------------------------------------

bool DatagramSocket::take(Result<Datagram>& out) noexcept {
  if (queue_ == nullptr || queue_->next == queue_->entries.size()) return false;
  const Queue::Entry& entry = queue_->entries[queue_->next++];
  out = Datagram{std::string_view(queue_->bytes).substr(entry.begin, entry.size), entry.from, entry.truncated};
  return true;
}

/// Receives what is there. False: nothing. REQUIRES: the queue has been emptied.
Result<bool> DatagramSocket::fill() {
  Landing& landed = landing();
  const int count = landed.receive(socket_.fd());
  if (count <= 0) {
    int error = count == 0 ? EAGAIN : errno;
    failed_ = Address();
    if (tells_errors_ && take_error(error)) return fail(error, OpCode::recv);
    if (error == EAGAIN || error == EWOULDBLOCK) return false;
    return fail(error, OpCode::recv);
  }
  if (queue_ == nullptr) queue_ = std::make_unique<Queue>();
  queue_->bytes.clear();
  queue_->entries.clear();
  queue_->next = 0;
  for (unsigned at = 0; at < static_cast<unsigned>(count); ++at) {
    const mmsghdr& message = landed.messages[at];
    const Address from = Address::from(reinterpret_cast<sockaddr*>(&landed.names[at]), message.msg_hdr.msg_namelen);
    const bool truncated = (message.msg_hdr.msg_flags & MSG_TRUNC) != 0;
    queue_->entries.push_back({queue_->bytes.size(), message.msg_len, from, truncated});
    queue_->bytes.append(static_cast<const char*>(landed.parts[at].iov_base), message.msg_len);
  }
  return true;
}

/// Takes what the kernel keeps about a datagram that did not arrive: what went wrong, and where it was sent to.
bool DatagramSocket::take_error(int& error) noexcept {
  sockaddr_storage target{};
  std::array<char, 1> start{};
  iovec part{start.data(), start.size()};
  alignas(cmsghdr) std::array<char, 512> control{};
  msghdr message{};
  message.msg_name = &target;
  message.msg_namelen = sizeof target;
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  if (::recvmsg(socket_.fd(), &message, MSG_ERRQUEUE | MSG_DONTWAIT) < 0) return false;
  for (cmsghdr* item = CMSG_FIRSTHDR(&message); item != nullptr; item = CMSG_NXTHDR(&message, item)) {
    const bool is_four = item->cmsg_level == IPPROTO_IP && item->cmsg_type == IP_RECVERR;
    const bool is_six = item->cmsg_level == IPPROTO_IPV6 && item->cmsg_type == IPV6_RECVERR;
    if (!is_four && !is_six) continue;
    sock_extended_err told{};
    std::memcpy(&told, CMSG_DATA(item), sizeof told);
    error = static_cast<int>(told.ee_errno);
    failed_ = Address::from(reinterpret_cast<sockaddr*>(&target), message.msg_namelen);
    return true;
  }
  return false;
}

bool DatagramSocket::try_receive(Result<Datagram>& out) {
  if (!is_open()) {
    out = fail(EBADF, OpCode::recv);
    return true;
  }
  if (receiving_) {
    out = fail(EBUSY, OpCode::recv);
    return true;
  }
  if (take(out)) return true;
  const Result<bool> filled = fill();
  if (!filled) {
    out = fail(filled.error());
    return true;
  }
  if (*filled) return take(out);
  queue_.reset();
  return false;
}

void DatagramSocket::begin_receive(Op& op, Waiter& waiter) noexcept {
  EVLUA_DCHECK(!receiving_);
  receiving_ = true;
  waiter.op = &op;
  waiters_.push_back(waiter);
  op.args.poll = {POLLIN};
}

bool DatagramSocket::advance_receive(Op& op, Waiter& waiter, Result<void>& out) {
  const std::int32_t polled = op.outcome();
  bool over = true;
  if (closing_) {
    out = fail(ECANCELED, OpCode::recv);
  } else if (polled < 0) {
    out = fail(-polled, OpCode::recv);
  } else {
    const Result<bool> filled = fill();
    over = !filled || *filled;
    if (!filled) out = fail(filled.error());
  }
  if (over) leave(waiter);
  return over;
}

void DatagramSocket::end_receive(const Result<void>& waited, Result<Datagram>& out) {
  receiving_ = false;
  if (!waited) {
    out = fail(waited.error());
  } else if (!is_open() || !take(out)) {
    out = fail(ECANCELED, OpCode::recv);  // closed since then
  }
}

Result<void> DatagramSocket::begin_watch(Op& op, Waiter& waiter) noexcept {
  if (!is_open()) return fail(EBADF, OpCode::recv);
  if (receiving_) return fail(EBUSY, OpCode::recv);
  op.code = OpCode::poll;
  op.fd = socket_.fd();
  begin_receive(op, waiter);
  return {};
}

void DatagramSocket::end_watch(Waiter& waiter) noexcept {
  receiving_ = false;
  leave(waiter);
}

// -- sending --------------------------------------------------------------------------------------------------------

void DatagramSocket::fill_message(msghdr& message, const OutgoingDatagram& datagram) noexcept {
  message = {};
  if (datagram.to.length() != 0) {
    message.msg_name = const_cast<sockaddr*>(datagram.to.get());
    message.msg_namelen = datagram.to.length();
  }
  message.msg_iov = const_cast<iovec*>(&datagram.bytes);
  message.msg_iovlen = 1;
}

Result<unsigned> DatagramSocket::try_send(const OutgoingDatagram* datagrams, unsigned count) noexcept {
  if (!is_open()) return fail(EBADF, OpCode::send);
  std::array<mmsghdr, kBatch> messages;
  unsigned sent = 0;
  // What the kernel says about earlier datagrams is a receive's to tell, where receives tell it.
  int others = tells_errors_ ? 4 : 0;
  while (sent < count) {
    const unsigned some = std::min(count - sent, kBatch);
    for (unsigned at = 0; at < some; ++at) {
      messages[at].msg_len = 0;
      fill_message(messages[at].msg_hdr, datagrams[sent + at]);
    }
    const int done = ::sendmmsg(socket_.fd(), messages.data(), some, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (done > 0) {
      sent += static_cast<unsigned>(done);
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      break;
    } else if (errno != EINTR && others-- <= 0) {
      if (sent == 0) return fail(errno, OpCode::send);
      break;  // told when it is tried again
    }
  }
  return sent;
}

void DatagramSocket::begin_send(Op& op, Waiter& waiter, msghdr& message) noexcept {
  waiter.op = &op;
  waiters_.push_back(waiter);
  op.args.message = {&message, 0};
}

Result<void> DatagramSocket::end_send(const Op& op, Waiter& waiter) noexcept {
  const std::int32_t sent = op.outcome();
  const bool closing = closing_;
  leave(waiter);
  if (sent >= 0) return {};
  return fail(closing ? ECANCELED : -sent, OpCode::send);
}

// -- the end --------------------------------------------------------------------------------------------------------

void DatagramSocket::leave(Waiter& waiter) noexcept {
  List<Waiter>::erase(waiter);
  if (all_left_ != nullptr && waiters_.empty()) all_left_->set();
}

Task<void> DatagramSocket::close() {
  if (!is_open()) co_return;
  closing_ = true;
  if (!waiters_.empty()) {
    Event left;
    all_left_ = &left;
    waiters_.for_each([](Waiter& waiter) { Worker::cancel(*waiter.op); });
    (void)co_await left.wait();
    all_left_ = nullptr;
  }
  queue_.reset();
  if (!unlink_path_.empty()) (void)::unlink(unlink_path_.c_str());
  const int fd = socket_.release();
  (void)co_await io::close(fd);
}

}  // namespace evlua::net
