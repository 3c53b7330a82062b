// The kinds of operation a backend can carry out, and what is true of each kind.
#pragma once

#include <cstdint>

namespace evlua {

enum class OpCode : std::uint8_t {
  nop,
  sleep,  ///< ends at its deadline with 0; never reaches a backend
  accept,
  connect,
  recv,
  recv_rest,  ///< ends receiving ahead; see Backend
  send,
  sendmsg,
  recvmsg,
  shutdown,
  close,
  poll,  ///< waits for readiness once; the result is the revents mask
  open,
  read,
  write,
  fsync,
  truncate,
  splice,  ///< between a file and a pipe of ours; always made by a thread that may block on the file
  stat,
  rename,
  unlink,
  mkdir,
  task,  ///< no operation: names errors that come from waiting for a task, a lock or a channel
  resolve,
  protocol,
};

/// Lower-case name for messages: "connect".
constexpr const char* name_of(OpCode code) noexcept {
  switch (code) {
    case OpCode::nop: return "nop";
    case OpCode::sleep: return "sleep";
    case OpCode::accept: return "accept";
    case OpCode::connect: return "connect";
    case OpCode::recv: return "receive";
    case OpCode::recv_rest: return "receive";
    case OpCode::send: return "send";
    case OpCode::sendmsg: return "send";
    case OpCode::recvmsg: return "receive";
    case OpCode::shutdown: return "shutdown";
    case OpCode::close: return "close";
    case OpCode::poll: return "poll";
    case OpCode::open: return "open";
    case OpCode::read: return "read";
    case OpCode::write: return "write";
    case OpCode::fsync: return "fsync";
    case OpCode::truncate: return "truncate";
    case OpCode::splice: return "splice";
    case OpCode::stat: return "stat";
    case OpCode::rename: return "rename";
    case OpCode::unlink: return "remove";
    case OpCode::mkdir: return "mkdir";
    case OpCode::task: return "task";
    case OpCode::resolve: return "resolve";
    case OpCode::protocol: return "protocol";
  }
  return "?";
}

/// The result is a descriptor that must be closed when nobody takes it.
constexpr bool returns_descriptor(OpCode code) noexcept { return code == OpCode::accept || code == OpCode::open; }

/// Works on a path; a readiness backend must give it to the blocking pool.
constexpr bool is_path_op(OpCode code) noexcept {
  return code == OpCode::open || code == OpCode::stat || code == OpCode::rename || code == OpCode::unlink ||
         code == OpCode::mkdir;
}

/// Works on an open file; on a regular file a readiness backend must give it to the blocking pool.
constexpr bool is_file_op(OpCode code) noexcept {
  return code == OpCode::read || code == OpCode::write || code == OpCode::fsync || code == OpCode::truncate;
}

/// Waits for the reading side of a descriptor (the other socket operations wait for the writing side).
constexpr bool waits_for_reading(OpCode code) noexcept {
  return code == OpCode::accept || code == OpCode::recv || code == OpCode::recvmsg || code == OpCode::read;
}

}  // namespace evlua
