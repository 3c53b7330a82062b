// A blocking HTTPS client of the benchmarks: a connection to 127.0.0.1 with a full handshake, and one request.
#pragma once

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace evlua::bench {

[[noreturn]] inline void fail(const char* what) {
  std::perror(what);
  std::exit(1);
}

/// Without sessions: every handshake is a full one.
inline bssl::UniquePtr<SSL_CTX> make_context() {
  bssl::UniquePtr<SSL_CTX> context(SSL_CTX_new(TLS_method()));
  SSL_CTX_set_session_cache_mode(context.get(), SSL_SESS_CACHE_OFF);
  return context;
}

class TlsClient {
 public:
  TlsClient(SSL_CTX* context, std::uint16_t port) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    if (fd_ < 0) fail("socket");
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) fail("connect");
    const int on = 1;  // the request follows the end of the handshake at once
    ::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    const timeval patience = {30, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    const linger reset = {1, 0};  // ports are free again at once
    ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    ssl_.reset(SSL_new(context));
    SSL_set_fd(ssl_.get(), fd_);
    if (SSL_connect(ssl_.get()) != 1) fail("SSL_connect");
  }
  ~TlsClient() { ::close(fd_); }
  TlsClient(const TlsClient&) = delete;
  TlsClient& operator=(const TlsClient&) = delete;

  /// Sends `request`, and reads until the answer ends with "Hello, World!".
  void ask(std::string_view request) {
    const int size = static_cast<int>(request.size());
    if (SSL_write(ssl_.get(), request.data(), size) != size) fail("SSL_write");
    char answer[1024];
    std::size_t got = 0;
    while (!std::string_view(answer, got).ends_with("Hello, World!")) {
      const int more = SSL_read(ssl_.get(), answer + got, static_cast<int>(sizeof answer - got));
      if (more <= 0) fail("SSL_read");
      got += static_cast<std::size_t>(more);
    }
  }

  /// Until the server has closed.
  void wait_for_end() {
    char nothing;
    if (SSL_read(ssl_.get(), &nothing, 1) > 0) fail("more than an answer");
  }

 private:
  int fd_;
  bssl::UniquePtr<SSL> ssl_;
};

}  // namespace evlua::bench
