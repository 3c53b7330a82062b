// One TLS connection of a server, without I/O: ciphertext goes in and plaintext comes out, and the other way round. The
// caller carries the bytes. One thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "core/bytes.h"
#include "net/tls/context.h"

namespace evlua::tls {

/// The certificate that a client has shown, and that was found to be good.
struct PeerCertificate {
  std::string subject;  ///< as RFC 2253 writes names: "CN=ann,O=Example"
  std::string issuer;
  std::string serial;       ///< hexadecimal
  std::string fingerprint;  ///< SHA-256 of the DER form, hexadecimal
  std::string not_before;   ///< as RFC 3339 writes times
  std::string not_after;
  std::string pem;
};

/// What was agreed on; does not change once the handshake is over.
struct Session {
  const char* version = "";  ///< "TLSv1.3"
  const char* cipher = "";   ///< "TLS_AES_128_GCM_SHA256"
  bool http2 = false;        ///< by ALPN
  bool has_alpn = false;
  bool resumed = false;
  std::string server_name;  ///< that the client has asked for, if any
  std::unique_ptr<PeerCertificate> peer;
};

class Engine {
 public:
  explicit Engine(std::shared_ptr<const ServerContext> context);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  enum class State : std::uint8_t {
    handshake,
    open,
    ended,   ///< the peer has said that it sends no more
    failed,  ///< see error(); what is outgoing tells the peer
  };
  State state() const noexcept { return state_; }

  /// Takes all of `ciphertext`; what it holds for us is appended to `plaintext`.
  State receive(std::string_view ciphertext, Bytes& plaintext);
  /// Appends to outgoing(). False, with state failed, when it cannot. REQUIRES: the handshake is over.
  bool send(std::string_view plaintext);
  /// Says that we send no more.
  void end();

  /// Ciphertext for the peer: handshake, alerts, data. The caller takes it away.
  Bytes& outgoing() noexcept { return outgoing_; }

  /// REQUIRES: the handshake is over.
  const Session& session() const noexcept { return session_; }
  /// Why it failed, for a log.
  const std::string& error() const noexcept { return error_; }

 private:
  struct Bio;
  struct FreeSsl {
    void operator()(SSL* ssl) const noexcept;
  };

  bool shake_hands();
  void note_session();
  void read_all(Bytes& plaintext);
  void fail();

  std::shared_ptr<const ServerContext> context_;
  std::unique_ptr<SSL, FreeSsl> ssl_;
  std::string_view incoming_;  // while receive runs
  Bytes outgoing_;
  Session session_;
  std::string error_;
  State state_ = State::handshake;
};

}  // namespace evlua::tls
