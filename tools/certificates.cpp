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
std::string Certificates::state_of_certificates() const {
  std::string state;
  for (const tls::CertificateFiles& files : options_.certificates) {
    state += file_state(files.certificate);
    state += file_state(files.key);
  }
  state += file_state(options_.client_ca);
  return state;
}

std::string Certificates::state_of_responses() const {
  std::string state;
  for (const tls::CertificateFiles& files : options_.certificates) state += file_state(files.ocsp);
  return state;
}

void Certificates::use(std::shared_ptr<const tls::ServerContext> context) {
  good_until_ = context->good_until();
  slot_.set(std::move(context));
}

void Certificates::reload(bool asked) {
  std::string certificates = state_of_certificates();
  std::string responses = state_of_responses();
  const bool expired = good_until_ && std::time(nullptr) >= *good_until_;
  const bool all = asked || certificates != certificates_;
  if (!all && !expired && responses == responses_) return;
  certificates_ = std::move(certificates);  // the same broken files are complained about once
  responses_ = std::move(responses);
  if (all) {
    auto context = tls::ServerContext::load(options_, keys_);
    if (context) {
      use(std::move(*context));
      Log::info("certificates read again");
      return;
    }
    Log::error("the certificates stay as they were: %s", context.error().c_str());
  }
  // Not the keys, which root alone may be able to read: a response that has expired must not go out for that.
  use(slot_.get()->stapled_again(options_));
  if (!all) Log::info("OCSP responses read again");
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
