// Goal: names become addresses or a clear error, and nobody waits longer for them than he wants to.
#include "net/resolver.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <vector>

#include "tests/support/async.h"

namespace evlua::test {

namespace {

using Answer = Result<std::vector<net::Address>>;

Task<void> numeric_names(Env&) {
  const Answer v4 = co_await net::resolve("192.0.2.7", 80);
  CHECK(v4);
  if (v4) CHECK(v4->size() == 1);
  if (v4) CHECK(v4->at(0).to_string() == "192.0.2.7:80");
  // An answer that needs no wait comes whatever the deadline.
  const Answer v6 = co_await net::resolve("::1", 65535, monotonic_now());
  CHECK(v6);
  if (v6) CHECK(v6->at(0).to_string() == "[::1]:65535");
}

Task<void> localhost(Env&) {
  const Answer found = co_await net::resolve("localhost", 8080, patience());
  CHECK(found);
  if (!found) co_return;
  CHECK_FALSE(found->empty());
  for (const net::Address& address : *found) {
    const std::string text = address.to_string();
    CHECK((text == "127.0.0.1:8080" || text == "[::1]:8080"));
  }
}

Task<void> unknown_names(Env&) {
  for (const char* name : {"no-such-host.invalid", "", "-", "name with spaces", "300.1.1.1"}) {
    CAPTURE(std::string(name));
    const std::string host = name;
    const Answer answer = co_await net::resolve(host, 80, patience());
    CHECK_FALSE(answer);
    if (answer) continue;
    const Error error = answer.error();
    CHECK(error.domain == ErrorDomain::resolver);
    CHECK(std::string(error.name()).rfind("EAI_", 0) == 0);
    CHECK(std::string(error.name()) != "EAI_UNKNOWN");
    CHECK(error.describe() == "resolve: " + error.message());
  }
  const std::string hidden("localhost\0.evil", 15);
  const Answer truncated = co_await net::resolve(hidden, 80, patience());
  CHECK_FALSE(truncated);
  const std::string oversized(10'000, 'x');
  const Answer answer = co_await net::resolve(oversized, 80, patience());
  CHECK_FALSE(answer);
}

/// A server that says nothing.
class SilentServer {
 public:
  SilentServer() : fd_(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in local{};
    local.sin_family = AF_INET;
    local.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK(::bind(fd_, reinterpret_cast<sockaddr*>(&local), sizeof local) == 0);
  }
  ~SilentServer() { ::close(fd_); }
  SilentServer(const SilentServer&) = delete;
  SilentServer& operator=(const SilentServer&) = delete;

  net::DnsSettings settings() const {
    sockaddr_storage local{};
    socklen_t size = sizeof local;
    CHECK(::getsockname(fd_, reinterpret_cast<sockaddr*>(&local), &size) == 0);
    net::DnsSettings settings;
    settings.servers = net::Address::from(reinterpret_cast<sockaddr*>(&local), size).to_string();
    return settings;
  }

 private:
  int fd_;
};

Task<void> deadline_and_cancellation(Env& env) {
  const SilentServer server;
  const net::DnsSettings settings = server.settings();
  Task<Answer> asking = net::resolve("silent.test", 80, soon(), settings, AF_UNSPEC);
  const Answer late = co_await std::move(asking);
  CHECK_FALSE(late);
  if (!late) CHECK(late.error().is(ETIMEDOUT));
  if (!late) CHECK(late.error().op == OpCode::resolve);

  std::optional<Answer> answer;
  TaskScope scope(env.home);
  scope.spawn(keep(net::resolve("silent.test", 80, kNever, settings, AF_UNSPEC), answer));
  co_await linger();
  CHECK_FALSE(answer.has_value());
  scope.cancel();
  co_await scope.join();
  CHECK(answer.has_value());
  if (answer && !*answer) CHECK(answer->error().is(ECANCELED));
  if (answer) CHECK_FALSE(answer->has_value());
  const Answer afterwards = co_await net::resolve("localhost", 80, patience());
  CHECK(afterwards);
}

Task<void> many_at_once(Env& env) {
  constexpr std::size_t kMany = 300;
  std::vector<std::optional<Answer>> answers(kMany);
  TaskScope scope(env.home);
  for (std::size_t index = 0; index < kMany; ++index) {
    const auto port = static_cast<std::uint16_t>(index + 1);
    Executor& home = index % 2 == 0 ? env.home : env.elsewhere;
    scope.spawn_on(home, keep(net::resolve("localhost", port, patience()), answers[index]));
  }
  co_await scope.join();
  for (std::size_t index = 0; index < kMany; ++index) {
    const bool found = answers[index].has_value() && answers[index]->has_value() && !(*answers[index])->empty();
    CHECK(found);
    if (found) CHECK((*answers[index])->at(0).port() == index + 1);
  }
}

/// Deadlines that pass while the look-ups run, or while they wait for their turn.
Task<void> deadlines_that_race(Env& env) {
  const SilentServer server;
  const net::DnsSettings settings = server.settings();
  std::vector<std::optional<Answer>> answers(400);
  TaskScope scope(env.home);
  for (std::size_t index = 0; index < answers.size(); ++index) {
    const Instant deadline = deadline_after(monotonic_now(), static_cast<Duration>(index) * 20 * kMicrosecond);
    Executor& home = index % 2 == 0 ? env.home : env.elsewhere;
    scope.spawn_on(home, keep(net::resolve("silent.test", 80, deadline, settings, AF_UNSPEC), answers[index]));
  }
  co_await scope.join();
  for (const std::optional<Answer>& answer : answers) {
    const bool is_late = answer && !*answer && answer->error().is(ETIMEDOUT);
    CHECK(is_late);
  }
}

}  // namespace

TEST_CASE("numeric names need no look-up") { on_backends(numeric_names); }
TEST_CASE("localhost is this machine") { on_backends(localhost); }
TEST_CASE("unknown names give the resolver's error") { on_backends(unknown_names); }
TEST_CASE("a look-up that does not answer delays nobody beyond his deadline") {
  on_backends(deadline_and_cancellation);
}
TEST_CASE("many look-ups run at once") { on_backends(many_at_once); }
TEST_CASE("a deadline may pass at any moment of a look-up") { on_backends(deadlines_that_race); }

}  // namespace evlua::test
