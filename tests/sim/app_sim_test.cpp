// Goal: the whole way of a request, from the listening socket through HTTP, strands and Lua tasks and back, holds
// whichever worker goes on when. Clients of every kind call an app that waits for everything; each answer must be the
// one to its question, or the connection must have broken for a reason.
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/io_await.h"
#include "core/scope.h"
#include "lua/http_app.h"
#include "lua/http_pool.h"
#include "net/http/server.h"
#include "tests/sim/failing_allocator.h"
#include "tests/sim/simulated_app.h"
#include "tests/sim/simulation.h"

namespace evlua::test {
namespace {

constexpr std::string_view kPost = "post";
constexpr std::string_view kRemote = "remote";
constexpr const char* kKinds[] = {"plain",  "sleep",   "tasks",   "race",   "coroutine", "file", "shared",
                                  "stream", "compute", "channel", "select", "mutex",     "once"};
constexpr const char* kThreadKinds[] = {"thread", "pool", "threads"};

struct Answer {
  long status = 0;  // 0: the connection ended before it
  std::string body;
};

/// What has arrived on a connection.
struct Incoming {
  std::string bytes;
  bool ended = false;
};

struct Site {
  struct Options {
    bool strict = true;  ///< nothing goes wrong that a client would notice
    unsigned vms = 1;
    unsigned clients = 4;
    bool threads = false;
    bool proxied = false;               ///< connections begin with a PROXY header
    std::uint64_t fail_allocation = 0;  ///< this one of those that Lua code makes; 0: none
    const char* only = nullptr;         ///< each client asks just this, once
  };

  Site(Simulation& simulation, const Options& site_options) : sim(simulation), options(site_options) {
    address.sin_family = AF_INET;
    address.sin_port = htons(80);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    sim.add_invariant([this] { return check(); });
    sim.add_idle_invariant([this] { return check_idle(); });
  }

  const char* check() {
    for (const auto& vm : vms) {
      if (const char* broken = Inspector::check(*vm)) return broken;
    }
    return nullptr;
  }
  const char* check_idle() {
    for (const auto& vm : vms) {
      if (vm->main_state() == nullptr) continue;
      if (const char* broken = Inspector::check_idle(*vm)) return broken;
    }
    return check_sockets();
  }
  /// The listener, the clients' and the connections'; those on their way in or out are neither, perhaps.
  const char* check_sockets() const {
    std::size_t expected = 1 + client_sockets;
    for (std::size_t i = 0; server != nullptr && i < pools.size(); ++i) {
      expected += server->station(i).connection_count();
    }
    const std::size_t moving = sim.world().in_flight(OpCode::accept) + sim.world().in_flight(OpCode::close);
    return sim.world().open_sockets() <= expected + moving ? nullptr : "a socket has leaked";
  }

  std::uint64_t below(std::uint64_t limit) { return sim.random().below(limit); }
  /// 1 to `most`.
  std::uint64_t some(std::uint64_t most) { return options.only != nullptr ? 1 : 1 + below(most); }

  // -- the client ---------------------------------------------------------------------------------------------------

  Task<bool> send(int fd, std::string_view text) {
    while (!text.empty()) {
      const std::size_t size = below(3) == 0 ? 1 + below(text.size()) : text.size();
      IoAwait op = io::send(fd, text.data(), static_cast<std::uint32_t>(size));
      const Result<std::int32_t> sent = co_await op;
      if (!sent) co_return false;
      text.remove_prefix(static_cast<std::size_t>(*sent));
    }
    co_return true;
  }

  Task<void> fill(int fd, Incoming& in) {
    std::array<char, 2000> bytes;
    IoAwait op = io::recv(fd, bytes.data(), bytes.size());
    const Result<std::int32_t> got = co_await op;
    if (got && *got > 0) {
      in.bytes.append(bytes.data(), static_cast<std::size_t>(*got));
    } else {
      in.ended = true;
    }
  }

  /// Up to and with `end`; empty when the connection ends before.
  Task<std::string> read_until(int fd, Incoming& in, std::string end) {
    std::size_t found = in.bytes.find(end);
    while (found == std::string::npos && !in.ended) {
      co_await fill(fd, in);
      found = in.bytes.find(end);
    }
    if (found == std::string::npos) co_return std::string();
    std::string text = in.bytes.substr(0, found + end.size());
    in.bytes.erase(0, found + end.size());
    co_return text;
  }

  Task<std::string> read_exactly(int fd, Incoming& in, std::size_t size) {
    while (in.bytes.size() < size && !in.ended) co_await fill(fd, in);
    std::string text = in.bytes.substr(0, size);
    in.bytes.erase(0, text.size());
    co_return text;
  }

  Task<Answer> read_answer(int fd, Incoming& in) {
    Answer answer;
    const std::string head = co_await read_until(fd, in, "\r\n\r\n");
    if (head.empty()) co_return answer;
    if (head.compare(0, 9, "HTTP/1.1 ") != 0) sim.violation("a response does not begin as one");
    const long status = std::strtol(head.c_str() + 9, nullptr, 10);
    const std::size_t length = head.find("Content-Length: ");
    bool whole = true;
    if (length != std::string::npos) {
      const auto size = std::strtoul(head.c_str() + length + 16, nullptr, 10);
      answer.body = co_await read_exactly(fd, in, size);
      whole = answer.body.size() == size;
    } else {
      for (std::size_t size = 1; size != 0 && whole;) {
        const std::string line = co_await read_until(fd, in, "\r\n");
        size = std::strtoul(line.c_str(), nullptr, 16);
        const std::string chunk = co_await read_exactly(fd, in, size + 2);
        whole = !line.empty() && chunk.size() == size + 2;
        if (whole) answer.body.append(chunk, 0, size);
      }
    }
    if (whole) answer.status = status;
    co_return answer;
  }

  struct Question {
    std::string text;
    std::string answer;
  };

  /// As a load balancer begins a connection for somebody whose port is `port`.
  std::string proxy_header(unsigned port) {
    if (below(2) == 0) return "PROXY TCP4 192.0.2.1 127.0.0.1 " + std::to_string(port) + " 80\r\n";
    std::string header("\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\x7f\0\0\x01", 24);
    header += {static_cast<char>(port >> 8), static_cast<char>(port), 0, 80};
    return header;
  }

  Question ask(const std::string& remote) {
    const std::string id = std::to_string(++asked);
    if (options.only != nullptr ? options.only == kPost : below(5) == 0) {
      const std::string body(below(3000), static_cast<char>('a' + below(26)));
      const std::string length = std::to_string(body.size());
      return {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: " + length + "\r\n\r\n" + body, body};
    }
    const bool asks_who = options.only == nullptr ? !remote.empty() && below(4) == 0 : options.only == kRemote;
    if (asks_who) return {"GET /remote/" + id + " HTTP/1.1\r\nHost: a\r\n\r\n", "remote " + id + " " + remote};
    const bool of_threads = options.threads && below(8) == 0;
    std::string kind = of_threads ? kThreadKinds[below(3)] : kKinds[below(std::size(kKinds))];
    if (options.only != nullptr) kind = options.only;
    return {"GET /" + kind + "/" + id + " HTTP/1.1\r\nHost: a\r\n\r\n", expected(kind, id)};
  }

  /// False: the connection is of no more use.
  Task<bool> exchange(int fd, Incoming& in, const std::string& remote, const std::string& header) {
    std::vector<Question> questions;
    std::string text = header;
    for (std::uint64_t i = some(3); i > 0; --i) {
      questions.push_back(ask(remote));
      text += questions.back().text;
    }
    const bool may_give_up = !options.strict && options.only == nullptr;
    if (may_give_up && below(8) == 0) text.resize(below(text.size()));  // in the middle
    const bool sent = co_await send(fd, text);
    if (!sent && options.strict) sim.violation("a request could not be sent");
    if (may_give_up && below(8) == 0) co_return false;
    for (const Question& question : questions) {
      const Answer answer = co_await read_answer(fd, in);
      const bool wrong = answer.status == 200 && answer.body != question.answer;
      if (wrong || (options.strict && answer.status != 200)) {
        std::fprintf(stderr, "%s-> %ld %s\n", question.text.c_str(), answer.status, answer.body.c_str());
        sim.violation(wrong ? "an answer to another question" : "a request was not answered");
      }
      if (answer.status == 200) ++answered;
      if (answer.status == 0) co_return false;
    }
    co_return true;
  }

  Task<void> client() {
    for (std::uint64_t connections = some(2); connections > 0; --connections) {
      const int fd = sim.world().socket();
      ++client_sockets;
      IoAwait op = io::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address));
      const Result<std::int32_t> connected = co_await op;
      if (!connected && options.strict) sim.violation("a client could not connect");
      Incoming in;
      std::string remote;
      std::string header;
      if (options.proxied) {
        const unsigned port = 1000 + static_cast<unsigned>(below(60'000));
        header = proxy_header(port);
        remote = "192.0.2.1:" + std::to_string(port);
      }
      bool goes_on = connected.has_value();
      for (std::uint64_t rounds = some(3); goes_on && rounds > 0; --rounds) {
        goes_on = co_await exchange(fd, in, remote, header);
        header.clear();
      }
      Worker::current().close_later(fd);
      --client_sockets;
    }
  }

  // -- the server ---------------------------------------------------------------------------------------------------

  Task<bool> load() {
    const unsigned count = sim.scheduler().worker_count() * options.vms;
    for (unsigned index = 0; index < count; ++index) {
      vms.push_back(lua::Vm::create(sim.scheduler(), {}));
      vms.back()->on_exit = [](int) { std::abort(); };
      apps.push_back(std::make_unique<lua::HttpApp>(*vms.back(), lua::HttpApp::Options{}));
      std::string path = "/app.lua";
      const auto once = index == 0 ? lua::HttpApp::Once::start_and_stop : lua::HttpApp::Once::ignore;
      auto loaded = co_await apps.back()->load(std::move(path), once);
      if (!loaded && options.strict) std::fprintf(stderr, "%s\n", loaded.error().c_str());
      if (!loaded) co_return false;
    }
    memory.install(*vms.front(), options.fail_allocation);
    sim.begin_refusing();
    loaded_at = sim.steps();
    for (unsigned index = 0; index < count; index += options.vms) {
      std::vector<lua::HttpApp*> some;
      for (unsigned i = 0; i < options.vms; ++i) some.push_back(apps[index + i].get());
      pools.push_back(std::make_unique<lua::HttpPool>(std::move(some)));
    }
    co_return true;
  }

  Task<void> call() {
    TaskScope clients(sim.scheduler());
    for (unsigned i = 0; i < options.clients; ++i) clients.spawn(client());
    co_await clients.join();
    server->stop();
  }

  Task<int> main() {
    sim.world().make_file("/app.lua", kApp);
    const bool loaded = co_await load();
    if (!loaded) co_return options.strict ? 1 : 0;
    const int listener = sim.world().listen(reinterpret_cast<const sockaddr*>(&address), sizeof(address));
    std::vector<http::Handler*> handlers;
    for (const auto& pool : pools) handlers.push_back(pool.get());
    http::Server::Options server_options;
    server_options.grace = static_cast<Duration>(below(3)) * 10 * kSecond;
    if (options.proxied) server_options.limits.proxy_protocol = *http::AddressList::parse("127.0.0.1");
    server = std::make_unique<http::Server>(sim.scheduler(), server_options, handlers);
    const std::vector<std::vector<http::Listening>> listeners(handlers.size(), {http::Listening{listener}});
    TaskScope calls(sim.scheduler());
    calls.spawn(call());
    co_await server->serve(listeners);
    // Whoever still calls is refused.
    (void)sim.world().close(listener);
    co_await calls.join();
    for (const auto& vm : vms) {
      Event::Wait idle = vm->idle().wait(sim.world().now() + 3600 * kSecond);
      const Result<void> ended = co_await idle;
      if (ended) continue;
      vm->for_each_live([](lua::Fiber& fiber) { std::fprintf(stderr, "%s\n", fiber.traceback("never ends").c_str()); });
      sim.violation("a Lua task never ends");
    }
    for (const auto& vm : vms) vm->close();
    co_return 0;
  }

  Simulation& sim;
  const Options options;
  sockaddr_in address{};
  FailingAllocator memory;
  std::vector<std::unique_ptr<lua::Vm>> vms;
  std::vector<std::unique_ptr<lua::HttpApp>> apps;
  std::vector<std::unique_ptr<lua::HttpPool>> pools;
  std::unique_ptr<http::Server> server;
  std::size_t client_sockets = 0;
  std::uint64_t loaded_at = 0;
  int asked = 0;
  int answered = 0;
};

struct Run {
  std::uint64_t seed;
  SimFaults faults{};
  unsigned workers = 2;
  Site::Options site{};
  std::uint64_t stop_at = 0;  ///< the step at which the server is told to stop
  double cuts = 0;            ///< see Simulation::Options
  std::uint64_t refuse_at = 0;
};

struct Outcome {
  std::uint64_t digest = 0;
  std::uint64_t steps = 0;
  std::uint64_t loaded = 0;  ///< steps when the app was
  std::uint64_t fallible = 0;
  std::uint64_t allocations = 0;
  std::uint64_t refusable = 0;
  int asked = 0;
  int answered = 0;
};

Outcome run_site(const Run& run) {
  Simulation sim(
      {.seed = run.seed, .workers = run.workers, .faults = run.faults, .cuts = run.cuts, .refuse_at = run.refuse_at});
  Site site(sim, run.site);
  if (run.stop_at != 0) {
    sim.at_step(run.stop_at, [&] {
      if (site.server != nullptr) site.server->stop();
    });
  }
  CHECK(sim.run(site.main()) == 0);
  return {.digest = sim.world().digest(),
          .steps = sim.steps(),
          .loaded = site.loaded_at,
          .fallible = sim.world().fallible_steps(),
          .allocations = site.memory.count,
          .refusable = sim.refusable_steps(),
          .asked = site.asked,
          .answered = site.answered};
}

TEST_CASE("random clients are answered") {
  int answered = 0;
  for_each_seed("app", 1500, [&](std::uint64_t seed) {
    SimRandom random(seed);
    Run run{.seed = seed};
    run.faults = some_faults(random, false);
    run.faults.delay_max = std::min(run.faults.delay_max, 10 * kMillisecond);
    run.faults.channel_bytes = 64 * 1024;  // clients that send more before they read would wait for themselves
    run.workers = 1 + static_cast<unsigned>(random.below(3));
    run.site.vms = 1 + static_cast<unsigned>(random.below(2));
    run.site.clients = 1 + static_cast<unsigned>(random.below(6));
    run.site.threads = random.below(4) == 0;
    run.site.proxied = random.below(4) == 0;
    run.cuts = random.below(2) == 0 ? 0.4 : 0;
    const Outcome outcome = run_site(run);
    CHECK(outcome.asked == outcome.answered);
    answered += outcome.answered;
  });
  CHECK(answered > 0);
}

TEST_CASE("random faults, clients that give up, and a stop at any time break nothing") {
  for_each_seed("app with faults", 2000, [](std::uint64_t seed) {
    SimRandom random(seed);
    Run run{.seed = seed};
    run.faults = some_faults(random, true);
    run.workers = 1 + static_cast<unsigned>(random.below(3));
    run.site = {.strict = false, .vms = 1 + static_cast<unsigned>(random.below(2)), .clients = 4};
    run.site.threads = random.below(4) == 0;
    run.site.proxied = random.below(4) == 0;
    run.cuts = random.below(2) == 0 ? 0.4 : 0;
    if (random.below(2) == 0) run.stop_at = 1 + random.below(20'000);
    run_site(run);
  });
}

TEST_CASE("a seed decides everything") {
  for_each_seed("app, twice", 100, [](std::uint64_t seed) {
    const Outcome first = run_site({.seed = seed});
    const Outcome second = run_site({.seed = seed});
    CHECK(first.digest == second.digest);
    CHECK(first.steps == second.steps);
  });
}

/// A client or two that ask for one thing: so small that everything can be tried at each of its steps.
template <class Body>
void for_each_kind(const char* what, unsigned clients, Body body) {
  for_each_seed(what, 1, [&](std::uint64_t seed) {
    const auto ask = [&](const char* kind) {
      CAPTURE(kind);
      name_part(kind);
      body(Run{.seed = seed, .faults = SimFaults::none(), .site = {.strict = false, .clients = clients, .only = kind}});
    };
    for (const char* kind : kKinds) ask(kind);
    for (const char* kind : kThreadKinds) ask(kind);
    ask(kPost.data());
  });
}

std::uint64_t& failing_operation(Run& run) { return run.faults.fail_at; }
std::uint64_t& failing_allocation(Run& run) { return run.site.fail_allocation; }

TEST_CASE("torture: each fallible operation fails once") {
  for_each_kind("app, each operation failing", 2,
                [](const Run& run) { torture(run_site, run, &Outcome::fallible, failing_operation); });
}

TEST_CASE("torture: behind a proxy, each fallible operation fails once") {
  for_each_seed("app behind a proxy, each operation failing", 2, [](std::uint64_t seed) {
    Run run{.seed = seed, .faults = SimFaults::none(), .site = {.strict = false, .clients = 2, .only = kRemote.data()}};
    run.site.proxied = true;
    torture(run_site, run, &Outcome::fallible, failing_operation);
  });
}

TEST_CASE("torture: each allocation of Lua code fails once") {
  for_each_kind("app, each allocation failing", 1, [](Run run) {
    run.workers = 1;
    CHECK(torture(run_site, run, &Outcome::allocations, failing_allocation) > 0);
  });
}

TEST_CASE("torture: each task, message and buffer is refused its memory once") {
  for_each_kind("app, each refusal", 2,
                [](const Run& run) { CHECK(torture(run_site, run, &Outcome::refusable, &Run::refuse_at) > 0); });
}

TEST_CASE("torture: the server is stopped at every step") {
  for_each_kind("app, stopped", 1, [](Run run) {
    const Outcome whole = run_site(run);
    for_each_step(whole.steps - whole.loaded, [&](std::uint64_t step) {
      run.stop_at = whole.loaded + step;
      run_site(run);
    });
  });
}

}  // namespace
}  // namespace evlua::test
