#include "net/descriptors.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "core/io_await.h"

namespace evlua::net {

namespace {

// Room for more than one, so that it is told when a peer sends several.
constexpr std::size_t kDescriptorsMax = 4;

bool is_unix(const Stream& stream) noexcept { return !stream.is_pipe() && stream.socket().local_address().is_unix(); }

/// A message with its one descriptor.
struct Outgoing {
  Outgoing(int fd, std::string_view data) noexcept : part{const_cast<char*>(data.data()), data.size()} {
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof fd);
    std::memcpy(CMSG_DATA(head), &fd, sizeof fd);
  }
  Outgoing(const Outgoing&) = delete;
  Outgoing& operator=(const Outgoing&) = delete;

  iovec part;
  msghdr message{};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
};

/// Where a message and its descriptors are received.
struct Incoming {
  Incoming() noexcept : part{data.data(), data.size()} {
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
  }
  Incoming(const Incoming&) = delete;
  Incoming& operator=(const Incoming&) = delete;

  std::array<char, kDescriptorDataMax> data;
  iovec part;
  msghdr message{};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kDescriptorsMax * sizeof(int))> control{};
};

/// Takes what has come, so that from now on somebody closes it; the number of them.
std::size_t take_descriptors(msghdr& message, std::array<Socket, kDescriptorsMax>& taken) noexcept {
  std::size_t count = 0;
  for (cmsghdr* head = CMSG_FIRSTHDR(&message); head != nullptr; head = CMSG_NXTHDR(&message, head)) {
    if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t bytes = head->cmsg_len - CMSG_LEN(0);
    for (std::size_t at = 0; at + sizeof(int) <= bytes; at += sizeof(int)) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(head) + at, sizeof fd);
      if (count < taken.size()) {
        taken[count++] = Socket(fd);
      } else {
        ::close(fd);
      }
    }
  }
  return count;
}

/// What a message was, apart from its bytes.
Result<Socket> the_descriptor(msghdr& message) noexcept {
  std::array<Socket, kDescriptorsMax> taken;
  const std::size_t count = take_descriptors(message, taken);
  if ((message.msg_flags & MSG_CTRUNC) != 0 || count > 1) return fail(EMSGSIZE, OpCode::recvmsg);
  if (count == 0) return fail(ENOMSG, OpCode::recvmsg);
  return std::move(taken[0]);
}

}  // namespace

Task<Result<void>> send_descriptor(Stream& stream, int fd, std::string_view data, Instant deadline) {
  if (!stream.is_open()) co_return fail(EBADF, OpCode::sendmsg);
  if (!is_unix(stream)) co_return fail(EOPNOTSUPP, OpCode::sendmsg);
  // A copy, since whoever has `fd` may close it while we wait for room, and another one get its number.
  const Socket copy(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!copy.is_open()) co_return fail(errno, OpCode::sendmsg);
  Outgoing outgoing(copy.fd(), data);
  IoAwait op(OpCode::sendmsg, stream.socket().fd(), OpArgs{.message = {&outgoing.message, 0}});
  op.until(deadline);
  const Result<void> held = stream.hold_writing(op);
  if (!held) co_return held;
  const Result<std::int32_t> sent = co_await op;
  const bool closed = !stream.is_open();
  stream.release_writing();
  if (closed) co_return fail(ECANCELED, OpCode::sendmsg);
  if (!sent) co_return fail(sent.error());
  data.remove_prefix(static_cast<std::size_t>(*sent));
  if (data.empty()) co_return Result<void>();
  const Result<void> rest = co_await stream.write(data, deadline);  // the descriptor went with the first byte
  co_return rest;
}

Task<Result<ReceivedDescriptor>> receive_descriptor(Stream& stream, Instant deadline) {
  if (!stream.is_open()) co_return fail(EBADF, OpCode::recvmsg);
  if (!is_unix(stream)) co_return fail(EOPNOTSUPP, OpCode::recvmsg);
  if (stream.buffered() > 0) co_return fail(ENOMSG, OpCode::recvmsg);
  if (stream.at_end()) co_return fail(Errc::end_of_file, OpCode::recvmsg);
  Incoming incoming;
  IoAwait op(OpCode::recvmsg, stream.socket().fd(), OpArgs{.message = {&incoming.message, 0}});
  op.until(deadline);
  const Result<void> held = stream.hold_reading(op);
  if (!held) co_return fail(held.error());
  const Result<std::int32_t> got = co_await op;
  const bool closed = !stream.is_open();
  ReceivedDescriptor received;
  Result<Socket> descriptor = fail(ECANCELED, OpCode::recvmsg);
  if (got) descriptor = the_descriptor(incoming.message);
  if (got && *got == 0) stream.note_end();
  const std::string_view data(incoming.data.data(), got ? static_cast<std::size_t>(*got) : 0);
  if (!closed && !descriptor) stream.put_back(data);
  stream.release_reading();
  if (closed) co_return fail(ECANCELED, OpCode::recvmsg);
  if (!got) co_return fail(got.error());
  if (*got == 0) co_return fail(Errc::end_of_file, OpCode::recvmsg);
  if (!descriptor) co_return fail(descriptor.error());
  received.descriptor = std::move(*descriptor);
  received.data = data;
  co_return received;
}

}  // namespace evlua::net
