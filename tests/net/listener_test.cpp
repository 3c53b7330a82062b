// Goal: a listener accepts what comes, survives a lack of descriptors, and ends when it is told to.
#include "net/listener.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <vector>

#include "net/connect.h"
#include "tests/support/async.h"

namespace evlua::test {

namespace {

using net::Address;
using net::Listener;
using net::Socket;
using Accepted = Result<Socket>;

Result<Listener> listen_on(const std::string& text, bool reuse_port = false) {
  const Result<Address> address = Address::parse(text);
  if (!address) return fail(address.error());
  net::ListenOptions options;
  options.reuse_port = reuse_port;
  return net::listen(*address, options);
}

bool exists(const std::string& path) {
  struct stat info {};
  return ::lstat(path.c_str(), &info) == 0;
}

/// A path in a directory of its own.
class Place {
 public:
  Place() { CHECK(::mkdtemp(directory_) != nullptr); }
  ~Place() {
    (void)::unlink(path().c_str());
    CHECK(::rmdir(directory_) == 0);
  }
  std::string path() const { return std::string(directory_) + "/socket"; }
  std::string address() const { return "unix:" + path(); }

 private:
  char directory_[32] = "/tmp/evlua-listen-XXXXXX";
};

/// The family's own way from end to end.
Task<void> meet(Listener& listener) {
  const Result<Socket> near = co_await net::connect(listener.local_address(), patience());
  CHECK(near);
  const Accepted far = co_await listener.accept(patience());
  CHECK(far);
  if (!near || !far) co_return;
  char byte = 'x';
  IoAwait send = io::send(near->fd(), &byte, 1);
  const Result<std::int32_t> sent = co_await send;
  CHECK(sent.value_or(0) == 1);
  IoAwait recv = io::recv(far->fd(), &byte, 1);
  const Result<std::int32_t> got = co_await recv;
  CHECK(got.value_or(0) == 1);
}

Task<void> every_family(Env&) {
  const Place place;
  const std::string abstract = "unix:@evlua-test-" + std::to_string(::getpid());
  for (const std::string& address : {std::string("127.0.0.1:0"), place.address(), abstract}) {
    CAPTURE(address);
    Result<Listener> listener = listen_on(address);
    CHECK(listener);
    if (!listener) continue;
    if (!listener->local_address().is_unix()) CHECK(listener->local_address().port() != 0);
    if (listener->local_address().is_unix()) CHECK(listener->local_address().to_string() == address);
    co_await meet(*listener);
    co_await meet(*listener);
    co_await listener->close();
    CHECK_FALSE(listener->is_open());
    const Accepted closed = co_await listener->accept();
    CHECK((!closed && closed.error().is(EBADF)));
    co_await listener->close();
  }
}

Task<void> in_use(Env&) {
  const Place place;
  for (const std::string& address : {std::string("127.0.0.1:0"), place.address()}) {
    Result<Listener> first = listen_on(address);
    CHECK(first);
    if (!first) continue;
    const Result<Listener> second = listen_on(first->local_address().to_string());
    CHECK_FALSE(second);
    if (second) continue;
    CHECK(second.error().is(EADDRINUSE));
    CHECK(second.error().message() == "address already in use");
    // The failed attempt did it no harm, but for a Unix socket it has knocked.
    if (first->local_address().is_unix()) {
      const Accepted knocked = co_await first->accept(patience());
      CHECK(knocked);
    }
    co_await meet(*first);
    co_await first->close();
  }
}

Task<void> shared_port(Env&) {
  Result<Listener> first = listen_on("127.0.0.1:0", true);
  CHECK(first);
  if (!first) co_return;
  Result<Listener> second = listen_on(first->local_address().to_string(), true);
  CHECK(second);
  if (!second) co_return;
  CHECK(first->local_address().port() == second->local_address().port());
  // The kernel spreads by a hash of the addresses: so many do not all go one way.
  std::vector<Socket> sockets;
  int at_first = 0;
  int at_second = 0;
  for (int round = 0; round < 64; ++round) {
    Result<Socket> near = co_await net::connect(first->local_address(), patience());
    CHECK(near);
    if (near) sockets.push_back(std::move(*near));
  }
  for (int round = 0; round < 64; ++round) {
    const Accepted one = co_await first->accept(soon());
    if (!one) break;
    ++at_first;
  }
  while (at_first + at_second < 64) {
    const Accepted one = co_await second->accept(patience());
    CHECK(one);
    if (!one) break;
    ++at_second;
  }
  CHECK(at_first > 0);
  CHECK(at_second > 0);
  co_await first->close();
  co_await second->close();
}

Task<void> socket_files(Env&) {
  const Place place;
  {
    const Result<Listener> dropped = listen_on(place.address());
    CHECK(dropped);
    CHECK(exists(place.path()));
  }
  CHECK_FALSE(exists(place.path()));

  // What a killed server leaves is replaced.
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const Result<Address> address = Address::parse(place.address());
  CHECK(::bind(fd, address->get(), address->length()) == 0);
  ::close(fd);
  CHECK(exists(place.path()));
  Result<Listener> listener = listen_on(place.address());
  CHECK(listener);
  if (listener) co_await meet(*listener);
  if (listener) co_await listener->close();
  CHECK_FALSE(exists(place.path()));

  // Any other file is not.
  const int file = ::open(place.path().c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
  ::close(file);
  const Result<Listener> refused = listen_on(place.address());
  CHECK((!refused && refused.error().is(EADDRINUSE)));
  CHECK(exists(place.path()));
}

Task<void> waits_end(Env& env) {
  Result<Listener> listener = listen_on("127.0.0.1:0");
  CHECK(listener);
  if (!listener) co_return;
  const Accepted late = co_await listener->accept(soon());
  CHECK((!late && late.error().is(ETIMEDOUT)));
  CHECK((!late && late.error().op == OpCode::accept));

  std::optional<Accepted> cancelled;
  TaskScope scope(env.home);
  scope.spawn(keep(listener->accept(), cancelled));
  co_await linger();
  const Accepted second = co_await listener->accept(patience());
  CHECK((!second && second.error().is(EBUSY)));
  scope.cancel();
  co_await scope.join();
  CHECK((cancelled && !*cancelled && cancelled->error().is(ECANCELED)));
  co_await meet(*listener);

  std::optional<Accepted> closed;
  TaskScope closing(env.home);
  closing.spawn(keep(listener->accept(), closed));
  co_await linger();
  co_await listener->close();
  co_await closing.join();
  CHECK((closed && !*closed && closed->error().is(ECANCELED)));
}

/// While it lives the process gets no new descriptor.
class NoDescriptors {
 public:
  NoDescriptors() {
    ::getrlimit(RLIMIT_NOFILE, &before_);
    const int next = ::fcntl(0, F_DUPFD_CLOEXEC, 0);
    ::close(next);
    rlimit none = before_;
    none.rlim_cur = static_cast<rlim_t>(next);
    CHECK(::setrlimit(RLIMIT_NOFILE, &none) == 0);
  }
  ~NoDescriptors() { ::setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  rlimit before_{};
};

Duration processor_time() {
  timespec time{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return time.tv_sec * kSecond + time.tv_nsec;
}

Task<void> shortage(Env& env) {
  Result<Listener> listener = listen_on("127.0.0.1:0");
  CHECK(listener);
  if (!listener) co_return;
  const Result<Socket> near = co_await net::connect(listener->local_address(), patience());
  CHECK(near);
  std::optional<Accepted> accepted;
  TaskScope scope(env.home);
  {
    const NoDescriptors none;
    scope.spawn(keep(listener->accept(patience()), accepted));
    const Duration before = processor_time();
    co_await linger(300 * kMillisecond);
    CHECK(processor_time() - before < 150 * kMillisecond);
    CHECK_FALSE(accepted.has_value());
  }
  co_await scope.join();
  CHECK((accepted && *accepted));
  co_await listener->close();
}

Task<void> shortage_that_lasts(Env& env) {
  Result<Listener> listener = listen_on("127.0.0.1:0");
  CHECK(listener);
  if (!listener) co_return;
  const Result<Socket> near = co_await net::connect(listener->local_address(), patience());
  CHECK(near);
  {
    const NoDescriptors none;
    std::optional<Accepted> late;
    TaskScope waiting(env.home);
    waiting.spawn(keep(listener->accept(soon()), late));
    const bool ended = co_await comes_true([&late] { return late.has_value(); });
    CHECK(ended);
    CHECK((late && !*late && late->error().is(ETIMEDOUT)));
    co_await waiting.join();

    std::optional<Accepted> cancelled;
    TaskScope scope(env.home);
    scope.spawn(keep(listener->accept(), cancelled));
    co_await linger(20 * kMillisecond);
    scope.cancel();
    co_await scope.join();
    CHECK((cancelled && !*cancelled && cancelled->error().is(ECANCELED)));

    std::optional<Accepted> closed;
    TaskScope closing(env.home);
    closing.spawn(keep(listener->accept(), closed));
    co_await linger(20 * kMillisecond);
    co_await listener->close();
    co_await closing.join();
    CHECK((closed && !*closed && closed->error().is(ECANCELED)));
  }
}

}  // namespace

TEST_CASE("TCP, Unix paths and abstract names") { on_backends(every_family); }
TEST_CASE("an address in use is an error of its own") { on_backends(in_use); }
TEST_CASE("several listeners share a port") { on_backends(shared_port); }
TEST_CASE("a socket file goes with its listener") { on_backends(socket_files); }
TEST_CASE("accepting ends at a deadline, by cancellation, by closing") { on_backends(waits_end); }
TEST_CASE("a lack of descriptors is waited out without spinning") { on_backends(shortage); }
TEST_CASE("a lack of descriptors does not keep anybody") { on_backends(shortage_that_lasts); }

}  // namespace evlua::test
