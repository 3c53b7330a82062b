// A Stream whose other end is a plain descriptor of the test, used without ever waiting on it.
#pragma once

#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "core/check.h"
#include "net/connect.h"
#include "net/listener.h"
#include "net/stream.h"
#include "tests/support/async.h"

namespace evlua::test {

using net::ReadRequest;
using net::Stream;
using Bytes = Result<std::string_view>;
constexpr std::size_t kPlenty = 1 << 20;

inline ReadRequest some(std::size_t count = kPlenty) { return {ReadRequest::Kind::some, count, {}, false}; }
inline ReadRequest exactly(std::size_t count) { return {ReadRequest::Kind::exactly, count, {}, false}; }
inline ReadRequest until(std::string_view delimiter, std::size_t limit = kPlenty, bool keep_it = false) {
  return {ReadRequest::Kind::until, limit, delimiter, keep_it};
}
inline ReadRequest line(std::size_t limit = kPlenty, bool keep_it = false) {
  return {ReadRequest::Kind::line, limit, {}, keep_it};
}
inline ReadRequest all(std::size_t limit = kPlenty) { return {ReadRequest::Kind::all, limit, {}, false}; }

/// The bytes, or the name of the error.
inline std::string told(const Bytes& read) {
  return read ? std::string(*read) : std::string("! ") + read.error().name();
}

inline Task<std::string> text(Stream& stream, ReadRequest request) {
  const Bytes read = co_await stream.read(request, patience());
  co_return told(read);
}

/// Reads, and compares with the bytes or "! ERROR".
inline Task<void> expect(Stream& stream, ReadRequest request, std::string_view expected) {
  const Bytes read = co_await stream.read(request, patience());
  CHECK(told(read) == expected);
}
inline Task<void> expect_late(Stream& stream, ReadRequest request) {
  const Bytes read = co_await stream.read(request, soon());
  CHECK(told(read) == "! ETIMEDOUT");
}

/// The other end of a stream.
class Peer {
 public:
  ~Peer() { close(); }
  void take(net::Socket socket) { fd_ = socket.release(); }
  int give() { return std::exchange(fd_, -1); }
  int fd() const { return fd_; }
  ssize_t try_send(std::string_view bytes) const {
    return ::send(fd_, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  }
  void send(std::string_view bytes) const { CHECK(try_send(bytes) == static_cast<ssize_t>(bytes.size())); }
  std::string receive(std::size_t max = kPlenty) const {
    std::string bytes(max, '\0');
    const ssize_t got = ::recv(fd_, bytes.data(), max, MSG_DONTWAIT);
    bytes.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    return bytes;
  }
  void end() const { ::shutdown(fd_, SHUT_WR); }
  void reset() {
    const struct linger none = {1, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &none, sizeof none);
    close();
  }
  void close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }

 private:
  int fd_ = -1;
};

struct Pair {
  std::unique_ptr<Stream> stream;
  Peer peer;
};

inline Task<void> connect(Pair& pair) {
  const Result<net::Address> any = net::Address::parse("127.0.0.1:0");
  const net::ListenOptions options;
  Result<net::Listener> listener = net::listen(*any, options);
  EVLUA_CHECK(listener);
  Result<net::Socket> near = co_await net::connect(listener->local_address(), patience());
  Result<net::Socket> far = co_await listener->accept(patience());
  EVLUA_CHECK(near && far);
  pair.stream = std::make_unique<Stream>(std::move(*near));
  pair.peer.take(std::move(*far));
  co_await listener->close();
}

}  // namespace evlua::test
