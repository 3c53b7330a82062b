// A bare host for one backend, without worker or scheduler, and the same helpers for real and simulated sockets and
// files. The thread that calls `start` is the owner and calls everything but `post`.
//
// Descriptors handed to `own` are closed at the end. A backend may be destroyed before with operations in flight.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>

#include "backends/sim/world.h"
#include "core/backend.h"
#include "core/blocking_pool.h"
#include "tests/backends/test_op.h"
#include "tests/support/descriptors.h"
#include "tests/support/doctest.h"

namespace evlua::test {

enum class Family { unix_domain, tcp };

class Harness final : public BackendHost {
 public:
  static constexpr Duration kLimit = 30 * kSecond;  // of anything; virtual or real

  /// `world` is null for a real backend.
  Harness(std::unique_ptr<Backend> backend, SimWorld* world)
      : world_(world), backend_(std::move(backend)), waker_(backend_.get()) {
    if (world == nullptr) {
      char name[] = "/tmp/evlua-test-XXXXXX";
      REQUIRE(::mkdtemp(name) != nullptr);
      directory_ = name;
    } else {
      directory_ = "/tmp";
      world->make_directory(directory_);
    }
  }

  ~Harness() {
    destroy_backend();
    for (const int fd : owned_) CHECK((world_ != nullptr ? world_->close(fd) : ::close(fd)) == 0);
    if (world_ == nullptr) {
      std::error_code ignored;
      std::filesystem::remove_all(directory_, ignored);
    }
  }

  Harness(const Harness&) = delete;
  Harness& operator=(const Harness&) = delete;

  /// Must precede everything else; the calling thread becomes the owner.
  Result<void> start() { return backend_->start(*this); }

  Backend& backend() noexcept { return *backend_; }
  SimWorld* world() noexcept { return world_; }
  bool is_simulated() const noexcept { return world_ != nullptr; }

  /// Ends the backend with whatever is in flight; such operations will never be ready.
  void destroy_backend() {
    delete backend_.release();  // not reset: the pool may still post to it while it ends
    for (TestOp* op : in_flight_) op->state.store(0, std::memory_order_relaxed);
    in_flight_.clear();
    const std::lock_guard lock(mutex_);
    inbox_.clear();  // as a worker that ends: its backend's messages have no reader any more
  }

  // BackendHost. [any thread]
  void post(Runnable& message) noexcept override {
    {
      const std::lock_guard lock(mutex_);
      inbox_.push_back(&message);
    }
    waker_->wake(nullptr);
  }
  BlockingPool& pool() noexcept override { return pool_; }

  /// Something was posted and has not run yet.
  bool has_messages() {
    const std::lock_guard lock(mutex_);
    return !inbox_.empty();
  }

  // -- running ------------------------------------------------------------------------------------------------------

  void submit(TestOp& op) {
    REQUIRE(!op.in_flight());
    REQUIRE(op.times_ready == 0);
    op.owner = nullptr;
    op.buffer = kNoBuffer;
    op.state.store(Op::kInFlight, std::memory_order_relaxed);
    in_flight_.insert(&op);
    backend_->submit(op);
    CHECK(op.times_ready == 0);
  }

  void cancel(TestOp& op) { backend_->cancel(op); }

  void poll() {
    ReadyList ready;
    backend_->poll(ready);
    take(ready);
  }

  void wait(Instant deadline) {
    ReadyList ready;
    backend_->wait(ready, deadline);
    take(ready);
  }

  /// Waits until `predicate` holds; false when that takes absurdly long.
  template <class Predicate>
  bool run_until(Predicate predicate, Duration limit = kLimit) {
    const Instant deadline = deadline_after(backend_->now(), limit);
    while (!predicate()) {
      if (backend_->now() >= deadline) return false;
      wait(deadline);
    }
    return true;
  }

  /// Runs for a while whatever happens: what is to come has time to come.
  void linger(Duration time = 5 * kMillisecond) {
    const Instant deadline = deadline_after(backend_->now(), time);
    while (backend_->now() < deadline) wait(deadline);
  }

  std::int32_t finish(TestOp& op) {
    REQUIRE(run_until([&op] { return op.is_ready(); }));
    REQUIRE(op.times_ready == 1);
    return op.res;
  }

  std::int32_t run(TestOp& op) {
    submit(op);
    return finish(op);
  }

  /// Sends all of it, however often it takes. False on an error.
  bool send_all(int fd, std::string_view text) {
    while (!text.empty()) {
      TestOp op;
      set_send(op, fd, text);
      const std::int32_t sent = run(op);
      if (sent <= 0) return false;
      text.remove_prefix(static_cast<std::size_t>(sent));
    }
    return true;
  }

  /// Receives so many bytes, fewer at the end of the stream or on an error.
  std::string receive(int fd, std::size_t bytes) {
    std::string text(bytes, '\0');
    std::size_t got = 0;
    while (got < bytes) {
      TestOp op;
      set_recv(op, fd, text.data() + got, bytes - got);
      const std::int32_t received = run(op);
      if (received <= 0) break;
      got += static_cast<std::size_t>(received);
    }
    text.resize(got);
    return text;
  }

  // -- descriptors --------------------------------------------------------------------------------------------------

  /// Closed at the end, if not before.
  int own(int fd) {
    if (fd >= 0) owned_.insert(fd);
    return fd;
  }

  /// Through the backend, which may remember things about a descriptor.
  void close(int fd) {
    owned_.erase(fd);
    TestOp op(OpCode::close, fd);
    CHECK(run(op) == 0);
  }

  /// Somebody else closed it.
  void disown(int fd) { owned_.erase(fd); }

  /// A connected pair.
  std::array<int, 2> pair(Family family = Family::unix_domain) {
    std::array<int, 2> fds{-1, -1};
    if (world_ != nullptr) {
      fds = world_->socket_pair();
    } else if (family == Family::unix_domain) {
      REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | type_flags(), 0, fds.data()) == 0);
    } else {
      sockaddr_storage address;
      socklen_t length;
      const int listener = listen(address, length);
      fds[0] = socket();
      TestOp connect;
      TestOp accept;
      set_connect(connect, fds[0], address, length);
      set_accept(accept, listener);
      submit(connect);
      submit(accept);
      REQUIRE(finish(connect) == 0);
      fds[1] = finish(accept);
      REQUIRE(fds[1] >= 0);
      close(listener);
    }
    own(fds[0]);
    own(fds[1]);
    return fds;
  }

  /// A TCP socket.
  int socket() {
    if (world_ != nullptr) return own(world_->socket());
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | type_flags(), 0);
    REQUIRE(fd >= 0);
    return own(fd);
  }

  /// A TCP listener on the loopback interface; tells its address.
  int listen(sockaddr_storage& address, socklen_t& length) {
    address = {};
    auto& inet = reinterpret_cast<sockaddr_in&>(address);
    length = sizeof(inet);
    inet.sin_family = AF_INET;
    inet.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (world_ != nullptr) {
      inet.sin_port = htons(next_port_++);
      return own(world_->listen(reinterpret_cast<sockaddr*>(&address), length));
    }
    const int fd = socket();
    REQUIRE(::bind(fd, reinterpret_cast<sockaddr*>(&address), length) == 0);
    REQUIRE(::listen(fd, 1024) == 0);
    REQUIRE(::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) == 0);
    return fd;
  }

  // -- files --------------------------------------------------------------------------------------------------------

  /// In a directory of this run's own.
  std::string path(const std::string& name) const { return directory_ + "/" + name; }

  void make_file(const std::string& at, std::string_view contents) {
    if (world_ != nullptr) return world_->make_file(at, contents);
    const int fd = ::open(at.c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);
    REQUIRE(fd >= 0);
    REQUIRE(::write(fd, contents.data(), contents.size()) == static_cast<ssize_t>(contents.size()));
    ::close(fd);
  }

  void make_fifo(const std::string& at) {
    if (world_ != nullptr) return world_->make_fifo(at);
    REQUIRE(::mkfifo(at.c_str(), 0644) == 0);
  }

  int open(const std::string& at, int flags) {
    TestOp op;
    set_open(op, at, flags);
    return own(run(op));
  }

  /// What must hold when a test is over.
  void check_idle() {
    if (backend_ == nullptr) return;
    CHECK(in_flight_.empty());
    CHECK(backend_->in_flight() == 0);
    backend_->buffers().reclaim();
    CHECK(backend_->buffers().lent() == 0);
  }

 private:
  int type_flags() const noexcept { return backend_->capabilities().nonblocking_sockets ? SOCK_NONBLOCK : 0; }

  void take(ReadyList& ready) {
    while (Op* done = ready.pop_front()) {
      auto& op = static_cast<TestOp&>(*done);
      ++op.times_ready;
      REQUIRE(op.times_ready == 1);
      REQUIRE(in_flight_.erase(&op) == 1);
      // The state bits are the worker's: the backend has left them alone.
      REQUIRE(op.state.exchange(0, std::memory_order_relaxed) == Op::kInFlight);
    }
    std::deque<Runnable*> messages;
    {
      const std::lock_guard lock(mutex_);
      messages.swap(inbox_);
    }
    for (Runnable* message : messages) message->run(*message);
  }

  SimWorld* world_;
  std::string directory_;
  std::uint16_t next_port_ = 8000;
  std::unordered_set<int> owned_;
  std::unordered_set<TestOp*> in_flight_;
  std::mutex mutex_;
  std::deque<Runnable*> inbox_;
  BlockingPool pool_;
  std::unique_ptr<Backend> backend_;  // the pool outlives it
  Backend* const waker_;              // the same, for other threads
};

}  // namespace evlua::test
