// Operation to effect: the simulator's counterpart of the system calls.
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "backends/sim/state.h"
#include "core/buffer.h"
#include "core/check.h"

namespace evlua {
namespace {

constexpr std::int64_t kFileBytesMax = std::int64_t{1} << 30;

bool reads(int flags) noexcept { return (flags & O_ACCMODE) != O_WRONLY; }
bool writes(int flags) noexcept { return (flags & O_ACCMODE) != O_RDONLY; }

// -- streams --------------------------------------------------------------------------------------------------------

/// Whether a receive can end, and with what when not with bytes: kSimBlocked, 0 at the end, or an error. 1: bytes.
std::int32_t may_receive(SimFile& file) noexcept {
  if (file.kind != SimFile::Kind::stream) return -ENOTSOCK;
  if (file.in == nullptr) return file.node != nullptr ? -EBADF : -ENOTCONN;
  SimChannel& channel = *file.in;
  if (channel.size() != 0) return 1;
  if (channel.was_reset) {
    channel.was_reset = false;
    return -ECONNRESET;
  }
  // A FIFO's writer counts from the moment it begins to open.
  const bool ended = channel.is_broken || channel.writers + channel.opening_writers == 0;
  return file.is_shut || ended ? 0 : kSimBlocked;
}

std::int32_t may_send(SimFile& file) noexcept {
  if (file.kind != SimFile::Kind::stream) return -ENOTSOCK;
  if (file.out == nullptr) return file.node != nullptr ? -EBADF : -ENOTCONN;
  SimChannel& channel = *file.out;
  const bool is_unread = channel.readers + channel.opening_readers == 0;
  if (file.wrote_end || channel.is_broken || is_unread) return -EPIPE;
  return channel.space() == 0 ? kSimBlocked : 1;
}

std::int32_t receive(SimState& state, SimFile& file, const iovec* parts, std::size_t count, int flags) noexcept {
  const std::int32_t allowed = may_receive(file);
  if (allowed != 1) return allowed;
  std::uint64_t room = 0;
  for (std::size_t i = 0; i < count; ++i) room += parts[i].iov_len;
  const std::uint32_t limit = state.shorten(std::min<std::uint64_t>(room, file.in->size()));
  const bool peek = (flags & MSG_PEEK) != 0;
  std::uint32_t moved = 0;
  for (std::size_t i = 0; i < count && moved < limit; ++i) {
    const std::size_t want = std::min<std::size_t>(parts[i].iov_len, limit - moved);
    moved += static_cast<std::uint32_t>(file.in->read(parts[i].iov_base, want, peek));
    if (peek) break;  // enough for a peek
  }
  if (!peek) state.changed(*file.in);
  return static_cast<std::int32_t>(moved);
}

std::int32_t send(SimState& state, SimFile& file, const iovec* parts, std::size_t count) {
  const std::int32_t allowed = may_send(file);
  if (allowed != 1) return allowed;
  std::uint64_t size = 0;
  for (std::size_t i = 0; i < count; ++i) size += parts[i].iov_len;
  const std::uint32_t limit = state.shorten(std::min<std::uint64_t>(size, file.out->space()));
  std::uint32_t moved = 0;
  for (std::size_t i = 0; i < count && moved < limit; ++i) {
    const std::size_t amount = std::min<std::size_t>(parts[i].iov_len, limit - moved);
    file.out->write(parts[i].iov_base, amount);
    moved += static_cast<std::uint32_t>(amount);
  }
  state.changed(*file.out);
  return static_cast<std::int32_t>(moved);
}

std::int32_t recv(SimState& state, SimFlight& flight, SimLend lend, void* context) noexcept {
  Op& op = *flight.op;
  auto& args = op.args.recv;
  iovec part{args.data, args.size};
  if (args.data == nullptr) {
    // Only once there is data: a receive that waits owns no buffer.
    const std::int32_t allowed = may_receive(*flight.file);
    if (allowed != 1) return allowed;
    if (!lend(context, op)) return -ENOMEM;
    part.iov_base = args.data;
    part.iov_len = args.size == 0 ? BufferSource::kBufferBytes : std::min(args.size, BufferSource::kBufferBytes);
  } else if (args.size == 0) {
    return 0;
  }
  return receive(state, *flight.file, &part, 1, args.flags);
}

// -- connections ----------------------------------------------------------------------------------------------------

void fill_peer(const SimFile& file, sockaddr* address, socklen_t* length) noexcept {
  if (address == nullptr || length == nullptr) return;
  sockaddr_storage peer{};
  socklen_t size = sizeof(sa_family_t);
  std::memcpy(&peer.ss_family, file.address.data(), std::min<std::size_t>(file.address.size(), sizeof(sa_family_t)));
  if (peer.ss_family == AF_INET) {
    auto& inet = reinterpret_cast<sockaddr_in&>(peer);
    inet.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    inet.sin_port = htons(static_cast<std::uint16_t>(32768 + file.position % 28000));
    size = sizeof(sockaddr_in);
  } else if (peer.ss_family == AF_INET6) {
    auto& inet = reinterpret_cast<sockaddr_in6&>(peer);
    inet.sin6_addr = in6addr_loopback;
    inet.sin6_port = htons(static_cast<std::uint16_t>(32768 + file.position % 28000));
    size = sizeof(sockaddr_in6);
  }
  std::memcpy(address, &peer, std::min(*length, size));
  *length = size;
}

std::int32_t accept(SimState& state, SimFile& listener, const Op& op) {
  if (listener.kind != SimFile::Kind::listener || listener.is_shut) return -EINVAL;
  if (listener.arrivals.empty()) return kSimBlocked;
  if (!state.may_open()) return -EMFILE;
  const SimFilePointer accepted = std::move(listener.arrivals.front());
  listener.arrivals.pop_front();
  fill_peer(*accepted, op.args.accept.address, op.args.accept.length);
  return state.add(accepted);
}

std::int32_t connect(SimState& state, SimFile& file, const Op& op) {
  if (file.kind != SimFile::Kind::stream) return -EINVAL;
  if (file.in != nullptr) return -EISCONN;
  const auto found = state.listeners.find(sim_address_key(op.args.connect.address, op.args.connect.length));
  if (found == state.listeners.end() || found->second->is_shut) return -ECONNREFUSED;
  SimFile& listener = *found->second;
  if (listener.arrivals.size() >= listener.backlog) return -ECONNREFUSED;
  const auto arrival = std::make_shared<SimFile>(state, SimFile::Kind::stream);
  arrival->address = listener.address;
  arrival->position = static_cast<std::int64_t>(state.next_event);  // makes its peer's port
  state.connect(file, *arrival);
  listener.arrivals.push_back(arrival);
  state.changed(listener);
  return 0;
}

std::uint32_t readiness(SimFile& file) noexcept {
  if (file.kind == SimFile::Kind::node) return POLLIN | POLLOUT;
  if (file.kind == SimFile::Kind::listener) return file.arrivals.empty() ? 0 : POLLIN;
  std::uint32_t events = 0;
  const bool ended = file.in != nullptr && (file.in->writers == 0 || file.in->is_broken);
  if (file.in != nullptr && (file.in->size() != 0 || ended || file.is_shut)) events |= POLLIN;
  if (ended || file.is_shut) events |= POLLRDHUP;
  if (file.out != nullptr && may_send(file) != kSimBlocked) events |= POLLOUT;
  if (ended && (file.out == nullptr || may_send(file) == -EPIPE)) events |= POLLHUP;
  if (file.in == nullptr && file.out == nullptr) events |= POLLOUT | POLLHUP;
  if (file.in != nullptr && file.in->was_reset) events |= POLLERR;
  return events;
}

std::int32_t poll(SimFile& file, std::uint32_t wanted) noexcept {
  const std::uint32_t events = readiness(file) & (wanted | POLLERR | POLLHUP);
  return events == 0 ? kSimBlocked : static_cast<std::int32_t>(events);
}

// -- files ----------------------------------------------------------------------------------------------------------

std::int32_t read(SimState& state, SimFile& file, const Op& op) noexcept {
  const auto& args = op.args.read;
  if (file.kind == SimFile::Kind::listener) return -EINVAL;
  if (file.kind == SimFile::Kind::stream) {
    const iovec part{args.data, args.size};
    return args.size == 0 ? 0 : receive(state, file, &part, 1, 0);
  }
  if (!reads(file.flags)) return -EBADF;
  if (file.node->is_directory()) return -EISDIR;
  if (args.offset < -1) return -EINVAL;
  const std::int64_t from = args.offset == -1 ? file.position : args.offset;
  const auto length = static_cast<std::int64_t>(file.node->data.size());
  if (from >= length) return 0;
  const std::uint32_t count =
      state.shorten(std::min<std::uint64_t>(args.size, static_cast<std::uint64_t>(length - from)));
  std::memcpy(args.data, file.node->data.data() + from, count);
  if (args.offset == -1) file.position += count;
  return static_cast<std::int32_t>(count);
}

std::int32_t write(SimState& state, SimFile& file, const Op& op) {
  const auto& args = op.args.write;
  if (file.kind == SimFile::Kind::listener) return -EINVAL;
  if (file.kind == SimFile::Kind::stream) {
    const iovec part{const_cast<void*>(args.data), args.size};
    return args.size == 0 ? 0 : send(state, file, &part, 1);
  }
  if (!writes(file.flags)) return -EBADF;
  if (args.offset < -1) return -EINVAL;
  std::string& data = file.node->data;
  std::int64_t at = args.offset == -1 ? file.position : args.offset;
  if ((file.flags & O_APPEND) != 0) at = static_cast<std::int64_t>(data.size());
  if (at >= kFileBytesMax) return -EFBIG;
  const std::uint32_t count =
      state.shorten(std::min<std::uint64_t>(args.size, static_cast<std::uint64_t>(kFileBytesMax - at)));
  const auto end = static_cast<std::size_t>(at) + count;
  if (data.size() < end) data.resize(end);
  std::memcpy(data.data() + at, args.data, count);
  if (args.offset == -1) file.position = at + count;
  state.tree.touch(*file.node);
  return static_cast<std::int32_t>(count);
}

std::int32_t truncate(SimState& state, SimFile& file, std::int64_t size) {
  if (file.kind != SimFile::Kind::node || !writes(file.flags) || size < 0) return -EINVAL;
  if (size > kFileBytesMax) return -EFBIG;
  file.node->data.resize(static_cast<std::size_t>(size));
  state.tree.touch(*file.node);
  return 0;
}

std::int32_t fsync(const SimFile& file) noexcept { return file.kind == SimFile::Kind::node ? 0 : -EINVAL; }

// -- paths ----------------------------------------------------------------------------------------------------------

/// Where relative paths of `flight` begin.
std::int32_t base_of(SimState& state, const SimFlight& flight, SimNodePointer& base) {
  base = state.tree.root();
  if (flight.op->fd == AT_FDCWD || flight.op->fd == -1) return 0;
  if (flight.file == nullptr) return -EBADF;
  base = flight.file->node;
  return base != nullptr && flight.file->kind == SimFile::Kind::node ? 0 : -ENOTDIR;
}

/// A FIFO's open ends when the other side is open, too, or is being opened.
std::int32_t open_fifo(SimState& state, SimFlight& flight, const SimNodePointer& node, int flags) {
  if (node->channel == nullptr) node->channel = std::make_shared<SimChannel>(state.faults.channel_bytes);
  const SimChannelPointer& channel = node->channel;
  const bool both = reads(flags) && writes(flags);
  const bool met =
      reads(flags) ? channel->writers + channel->opening_writers > 0 : channel->readers + channel->opening_readers > 0;
  if (!both && !met && (flags & O_NONBLOCK) != 0 && writes(flags)) return -ENXIO;
  if (!both && !met && (flags & O_NONBLOCK) == 0) {
    if (flight.opening != nullptr) return kSimBlocked;
    flight.opening = std::make_shared<SimFile>(state, SimFile::Kind::opening);
    SimFile& opening = *flight.opening;
    (reads(flags) ? opening.in : opening.out) = channel;
    ++(reads(flags) ? channel->opening_readers : channel->opening_writers);
    channel->watched.push_back(&opening);
    opening.waiting.push_back(&flight);
    state.changed(*channel);
    return kSimBlocked;
  }
  if (!state.may_open()) return -EMFILE;
  const auto file = std::make_shared<SimFile>(state, SimFile::Kind::stream);
  file->node = node;
  file->flags = flags;
  file->attach(reads(flags) ? channel : nullptr, writes(flags) ? channel : nullptr);
  state.changed(*channel);
  return state.add(file);
}

std::int32_t open(SimState& state, SimFlight& flight) {
  const auto& args = flight.op->args.open;
  SimNodePointer base;
  if (const std::int32_t error = base_of(state, flight, base); error != 0) return error;
  if (!state.may_open()) return -EMFILE;
  SimNodePointer node;
  if (const int error = state.tree.open(base, args.path, args.flags, args.mode, node); error != 0) return error;
  if (node->kind == SimNode::Kind::fifo) return open_fifo(state, flight, node, args.flags);
  const auto file = std::make_shared<SimFile>(state, SimFile::Kind::node);
  file->node = std::move(node);
  file->flags = args.flags;
  return state.add(file);
}

std::int32_t stat(SimState& state, const SimFlight& flight) {
  const auto& args = flight.op->args.stat;
  if (args.path[0] == '\0' && (args.flags & AT_EMPTY_PATH) != 0) {
    if (flight.op->fd == AT_FDCWD || flight.op->fd == -1) {
      SimTree::fill(*state.tree.root(), *args.out);
    } else if (flight.file == nullptr) {
      return -EBADF;
    } else if (flight.file->node != nullptr) {
      SimTree::fill(*flight.file->node, *args.out);
    } else {
      *args.out = {};
      args.out->stx_mask = STATX_TYPE | STATX_MODE;
      args.out->stx_mode = S_IFSOCK | 0777;
    }
    return 0;
  }
  SimNodePointer base;
  if (const std::int32_t error = base_of(state, flight, base); error != 0) return error;
  SimNodePointer node;
  if (const int error = state.tree.find(base, args.path, node); error != 0) return error;
  SimTree::fill(*node, *args.out);
  return 0;
}

std::int32_t change_tree(SimState& state, const SimFlight& flight) {
  SimNodePointer base;
  if (const std::int32_t error = base_of(state, flight, base); error != 0) return error;
  const OpArgs& args = flight.op->args;
  switch (flight.op->code) {
    case OpCode::rename: return state.tree.rename(base, args.rename.from, args.rename.to, args.rename.flags);
    case OpCode::unlink: return state.tree.unlink(base, args.unlink.path, args.unlink.flags);
    default: return state.tree.make(base, args.mkdir.path, SimNode::Kind::directory, args.mkdir.mode);
  }
}

}  // namespace

std::int32_t sim_shut_down(SimState& state, SimFile& file, int how) noexcept {
  if (file.kind == SimFile::Kind::node || file.node != nullptr) return -ENOTSOCK;
  if (file.kind == SimFile::Kind::stream && file.in == nullptr) return -ENOTCONN;
  if (how != SHUT_WR) file.is_shut = true;
  if (how != SHUT_RD) file.end_writing();
  state.changed(file);
  return 0;
}

std::int32_t sim_perform(SimState& state, SimFlight& flight, SimLend lend, void* context) {
  Op& op = *flight.op;
  const OpArgs& args = op.args;
  switch (op.code) {
    case OpCode::nop: return 0;
    case OpCode::recv_rest: return 0;
    case OpCode::accept: return accept(state, *flight.file, op);
    case OpCode::connect: return connect(state, *flight.file, op);
    case OpCode::recv: return recv(state, flight, lend, context);
    case OpCode::send: {
      const iovec part{const_cast<void*>(args.send.data), args.send.size};
      return args.send.size == 0 ? 0 : send(state, *flight.file, &part, 1);
    }
    case OpCode::recvmsg: {
      msghdr& message = *args.message.message;
      message.msg_namelen = 0;
      message.msg_controllen = 0;
      message.msg_flags = 0;
      return receive(state, *flight.file, message.msg_iov, message.msg_iovlen, args.message.flags);
    }
    case OpCode::sendmsg:
      return send(state, *flight.file, args.message.message->msg_iov, args.message.message->msg_iovlen);
    case OpCode::shutdown: return sim_shut_down(state, *flight.file, args.shutdown.how);
    case OpCode::close: return state.close(op.fd);
    case OpCode::poll: return poll(*flight.file, args.poll.events);
    case OpCode::open: return open(state, flight);
    case OpCode::read: return read(state, *flight.file, op);
    case OpCode::write: return write(state, *flight.file, op);
    case OpCode::fsync: return fsync(*flight.file);
    case OpCode::truncate: return truncate(state, *flight.file, args.truncate.size);
    case OpCode::splice: return -EINVAL;  // as of a file system that cannot; there are no pipes of ours here
    case OpCode::stat: return stat(state, flight);
    case OpCode::rename:
    case OpCode::unlink:
    case OpCode::mkdir: return change_tree(state, flight);
    case OpCode::sleep:
    case OpCode::task:
    case OpCode::resolve:
    case OpCode::protocol: break;  // never reach a backend
  }
  EVLUA_UNREACHABLE();
}

}  // namespace evlua
