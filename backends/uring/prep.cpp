#include "backends/uring/prep.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>

#include <bit>
#include <cstdint>

#include "backends/uring/buf_ring.h"
#include "backends/uring/features.h"

namespace evlua {
namespace {

std::uint64_t address(const void* pointer) noexcept { return reinterpret_cast<std::uintptr_t>(pointer); }

/// Path operations that name no directory are relative to the working directory.
int directory(const Op& op) noexcept { return op.fd == -1 ? AT_FDCWD : op.fd; }

/// The entry's poll mask has its halves swapped on big-endian machines.
std::uint32_t poll_mask(std::uint32_t events) noexcept {
  return std::endian::native == std::endian::big ? (events << 16) | (events >> 16) : events;
}

void prepare_recv(io_uring_sqe& sqe, const Op& op) noexcept {
  const auto& recv = op.args.recv;
  sqe.opcode = IORING_OP_RECV;
  sqe.msg_flags = static_cast<std::uint32_t>(recv.flags);
  sqe.addr = address(recv.data);
  sqe.len = recv.size;
  if (recv.data == nullptr) {
    sqe.flags = IOSQE_BUFFER_SELECT;
    sqe.buf_group = BufRing::kGroup;
    if (recv.size == 0) sqe.len = BufferSource::kBufferBytes;
  }
}

void prepare_path_op(io_uring_sqe& sqe, const Op& op) noexcept {
  sqe.fd = directory(op);
  switch (op.code) {
    case OpCode::open:
      sqe.opcode = IORING_OP_OPENAT;
      sqe.addr = address(op.args.open.path);
      sqe.len = op.args.open.mode;
      sqe.open_flags = static_cast<std::uint32_t>(op.args.open.flags | O_CLOEXEC);
      return;
    case OpCode::stat:
      sqe.opcode = IORING_OP_STATX;
      sqe.addr = address(op.args.stat.path);
      sqe.off = address(op.args.stat.out);
      sqe.len = STATX_BASIC_STATS | STATX_BTIME;
      sqe.statx_flags = static_cast<std::uint32_t>(op.args.stat.flags);
      return;
    case OpCode::rename:
      sqe.opcode = IORING_OP_RENAMEAT;
      sqe.addr = address(op.args.rename.from);
      sqe.off = address(op.args.rename.to);
      sqe.len = static_cast<std::uint32_t>(directory(op));
      sqe.rename_flags = op.args.rename.flags;
      return;
    case OpCode::unlink:
      sqe.opcode = IORING_OP_UNLINKAT;
      sqe.addr = address(op.args.unlink.path);
      sqe.unlink_flags = static_cast<std::uint32_t>(op.args.unlink.flags);
      return;
    case OpCode::mkdir:
      sqe.opcode = IORING_OP_MKDIRAT;
      sqe.addr = address(op.args.mkdir.path);
      sqe.len = op.args.mkdir.mode;
      return;
    default: EVLUA_UNREACHABLE();
  }
}

void prepare_message(io_uring_sqe& sqe, const Op& op, std::uint8_t opcode, int flags) noexcept {
  sqe.opcode = opcode;
  sqe.addr = address(op.args.message.message);
  sqe.len = 1;
  sqe.msg_flags = static_cast<std::uint32_t>(op.args.message.flags | flags);
}

void prepare_splice(io_uring_sqe& sqe, const Op& op) noexcept {
  const auto& splice = op.args.splice;
  constexpr std::uint64_t kNoOffset = ~std::uint64_t{0};
  const auto offset = static_cast<std::uint64_t>(splice.offset);
  sqe.opcode = IORING_OP_SPLICE;
  sqe.fd = splice.from_pipe ? op.fd : splice.pipe;
  sqe.off = splice.from_pipe ? offset : kNoOffset;
  sqe.splice_fd_in = splice.from_pipe ? splice.pipe : op.fd;
  sqe.splice_off_in = splice.from_pipe ? kNoOffset : offset;
  sqe.len = splice.size;
  sqe.splice_flags = SPLICE_F_NONBLOCK | SPLICE_F_MOVE;
}

}  // namespace

void prepare(io_uring_sqe& sqe, const Op& op) noexcept {
  sqe.fd = op.fd;
  switch (op.code) {
    case OpCode::nop:
      sqe.opcode = IORING_OP_NOP;
      sqe.fd = -1;
      return;
    case OpCode::recv: return prepare_recv(sqe, op);
    case OpCode::recv_rest: break;
    case OpCode::send:
      sqe.opcode = IORING_OP_SEND;
      sqe.addr = address(op.args.send.data);
      sqe.len = op.args.send.size;
      sqe.msg_flags = static_cast<std::uint32_t>(op.args.send.flags | MSG_NOSIGNAL);
      return;
    case OpCode::recvmsg: return prepare_message(sqe, op, IORING_OP_RECVMSG, MSG_CMSG_CLOEXEC);
    case OpCode::sendmsg: return prepare_message(sqe, op, IORING_OP_SENDMSG, MSG_NOSIGNAL);
    case OpCode::accept:
      sqe.opcode = IORING_OP_ACCEPT;
      sqe.addr = address(op.args.accept.address);
      sqe.off = address(op.args.accept.length);
      // Not SOCK_NONBLOCK: the kernel waits for readiness itself.
      sqe.accept_flags = SOCK_CLOEXEC;
      return;
    case OpCode::connect:
      sqe.opcode = IORING_OP_CONNECT;
      sqe.addr = address(op.args.connect.address);
      sqe.off = op.args.connect.length;
      return;
    case OpCode::shutdown:
      sqe.opcode = IORING_OP_SHUTDOWN;
      sqe.len = static_cast<std::uint32_t>(op.args.shutdown.how);
      return;
    case OpCode::close: sqe.opcode = IORING_OP_CLOSE; return;
    case OpCode::poll: return prepare_poll(sqe, op.fd, op.args.poll.events);
    case OpCode::read:
      sqe.opcode = IORING_OP_READ;
      sqe.addr = address(op.args.read.data);
      sqe.len = op.args.read.size;
      sqe.off = static_cast<std::uint64_t>(op.args.read.offset);
      return;
    case OpCode::write:
      sqe.opcode = IORING_OP_WRITE;
      sqe.addr = address(op.args.write.data);
      sqe.len = op.args.write.size;
      sqe.off = static_cast<std::uint64_t>(op.args.write.offset);
      return;
    case OpCode::fsync:
      sqe.opcode = IORING_OP_FSYNC;
      sqe.fsync_flags = op.args.fsync.data_only ? IORING_FSYNC_DATASYNC : 0;
      return;
    case OpCode::truncate:
      sqe.opcode = kOpFtruncate;
      sqe.off = static_cast<std::uint64_t>(op.args.truncate.size);
      return;
    case OpCode::splice: return prepare_splice(sqe, op);
    case OpCode::open:
    case OpCode::stat:
    case OpCode::rename:
    case OpCode::unlink:
    case OpCode::mkdir: return prepare_path_op(sqe, op);
    case OpCode::sleep:
    case OpCode::task:
    case OpCode::resolve:
    case OpCode::protocol: break;  // never reach a backend
  }
  EVLUA_UNREACHABLE();
}

void prepare_readiness(io_uring_sqe& sqe, const Op& op) noexcept {
  prepare_poll(sqe, op.fd, waits_for_reading(op.code) ? POLLIN : POLLOUT);
}

void prepare_poll(io_uring_sqe& sqe, int fd, std::uint32_t events) noexcept {
  sqe.opcode = IORING_OP_POLL_ADD;
  sqe.fd = fd;
  sqe.poll32_events = poll_mask(events);
}

}  // namespace evlua
