#include "tools/certificates.h"

#include <sys/stat.h>

#include <cstdio>
#include <utility>

#include "core/blocking.h"
#include "core/worker.h"

namespace evlua::tools {

namespace {

constexpr Duration kLookInterval = 5 * kSecond;

void add_state(std::string& to, const std::string& path) {
  struct stat status {};
  if (path.empty()) return;
  if (::stat(path.c_str(), &status) != 0) status = {};
  for (const std::int64_t part : {std::int64_t{status.st_mtim.tv_sec}, std::int64_t{status.st_mtim.tv_nsec},
                                  static_cast<std::int64_t>(status.st_ino), std::int64_t{status.st_size}}) {
    to += std::to_string(part) + ' ';
  }
}

}  // namespace

Certificates::Loaded Certificates::load(const tls::ServerOptions& options, bool development) {
  auto keys = std::make_shared<tls::TicketKeys>();
  const bool made_here = development && options.certificates.empty();
  auto context =
      made_here ? tls::ServerContext::make_development(options, keys) : tls::ServerContext::load(options, keys);
  if (!context) return tl::unexpected(context.error());
  return std::unique_ptr<Certificates>(new Certificates(options, std::move(keys), std::move(*context)));
}

/// What changes when a file is written or replaced.
std::string Certificates::file_state() const {
  std::string state;
  for (const tls::CertificateFiles& files : options_.certificates) {
    add_state(state, files.certificate);
    add_state(state, files.key);
    add_state(state, files.ocsp);
  }
  add_state(state, options_.client_ca);
  return state;
}

void Certificates::reload(bool asked) {
  std::string state = file_state();
  if (!asked && state == state_) return;
  state_ = std::move(state);  // the same broken files are complained about once
  auto context = tls::ServerContext::load(options_, keys_);
  if (context) {
    slot_.set(std::move(*context));
    std::fprintf(stderr, "evluaserver: certificates read again\n");
  } else {
    std::fprintf(stderr, "evluaserver: the certificates stay as they were: %s\n", context.error().c_str());
  }
}

Task<void> Certificates::watch(BlockingPool& pool) {
  if (options_.certificates.empty()) co_return;
  while (true) {
    const Result<void> asked = co_await wanted_.wait(deadline_after(Worker::current().now(), kLookInterval));
    if (!asked && asked.error().is(ECANCELED)) co_return;
    wanted_.reset();
    auto reloaded = blocking(pool, [this, now = asked.has_value()] {
      reload(now);
      return true;
    });
    (void)co_await reloaded;
  }
}

}  // namespace evlua::tools
