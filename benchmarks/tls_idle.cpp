// Holds idle TLS connections to an HTTP server, for measuring what they cost it.
//
//   tls_idle PORT COUNT
//
// Opens COUNT connections to 127.0.0.1:PORT, each with a full handshake and one request, prints "ready" and keeps them
// until its input ends.
#include <signal.h>

#include <memory>
#include <thread>
#include <vector>

#include "benchmarks/tls_client.h"

namespace {

using evlua::bench::TlsClient;

constexpr unsigned kThreads = 4;
constexpr std::string_view kRequest = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

}  // namespace

int main(int argc, char** argv) {
  const unsigned long port = argc == 3 ? std::strtoul(argv[1], nullptr, 10) : 0;
  const unsigned long count = argc == 3 ? std::strtoul(argv[2], nullptr, 10) : 0;
  if (port == 0 || port > UINT16_MAX || count == 0) {
    std::fputs("usage: tls_idle PORT COUNT\n", stderr);
    return 2;
  }
  ::signal(SIGPIPE, SIG_IGN);
  const auto context = evlua::bench::make_context();
  std::vector<std::vector<std::unique_ptr<TlsClient>>> shares(kThreads);
  std::vector<std::thread> threads;
  for (unsigned thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&context, port, &mine = shares[thread], share = (count + thread) / kThreads] {
      while (mine.size() < share) {
        mine.push_back(std::make_unique<TlsClient>(context.get(), static_cast<std::uint16_t>(port)));
        mine.back()->ask(kRequest);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::puts("ready");
  std::fflush(stdout);
  while (std::getchar() != EOF) continue;
  return 0;
}
