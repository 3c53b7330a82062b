// Holds idle TLS connections to an HTTP server, for measuring what they cost it.
//
//   tls_idle PORT COUNT
//
// Opens COUNT connections to 127.0.0.1:PORT, each with a full handshake and one request, prints "ready" and keeps them
// until its input ends.
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string_view>
#include <thread>
#include <vector>

namespace {

constexpr unsigned kThreads = 4;
constexpr std::string_view kRequest = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
constexpr std::string_view kAnswer = "Hello, World!";

[[noreturn]] void fail(const char* what) {
  std::perror(what);
  std::exit(1);
}

class Client {
 public:
  Client(SSL_CTX* context, std::uint16_t port) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
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
  ~Client() { ::close(fd_); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  void ask() {
    const int size = static_cast<int>(kRequest.size());
    if (SSL_write(ssl_.get(), kRequest.data(), size) != size) fail("SSL_write");
    char answer[1024];
    std::size_t got = 0;
    while (!std::string_view(answer, got).ends_with(kAnswer)) {
      const int more = SSL_read(ssl_.get(), answer + got, static_cast<int>(sizeof answer - got));
      if (more <= 0) fail("SSL_read");
      got += static_cast<std::size_t>(more);
    }
  }

 private:
  int fd_;
  bssl::UniquePtr<SSL> ssl_;
};

}  // namespace

int main(int argc, char** argv) {
  const unsigned long port = argc == 3 ? std::strtoul(argv[1], nullptr, 10) : 0;
  const unsigned long count = argc == 3 ? std::strtoul(argv[2], nullptr, 10) : 0;
  if (port == 0 || port > UINT16_MAX || count == 0) {
    std::fputs("usage: tls_idle PORT COUNT\n", stderr);
    return 2;
  }
  ::signal(SIGPIPE, SIG_IGN);
  const bssl::UniquePtr<SSL_CTX> context(SSL_CTX_new(TLS_method()));
  SSL_CTX_set_session_cache_mode(context.get(), SSL_SESS_CACHE_OFF);
  std::vector<std::vector<std::unique_ptr<Client>>> shares(kThreads);
  std::vector<std::thread> threads;
  for (unsigned thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&context, port, &mine = shares[thread], share = (count + thread) / kThreads] {
      while (mine.size() < share) {
        mine.push_back(std::make_unique<Client>(context.get(), static_cast<std::uint16_t>(port)));
        mine.back()->ask();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::puts("ready");
  std::fflush(stdout);
  while (std::getchar() != EOF) continue;
  return 0;
}
