#include "net/dns/channel.h"

#include <ares.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "core/io_await.h"
#include "core/worker.h"

namespace evlua::net {

namespace {

// A server that does not answer is asked again after 2, 4 and 8 seconds, so that a look-up ends after 14 at most where
// there is one, and a lost packet costs no more than 2. (c-ares' own are 5 s and 4 tries.)
constexpr int kAttemptMs = 2000;
constexpr int kTries = 3;

ares_socket_t open_socket(int family, int type, int protocol, void*) {
  const int fd = ::socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol);
  const int on = 1;
  if (fd >= 0 && type == SOCK_STREAM) (void)::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return fd;
}

int close_socket(ares_socket_t fd, void*) { return ::close(fd); }

int connect_socket(ares_socket_t fd, const sockaddr* address, ares_socklen_t length, void*) {
  return ::connect(fd, address, length);
}

ares_ssize_t receive(ares_socket_t fd, void* data, std::size_t size, int flags, sockaddr* from, ares_socklen_t* length,
                     void*) {
  return ::recvfrom(fd, data, size, flags, from, length);
}

ares_ssize_t send(ares_socket_t fd, const iovec* parts, int count, void*) {
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(parts);
  message.msg_iovlen = static_cast<std::size_t>(count);
  return ::sendmsg(fd, &message, MSG_NOSIGNAL);
}

constexpr ares_socket_functions kSocketFunctions = {open_socket, close_socket, connect_socket, receive, send};

bool initialise_library() noexcept {
  static const bool good = ares_library_init(ARES_LIB_INIT_ALL) == ARES_SUCCESS;
  return good;
}

}  // namespace

Error dns_error(int status) noexcept {
  int code = EAI_FAIL;
  switch (status) {
    case ARES_ENOTFOUND:
    case ARES_ENONAME:
    case ARES_EBADNAME:
    case ARES_EBADQUERY: code = EAI_NONAME; break;
    case ARES_ENODATA: code = EAI_NODATA; break;
    case ARES_ESERVFAIL:
    case ARES_EREFUSED:
    case ARES_ENOTIMP:
    case ARES_ECONNREFUSED:
    case ARES_ETIMEOUT: code = EAI_AGAIN; break;
    case ARES_ENOMEM: code = EAI_MEMORY; break;
    default: break;
  }
  return Error{code, ErrorDomain::resolver, OpCode::resolve};
}

DnsChannel::~DnsChannel() {
  if (channel_ != nullptr) ares_destroy(channel_);
}

Result<void> DnsChannel::open(const DnsSettings& settings, bool only_files) {
  if (!initialise_library()) return fail(dns_error(ARES_ENOMEM));
  const Result<void> opened = sockets_.open();
  if (!opened) return fail(opened.error().code, OpCode::resolve);
  std::vector<char*> domains;
  for (const std::string& domain : settings.domains) domains.push_back(const_cast<char*>(domain.c_str()));
  char lookups[] = "fb";
  if (only_files) lookups[1] = '\0';
  ares_options options{};
  int mask = ARES_OPT_LOOKUPS | ARES_OPT_SOCK_STATE_CB | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES;
  options.lookups = lookups;
  options.sock_state_cb = on_socket_state;
  options.sock_state_cb_data = this;
  options.timeout = settings.attempt_ms > 0 ? settings.attempt_ms : kAttemptMs;
  options.tries = settings.tries > 0 ? settings.tries : kTries;
  if (!settings.search) domains.clear();  // ares_getaddrinfo does not know ARES_FLAG_NOSEARCH
  if (!settings.search || !domains.empty()) {
    mask |= ARES_OPT_DOMAINS;
    options.domains = domains.data();
    options.ndomains = static_cast<int>(domains.size());
  }
  int status = ares_init_options(&channel_, &options, mask);
  if (status != ARES_SUCCESS) {
    channel_ = nullptr;
    return fail(dns_error(status));
  }
  ares_set_socket_functions(channel_, &kSocketFunctions, nullptr);
  if (!settings.servers.empty()) status = ares_set_servers_ports_csv(channel_, settings.servers.c_str());
  if (status != ARES_SUCCESS) return fail(dns_error(status));
  return {};
}

void DnsChannel::on_socket_state(void* self, int fd, int readable, int writable) noexcept {
  static_cast<DnsChannel*>(self)->sockets_.watch(fd, readable != 0, writable != 0);
}

void DnsChannel::process() noexcept {
  PollSet::Ready ready[PollSet::kReadyMax];
  const int count = sockets_.ready(ready);
  for (int at = 0; at < count; ++at) {
    const auto& [fd, readable, writable] = ready[at];
    ares_process_fd(channel_, readable ? fd : ARES_SOCKET_BAD, writable ? fd : ARES_SOCKET_BAD);
  }
  if (count == 0) ares_process_fd(channel_, ARES_SOCKET_BAD, ARES_SOCKET_BAD);  // whose time is over
}

Task<Result<void>> DnsChannel::run(const bool& done, Instant deadline) {
  const TaskContext& context = co_await current_context();
  deadline = std::min(deadline, context.deadline);
  while (!done) {
    const Instant now = Worker::current().backend().now();
    if (now >= deadline) co_return fail(ETIMEDOUT, OpCode::resolve);
    timeval left{};
    Instant next = deadline;
    if (ares_timeout(channel_, nullptr, &left) != nullptr) {
      next = std::min(next, deadline_after(now, left.tv_sec * kSecond + left.tv_usec * kMicrosecond));
    }
    IoAwait op(OpCode::poll, sockets_.fd(), OpArgs{.poll = {POLLIN}});
    op.until(next);
    const Result<std::int32_t> ready = co_await op;
    if (!ready && !ready.error().is(ETIMEDOUT)) co_return fail(ready.error().code, OpCode::resolve);
    process();
  }
  co_return Result<void>();
}

}  // namespace evlua::net
