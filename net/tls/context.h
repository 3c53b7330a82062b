// How a server speaks TLS: its certificates, chosen by the name that the client asks for, whether clients must show
// one, which protocols are offered. TLS 1.2 and 1.3 (RFC 5246, RFC 8446); forward secrecy and authenticated encryption
// always; no renegotiation, no compression, no early data.
//
// Immutable: new certificates make a new context, and connections keep the one they began with. [any thread]
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <vector>

#include "net/tls/ticket_keys.h"

using SSL = struct ssl_st;
using SSL_CTX = struct ssl_ctx_st;

namespace evlua::tls {

/// Paths of PEM files, but for the OCSP response, which is DER.
struct CertificateFiles {
  std::string certificate;  ///< the chain, leaf first
  std::string key;
  std::string ocsp;  ///< a response to staple, as long as it is of use; may be empty
};

enum class ClientCertificates : std::uint8_t {
  off,
  optional,  ///< one that is shown must be good
  required,
};

struct ServerOptions {
  std::vector<CertificateFiles> certificates;  ///< the first one is for clients that ask for no name we know
  ClientCertificates client_certificates = ClientCertificates::off;
  std::string client_ca;  ///< PEM file of whom we trust to sign them
  bool http2 = true;      ///< offer "h2" before "http/1.1"
};

class ServerContext {
 public:
  using Made = tl::expected<std::shared_ptr<const ServerContext>, std::string>;

  /// Reads the files (it blocks). The error is for people: which file, and what is wrong with it.
  static Made load(const ServerOptions& options, std::shared_ptr<TicketKeys> keys);
  /// With a self-signed certificate for `localhost`, made here and kept nowhere: for development.
  static Made make_development(const ServerOptions& options, std::shared_ptr<TicketKeys> keys);

  /// The same certificates and keys, out of memory, with the OCSP responses read again (it blocks): for who may not
  /// read keys any more. A response that cannot be read stays as it was, as long as it is of use; the log says so.
  std::shared_ptr<const ServerContext> stapled_again(const ServerOptions& options) const;

  ~ServerContext();
  ServerContext(const ServerContext&) = delete;
  ServerContext& operator=(const ServerContext&) = delete;

  SSL_CTX* default_context() const noexcept { return certificates_.front().context.get(); }
  /// For a name in lower case; null when no certificate has it.
  SSL_CTX* find(std::string_view server_name) const;
  bool offers_http2() const noexcept { return http2_; }
  /// When an OCSP response begins or ceases to be true, in seconds since 1970: to be loaded again then.
  std::optional<std::int64_t> good_until() const noexcept { return good_until_; }
  TicketKeys& ticket_keys() const noexcept { return *keys_; }

 private:
  struct FreeContext {
    void operator()(SSL_CTX* context) const noexcept;
  };
  using ContextPointer = std::unique_ptr<SSL_CTX, FreeContext>;
  struct Certificate {
    ContextPointer context;
    std::string response;  // what is stapled; empty: nothing
  };

  explicit ServerContext(std::shared_ptr<TicketKeys> keys) : keys_(std::move(keys)) {}
  static Made make(const ServerOptions& options, std::shared_ptr<TicketKeys> keys, bool development);
  ContextPointer make_context();
  ContextPointer copy_context(SSL_CTX* from);
  tl::expected<void, std::string> add(const CertificateFiles& files);
  tl::expected<void, std::string> use_ocsp(Certificate& certificate, const std::string& path);
  tl::expected<void, std::string> staple(Certificate& certificate, const std::string& path, std::string response);
  tl::expected<void, std::string> add_development();
  tl::expected<void, std::string> check_clients(const ServerOptions& options);
  void resume_only(const ServerOptions& options, const std::string& authorities);
  void mark_sessions(const Certificate& certificate) const;
  void keep(Certificate certificate);

  std::shared_ptr<TicketKeys> keys_;
  std::vector<Certificate> certificates_;                 // in the order of the options
  std::map<std::string, SSL_CTX*, std::less<>> by_name_;  // "*.example.org" as it is written
  std::optional<std::int64_t> good_until_;
  std::array<std::uint8_t, 32> resumable_{};  // of whose sessions: a hash of what they were asked for
  bool http2_ = true;
};

}  // namespace evlua::tls
