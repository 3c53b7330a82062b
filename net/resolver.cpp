#include "net/resolver.h"

#include <netdb.h>

#include <atomic>
#include <cerrno>

#include "core/blocking_pool.h"
#include "core/event.h"
#include "core/worker.h"

namespace evlua::net {

namespace {

/// Shared by the caller and the pool; the last one to let go deletes it.
struct Lookup : PoolJob {
  std::string host;
  std::string service;
  int status = 0;
  int error = 0;
  std::vector<Address> found;
  Event done;
  std::atomic<int> holders{2};

  void release() noexcept {
    // acq_rel: the last holder sees everything the other one did.
    if (holders.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
  }

  void look_up() noexcept {
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_ADDRCONFIG | AI_NUMERICSERV;
    addrinfo* list = nullptr;
    status = ::getaddrinfo(host.c_str(), service.c_str(), &hints, &list);
    error = errno;
    for (addrinfo* entry = list; entry != nullptr; entry = entry->ai_next) {
      found.push_back(Address::from(entry->ai_addr, entry->ai_addrlen));
    }
    if (list != nullptr) ::freeaddrinfo(list);
  }
};

}  // namespace

Task<Result<std::vector<Address>>> resolve(std::string host, std::uint16_t port, Instant deadline) {
  const Result<Address> numeric = Address::from_host(host, port);
  if (numeric) co_return std::vector<Address>{*numeric};
  // getaddrinfo would look up what is before the zero.
  if (host.find('\0') != std::string::npos) {
    co_return fail(Error{EAI_NONAME, ErrorDomain::resolver, OpCode::resolve});
  }
  auto* lookup = new Lookup;
  lookup->job_class = PoolJob::Class::slow;
  lookup->host = std::move(host);
  lookup->service = std::to_string(port);
  lookup->run = [](Runnable& self) noexcept {
    auto& job = static_cast<Lookup&>(self);
    job.look_up();
    job.done.set();
    job.release();
  };
  Worker::current().pool().submit(*lookup);
  const Result<void> answered = co_await lookup->done.wait(deadline);
  Result<std::vector<Address>> result = fail(Error{0, ErrorDomain::resolver, OpCode::resolve});
  if (!answered) {
    result = fail(answered.error().code, OpCode::resolve);
    // A call that has not begun need not begin.
    if (Worker::current().pool().try_withdraw(*lookup)) lookup->release();
  } else if (lookup->status == EAI_SYSTEM) {
    result = fail(lookup->error, OpCode::resolve);
  } else if (lookup->status != 0) {
    result = fail(Error{lookup->status, ErrorDomain::resolver, OpCode::resolve});
  } else {
    result = std::move(lookup->found);
  }
  lookup->release();
  co_return result;
}

}  // namespace evlua::net
