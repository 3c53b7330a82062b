#include "net/listener.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "core/io_await.h"
#include "core/worker.h"

namespace evlua::net {

namespace {

bool is_shortage(const Error& error) noexcept {
  return error.is(EMFILE) || error.is(ENFILE) || error.is(ENOBUFS) || error.is(ENOMEM);
}

/// The connection died in the queue; accept(2) says to go on.
bool is_transient(const Error& error) noexcept {
  return error.is(ECONNABORTED) || error.is(EPROTO) || error.is(EPERM) || error.is(ENETDOWN) || error.is(EHOSTDOWN) ||
         error.is(EHOSTUNREACH) || error.is(ENETUNREACH) || error.is(ENONET);
}

}  // namespace

Listener::Listener(Socket socket, std::string unlink_path)
    : socket_(std::move(socket)), unlink_path_(std::move(unlink_path)) {}

Listener::~Listener() {
  if (socket_.is_open() && !unlink_path_.empty()) (void)::unlink(unlink_path_.c_str());
}

Task<Result<Socket>> Listener::accept(Instant deadline) {
  if (!is_open()) co_return fail(EBADF, OpCode::accept);
  if (busy_) co_return fail(EBUSY, OpCode::accept);
  busy_ = true;
  Result<Socket> accepted = fail(ECANCELED, OpCode::accept);
  Duration pause = 5 * kMillisecond;
  while (!closing_) {
    IoAwait op(OpCode::accept, socket_.fd());
    op.until(deadline);
    accepting_ = &op;
    const Result<std::int32_t> fd = co_await op;
    accepting_ = nullptr;
    if (fd) {
      accepted = Socket(*fd);
      accepted->set_no_delay();
      break;
    }
    accepted = fail(fd.error());
    if (is_transient(fd.error())) continue;
    if (!is_shortage(fd.error())) break;
    if (Worker::current().backend().now() >= deadline) {
      accepted = fail(ETIMEDOUT, OpCode::accept);
      break;
    }
    IoAwait nap(OpCode::sleep, -1, std::min(deadline, deadline_after(Worker::current().backend().now(), pause)));
    accepting_ = &nap;
    const Result<std::int32_t> slept = co_await nap;
    accepting_ = nullptr;
    accepted = fail(slept ? ECANCELED : slept.error().code, OpCode::accept);  // unless the next attempt succeeds
    if (!slept) break;
    pause = std::min<Duration>(pause * 2, kSecond);
  }
  busy_ = false;
  if (closing_) idle_->set();
  co_return accepted;
}

Result<void> Listener::begin_watch(Op& op) noexcept {
  if (!is_open()) return fail(EBADF, OpCode::accept);
  if (busy_) return fail(EBUSY, OpCode::accept);
  busy_ = true;
  accepting_ = &op;
  op.code = OpCode::poll;
  op.fd = socket_.fd();
  op.args.poll = {POLLIN};
  return {};
}

void Listener::end_watch() noexcept {
  busy_ = false;
  accepting_ = nullptr;
  if (closing_) idle_->set();
}

Task<void> Listener::close() {
  if (!is_open()) co_return;
  closing_ = true;
  if (busy_) {
    if (accepting_ != nullptr) Worker::cancel(*accepting_);
    (void)co_await idle_->wait();
  }
  if (!unlink_path_.empty()) (void)::unlink(unlink_path_.c_str());
  const int fd = socket_.release();
  (void)co_await io::close(fd);
}

Listener adopt_listener(int fd) {
  Socket socket(fd);
  socket.set_mode();
  std::string path(socket.local_address().path());
  return Listener(std::move(socket), std::move(path));
}

Result<Listener> listen(const Address& address, const ListenOptions& options) {
  Result<Socket> socket = Socket::make(address.family());
  if (!socket) return fail(socket.error());
  const int on = 1;
  if (!address.is_unix()) {
    (void)::setsockopt(socket->fd(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (options.reuse_port && ::setsockopt(socket->fd(), SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) != 0) {
      return fail(errno);
    }
  }
  const Result<void> bound = socket->bind(address, SOCK_STREAM);
  if (!bound) return fail(bound.error());
  if (::listen(socket->fd(), options.backlog) != 0) return fail(errno);
  return Listener(std::move(*socket), std::string(address.path()));
}

}  // namespace evlua::net
