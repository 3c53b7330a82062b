#include "tools/certificates.h"

#include <ctime>
#include <utility>

#include "core/blocking.h"
#include "core/log.h"
#include "core/worker.h"
#include "tools/file_state.h"

namespace evlua::tools {

namespace {

constexpr Duration kLookInterval = 5 * kSecond;

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
std::string Certificates::state_of_files() const {
  std::string state;
  for (const tls::CertificateFiles& files : options_.certificates) {
    state += file_state(files.certificate);
    state += file_state(files.key);
    state += file_state(files.ocsp);
  }
  state += file_state(options_.client_ca);
  return state;
}

void Certificates::reload(bool asked) {
  std::string state = state_of_files();
  const bool expired = good_until_ && std::time(nullptr) >= *good_until_;
  if (!asked && !expired && state == state_) return;
  state_ = std::move(state);  // the same broken files are complained about once
  good_until_.reset();
  auto context = tls::ServerContext::load(options_, keys_);
  if (context) {
    good_until_ = (*context)->good_until();
    slot_.set(std::move(*context));
    Log::info("certificates read again");
  } else {
    Log::error("the certificates stay as they were: %s", context.error().c_str());
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
