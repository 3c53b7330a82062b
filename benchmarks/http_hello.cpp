// The smallest HTTP server on the Handler seam: what the front costs without Lua.
//
//   http_hello 127.0.0.1:8080 [WORKERS]     (EVLUA_BACKEND chooses the backend)
//
// Until SIGTERM or SIGINT; then it drains and prints requests and processor time per request.
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string_view>
#include <thread>
#include <vector>

#include "backends/select.h"
#include "core/scheduler.h"
#include "net/http/listener_set.h"
#include "net/http/server.h"

namespace {

using namespace evlua;

class Hello final : public http::Handler {
 public:
  bool handle(http::Exchange& exchange) noexcept override {
    static_cast<void>(exchange.set_header("Content-Type", "text/plain"));
    static_cast<void>(exchange.send("Hello, World!"));
    return true;
  }
};

double processor_seconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

Task<int> serve(Scheduler& scheduler, http::Server& server, net::Address address) {
  http::ListenerSet listeners(scheduler.worker_count());
  const Result<void> added = listeners.add(address);
  if (!added) {
    std::fprintf(stderr, "http_hello: %s\n", added.error().describe().c_str());
    co_return 1;
  }
  std::printf("listening on %s\n", listeners.addresses()[0].to_string().c_str());
  std::fflush(stdout);
  const std::vector<std::vector<http::Listening>> descriptors = listeners.descriptors();
  co_await server.serve(descriptors);
  co_return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const Result<net::Address> address = net::Address::parse(argc > 1 ? argv[1] : "127.0.0.1:8080");
  const auto choice = select_backend("");
  if (!address || !choice) {
    std::fprintf(stderr, "usage: http_hello ADDRESS [WORKERS]\n");
    return 2;
  }
  sigset_t ends;
  sigemptyset(&ends);
  sigaddset(&ends, SIGTERM);
  sigaddset(&ends, SIGINT);
  pthread_sigmask(SIG_BLOCK, &ends, nullptr);

  Scheduler::Options options;
  options.workers = argc > 2 ? static_cast<unsigned>(std::strtoul(argv[2], nullptr, 10)) : 1;
  Scheduler scheduler(options, choice->factory);
  std::vector<Hello> hellos(options.workers);
  std::vector<http::Handler*> handlers;
  for (Hello& hello : hellos) handlers.push_back(&hello);
  http::Server server(scheduler, {}, handlers);

  std::thread signals([&] {
    int signal = 0;
    sigwait(&ends, &signal);
    server.stop();
  });
  const Result<int> ended = scheduler.run(serve(scheduler, server, *address));
  pthread_kill(signals.native_handle(), SIGTERM);
  signals.join();

  std::uint64_t requests = 0;
  for (unsigned index = 0; index < options.workers; ++index) requests += server.station(index).requests();
  const double seconds = processor_seconds();
  std::printf("%s: %llu requests, %.3f s of processor time, %.3f us each\n", choice->name.c_str(),
              static_cast<unsigned long long>(requests), seconds,
              requests == 0 ? 0.0 : seconds * 1e6 / static_cast<double>(requests));
  return ended ? *ended : 1;
}
