// Operations as the contract suite uses them: with a count of how often they became ready, and one function per kind
// that fills them in.
#pragma once

#include <fcntl.h>
#include <sys/socket.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "core/op.h"

namespace evlua::test {

struct TestOp : Op {
  using Op::Op;
  int times_ready = 0;

  bool is_ready() const noexcept { return times_ready > 0; }

  /// For another submission of the same operation.
  void renew() noexcept { times_ready = 0; }
};

inline void set_recv(TestOp& op, int fd, void* data, std::size_t size, int flags = 0) {
  op.renew();
  op.code = OpCode::recv;
  op.fd = fd;
  op.args.recv = {data, static_cast<std::uint32_t>(size), flags, false};
}

inline void set_recv_ahead(TestOp& op, int fd) {
  set_recv(op, fd, nullptr, 0);
  op.args.recv.ahead = true;
}

inline void set_recv_rest(TestOp& op, int fd) {
  set_recv(op, fd, nullptr, 0);
  op.code = OpCode::recv_rest;
}

inline void set_send(TestOp& op, int fd, std::string_view text, int flags = 0) {
  op.renew();
  op.code = OpCode::send;
  op.fd = fd;
  op.args.send = {text.data(), static_cast<std::uint32_t>(text.size()), flags};
}

inline void set_accept(TestOp& op, int fd, sockaddr* address = nullptr, socklen_t* length = nullptr) {
  op.renew();
  op.code = OpCode::accept;
  op.fd = fd;
  op.args.accept = {address, length};
}

inline void set_connect(TestOp& op, int fd, const sockaddr_storage& address, socklen_t length) {
  op.renew();
  op.code = OpCode::connect;
  op.fd = fd;
  op.args.connect = {reinterpret_cast<const sockaddr*>(&address), length};
}

inline void set_shutdown(TestOp& op, int fd, int how) {
  op.renew();
  op.code = OpCode::shutdown;
  op.fd = fd;
  op.args.shutdown = {how};
}

inline void set_poll(TestOp& op, int fd, std::uint32_t events) {
  op.renew();
  op.code = OpCode::poll;
  op.fd = fd;
  op.args.poll = {events};
}

/// The operation borrows `path`.
inline void set_open(TestOp& op, const std::string& path, int flags, mode_t mode = 0644) {
  op.renew();
  op.code = OpCode::open;
  op.fd = AT_FDCWD;
  op.args.open = {path.c_str(), flags, mode};
}
void set_open(TestOp& op, std::string&& path, int flags, mode_t mode = 0644) = delete;

inline void set_read(TestOp& op, int fd, void* data, std::size_t size, std::int64_t offset = -1) {
  op.renew();
  op.code = OpCode::read;
  op.fd = fd;
  op.args.read = {data, static_cast<std::uint32_t>(size), offset};
}

inline void set_write(TestOp& op, int fd, std::string_view text, std::int64_t offset = -1) {
  op.renew();
  op.code = OpCode::write;
  op.fd = fd;
  op.args.write = {text.data(), static_cast<std::uint32_t>(text.size()), offset};
}

}  // namespace evlua::test
