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
#include <vector>

#include "core/io_await.h"
#include "core/scope.h"
#include "lua/http_app.h"
#include "lua/http_pool.h"
#include "net/http/server.h"
#include "tests/sim/simulation.h"

namespace evlua::test {
namespace {

constexpr const char* kApp = R"lua(
local evlua, fs, thread, shared = require "evlua", require "evlua.fs", require "evlua.thread", require "evlua.shared"
local counts = shared.dict("sim")

local routes = {}

function routes.plain(id) return "plain " .. id end

function routes.sleep(id)
  evlua.sleep(id % 7 / 100)
  return "sleep " .. id
end

function routes.tasks(id)
  local sum = 0
  evlua.scope(function(scope)
    for i = 1, 3 do
      scope:spawn(function() evlua.sleep(i / 1000) evlua.yield() sum = sum + i end)
    end
  end)
  return "tasks " .. id .. " " .. math.tointeger(sum)
end

function routes.race(id)
  local late = evlua.spawn(evlua.sleep, 1000)
  local done = evlua.timeout(id % 3 / 100 + 0.001, function() return late:join() end)
  late:cancel()
  late:wait()
  return "race " .. id .. " " .. tostring(done)
end

function routes.coroutine(id)
  local next_value = coroutine.wrap(function() for i = 1, 3 do evlua.sleep(0.001) coroutine.yield(i) end end)
  return ("coroutine %s %d"):format(id, next_value() + next_value() + next_value())
end

function routes.file(id)
  local path = "/f" .. id
  local file = fs.open(path, "w+")
  if not file then return nil end
  local text = ("file %s "):format(id):rep(50)
  local back = file:write(text) and ""
  while back and #back < #text do
    local piece = file:read_at(#text - #back, #back)
    back = piece and back .. piece
  end
  file:close()
  return back
end

function routes.shared(id)
  local name = "lock" .. id % 3
  local held = shared.lock(name, {timeout = 60})
  if not held then return nil end
  local before = counts:get(name) or 0
  evlua.sleep(0.001)
  counts:set(name, before + 1)
  held:unlock()
  return "shared " .. id
end

function routes.thread(id)
  return thread.run(function(text)
    local inner = require "evlua"
    inner.sleep(0.001)
    return "thread " .. text
  end, id)
end

local function handle(req, res)
  if req.method == "POST" then
    local body = req:body(100000)
    if body then res:text(body) else res:status(400):text("no body") end
    return
  end
  local kind, id = req.path:match("^/(%a+)/(%d+)$")
  if kind == "remote" then return res:text("remote " .. id .. " " .. req.remote) end
  if kind == "stream" then
    for i = 1, 5 do
      if not res:write(("stream %s %d\n"):format(id, i)) then return end
      evlua.sleep(i / 1000)
    end
    return
  end
  local answer = routes[kind](id)
  if answer then res:text(answer) else res:status(500):text("failed") end
end

return function(req, res)
  local ok, message = xpcall(handle, debug.traceback, req, res)
  if ok then return end
  for _, reason in ipairs{"cancelled", "the server stops", "not enough memory"} do
    if message:find(reason) then error(message, 0) end
  end
  io.stderr:write("error in a handler: ", message, "\n")
  evlua.exit(1)
end
)lua";

std::string expected(const std::string& kind, const std::string& id) {
  if (kind == "tasks") return "tasks " + id + " 6";
  if (kind == "race") return "race " + id + " nil";
  if (kind == "coroutine") return "coroutine " + id + " 6";
  std::string text;
  if (kind == "file") {
    for (int i = 0; i < 50; ++i) text += "file " + id + " ";
  } else if (kind == "stream") {
    for (int i = 1; i <= 5; ++i) text += "stream " + id + " " + std::to_string(i) + "\n";
  } else {
    text = kind + " " + id;
  }
  return text;
}

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
  };

  Site(Simulation& simulation, const Options& site_options) : sim(simulation), options(site_options) {
    address.sin_family = AF_INET;
    address.sin_port = htons(80);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  }

  std::uint64_t below(std::uint64_t limit) { return sim.random().below(limit); }

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
    static constexpr const char* kKinds[] = {"plain",     "sleep", "tasks",  "race",
                                             "coroutine", "file",  "shared", "stream"};
    const std::string id = std::to_string(++asked);
    if (below(5) == 0) {
      const std::string body(below(3000), static_cast<char>('a' + below(26)));
      const std::string length = std::to_string(body.size());
      return {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: " + length + "\r\n\r\n" + body, body};
    }
    if (!remote.empty() && below(4) == 0) {
      return {"GET /remote/" + id + " HTTP/1.1\r\nHost: a\r\n\r\n", "remote " + id + " " + remote};
    }
    const std::string kind = options.threads && below(8) == 0 ? "thread" : kKinds[below(std::size(kKinds))];
    return {"GET /" + kind + "/" + id + " HTTP/1.1\r\nHost: a\r\n\r\n", expected(kind, id)};
  }

  /// False: the connection is of no more use.
  Task<bool> exchange(int fd, Incoming& in, const std::string& remote, const std::string& header) {
    std::vector<Question> questions;
    std::string text = header;
    for (std::uint64_t i = 1 + below(3); i > 0; --i) {
      questions.push_back(ask(remote));
      text += questions.back().text;
    }
    if (!options.strict && below(8) == 0) text.resize(below(text.size()));  // gives up in the middle
    const bool sent = co_await send(fd, text);
    if (!sent && options.strict) sim.violation("a request could not be sent");
    if (!options.strict && below(8) == 0) co_return false;
    for (const Question& question : questions) {
      const Answer answer = co_await read_answer(fd, in);
      if (options.strict && answer.status != 200) sim.violation("a request was not answered");
      if (answer.status == 200 && answer.body != question.answer) sim.violation("an answer to another question");
      if (answer.status == 200) ++answered;
      if (answer.status == 0) co_return false;
    }
    co_return true;
  }

  Task<void> client() {
    for (std::uint64_t connections = 1 + below(2); connections > 0; --connections) {
      const int fd = sim.world().socket();
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
      for (std::uint64_t rounds = 1 + below(3); goes_on && rounds > 0; --rounds) {
        goes_on = co_await exchange(fd, in, remote, header);
        header.clear();
      }
      Worker::current().close_later(fd);
    }
  }

  /// In front of a Vm's own allocator.
  struct Memory {
    void install(lua::Vm& of, std::uint64_t fails_at) {
      vm = &of;
      at = fails_at;
      allocator = lua_getallocf(of.main_state(), &context);
      lua_setallocf(of.main_state(), &Memory::allocate, this);
    }
    static void* allocate(void* self, void* block, std::size_t old_size, std::size_t new_size) {
      auto& memory = *static_cast<Memory*>(self);
      const bool grows = new_size > (block != nullptr ? old_size : 0);
      // Twice in a row: Lua collects garbage after the first failure, and tries again.
      if (grows && memory.vm->keeps_limit() && ++memory.count >= memory.at && memory.count <= memory.at + 1) {
        if (memory.at != 0) return nullptr;
      }
      return memory.allocator(memory.context, block, old_size, new_size);
    }

    lua::Vm* vm = nullptr;
    lua_Alloc allocator = nullptr;
    void* context = nullptr;
    std::uint64_t at = 0;
    std::uint64_t count = 0;
  };

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
  Memory memory;
  std::vector<std::unique_ptr<lua::Vm>> vms;
  std::vector<std::unique_ptr<lua::HttpApp>> apps;
  std::vector<std::unique_ptr<lua::HttpPool>> pools;
  std::unique_ptr<http::Server> server;
  int asked = 0;
  int answered = 0;
};

struct Run {
  std::uint64_t seed;
  SimFaults faults{};
  unsigned workers = 2;
  Site::Options site{};
  std::uint64_t stop_at = 0;  ///< the step at which the server is told to stop
};

struct Outcome {
  std::uint64_t digest = 0;
  std::uint64_t steps = 0;
  std::uint64_t fallible = 0;
  std::uint64_t allocations = 0;
  int asked = 0;
  int answered = 0;
};

Outcome run_site(const Run& run) {
  Simulation sim({.seed = run.seed, .workers = run.workers, .faults = run.faults});
  Site site(sim, run.site);
  if (run.stop_at != 0) {
    sim.at_step(run.stop_at, [&] {
      if (site.server != nullptr) site.server->stop();
    });
  }
  CHECK(sim.run(site.main()) == 0);
  return {sim.world().digest(), sim.steps(), sim.world().fallible_steps(),
          site.memory.count,    site.asked,  site.answered};
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

TEST_CASE("torture: each fallible operation fails once") {
  for_each_seed("app, each operation failing", 4, [](std::uint64_t seed) {
    const Run run{.seed = seed, .faults = SimFaults::none(), .site = {.strict = false, .clients = 2}};
    const Outcome whole = run_site(run);
    for_each_step(whole.fallible, 1000, [&](std::uint64_t step) {
      Run failing = run;
      failing.faults.fail_at = step;
      run_site(failing);
    });
  });
}

TEST_CASE("torture: behind a proxy, each fallible operation fails once") {
  for_each_seed("app behind a proxy, each operation failing", 2, [](std::uint64_t seed) {
    Run run{.seed = seed, .faults = SimFaults::none(), .site = {.strict = false, .clients = 2}};
    run.site.proxied = true;
    const Outcome whole = run_site(run);
    for_each_step(whole.fallible, 500, [&](std::uint64_t step) {
      Run failing = run;
      failing.faults.fail_at = step;
      run_site(failing);
    });
  });
}

TEST_CASE("torture: each allocation of Lua code fails once") {
  for_each_seed("app, each allocation failing", 4, [](std::uint64_t seed) {
    Run run{.seed = seed, .faults = SimFaults::none(), .workers = 1, .site = {.strict = false, .clients = 5}};
    const Outcome whole = run_site(run);
    CHECK(whole.allocations > 0);
    for_each_step(whole.allocations, 1500, [&](std::uint64_t step) {
      Run failing = run;
      failing.site.fail_allocation = step;
      run_site(failing);
    });
  });
}

TEST_CASE("torture: the server is stopped at every step") {
  for_each_seed("app, stopped", 4, [](std::uint64_t seed) {
    const Run run{.seed = seed, .site = {.strict = false, .clients = 3}};
    const Outcome whole = run_site(run);
    for_each_step(whole.steps, 500, [&](std::uint64_t step) {
      Run stopped = run;
      stopped.stop_at = step;
      run_site(stopped);
    });
  });
}

}  // namespace
}  // namespace evlua::test
