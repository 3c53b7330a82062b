// evluaserver's certificates: read at start, and again on SIGHUP, when a file has changed, or when an OCSP response has
// expired. Connections that are open keep what they began with; files that do not fit leave the old certificates in
// use. Responses are read without the rest.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "core/blocking_pool.h"
#include "core/event.h"
#include "core/task.h"
#include "net/tls/context_slot.h"

namespace evlua::tools {

class Certificates {
 public:
  using Loaded = tl::expected<std::unique_ptr<Certificates>, std::string>;

  /// Reads the files; it blocks. With `development`, and no files, a certificate is made instead.
  static Loaded load(const tls::ServerOptions& options, bool development);

  tls::ContextSlot& slot() noexcept { return slot_; }

  /// Keeps watch until it is cancelled.
  Task<void> watch(BlockingPool& pool);
  /// [any thread]
  void reload_soon() noexcept { wanted_.set(); }

 private:
  Certificates(tls::ServerOptions options, std::shared_ptr<tls::TicketKeys> keys,
               std::shared_ptr<const tls::ServerContext> context)
      : options_(std::move(options)),
        keys_(std::move(keys)),
        good_until_(context->good_until()),
        slot_(std::move(context)),
        certificates_(state_of_certificates()),
        responses_(state_of_responses()) {}
  std::string state_of_certificates() const;
  std::string state_of_responses() const;
  void use(std::shared_ptr<const tls::ServerContext> context);
  void reload(bool asked);

  const tls::ServerOptions options_;
  const std::shared_ptr<tls::TicketKeys> keys_;
  std::optional<std::int64_t> good_until_;  // as the context says
  tls::ContextSlot slot_;
  std::string certificates_;  // the state of their files when they were read, and of keys and authorities
  std::string responses_;     // that of the files with OCSP responses
  Event wanted_;
};

}  // namespace evlua::tools
