// Full TLS 1.3 handshakes with an HTTP server, one after the other.
//
//   tls_handshakes PORT SECONDS CLIENTS
//
// So many clients at once, each of which connects to 127.0.0.1:PORT, makes one request, waits until the server closes,
// and begins again. Prints how many requests were answered, and the 99th percentile of what all of that took, in µs.
#include <algorithm>
#include <chrono>
#include <thread>
#include <vector>

#include "benchmarks/tls_client.h"

namespace {

using evlua::bench::TlsClient;
using Clock = std::chrono::steady_clock;

constexpr std::string_view kRequest = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// The microseconds that each took.
std::vector<double> run_client(SSL_CTX* context, std::uint16_t port, Clock::time_point end) {
  std::vector<double> times;
  for (Clock::time_point began = Clock::now(); began < end;) {
    TlsClient client(context, port);
    client.ask(kRequest);
    client.wait_for_end();
    const Clock::time_point now = Clock::now();
    times.push_back(std::chrono::duration<double, std::micro>(now - began).count());
    began = now;
  }
  return times;
}

double percentile_99(std::vector<double>& times) {
  const auto nth = times.begin() + static_cast<std::ptrdiff_t>(times.size() * 99 / 100);
  std::nth_element(times.begin(), nth, times.end());
  return *nth;
}

}  // namespace

int main(int argc, char** argv) {
  unsigned long numbers[3] = {};  // port, seconds, clients
  for (int i = 1; i < argc && argc == 4; ++i) numbers[i - 1] = std::strtoul(argv[i], nullptr, 10);
  const auto [port, seconds, clients] = numbers;
  if (port == 0 || port > UINT16_MAX || seconds == 0 || clients == 0) {
    std::fputs("usage: tls_handshakes PORT SECONDS CLIENTS\n", stderr);
    return 2;
  }
  const auto context = evlua::bench::make_context();
  SSL_CTX_set_min_proto_version(context.get(), TLS1_3_VERSION);
  const Clock::time_point end = Clock::now() + std::chrono::seconds(seconds);
  std::vector<std::vector<double>> shares(clients);
  std::vector<std::thread> threads;
  for (std::vector<double>& share : shares) {
    threads.emplace_back([&share, &context, port = static_cast<std::uint16_t>(port), end] {
      share = run_client(context.get(), port, end);
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::vector<double> times;
  for (const std::vector<double>& share : shares) times.insert(times.end(), share.begin(), share.end());
  std::printf("%zu %.0f\n", times.size(), percentile_99(times));
  return 0;
}
