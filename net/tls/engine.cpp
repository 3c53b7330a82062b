#include "net/tls/engine.h"

#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <algorithm>
#include <array>

#include "core/check.h"
#include "core/encoding.h"
#include "net/tls/errors.h"

namespace evlua::tls {

namespace {

constexpr std::size_t kReadBytes = 2048;
constexpr std::size_t kRecordBytes = 16 * 1024;

std::string text_of(BIO* bio) {
  const std::uint8_t* bytes = nullptr;
  std::size_t size = 0;
  if (BIO_mem_contents(bio, &bytes, &size) != 1) return {};
  return {reinterpret_cast<const char*>(bytes), size};
}

std::string text_of(const X509_NAME* name) {
  const bssl::UniquePtr<BIO> bio(BIO_new(BIO_s_mem()));
  X509_NAME_print_ex(bio.get(), name, 0, XN_FLAG_RFC2253);
  return text_of(bio.get());
}

std::string text_of(const ASN1_TIME* time) {
  const bssl::UniquePtr<ASN1_GENERALIZEDTIME> general(ASN1_TIME_to_generalizedtime(time, nullptr));
  if (general == nullptr) return {};
  const auto* digits = reinterpret_cast<const char*>(ASN1_STRING_get0_data(general.get()));
  std::string compact(digits, static_cast<std::size_t>(ASN1_STRING_length(general.get())));  // YYYYMMDDHHMMSSZ
  if (compact.size() != 15) return compact;
  return compact.substr(0, 4) + "-" + compact.substr(4, 2) + "-" + compact.substr(6, 2) + "T" + compact.substr(8, 2) +
         ":" + compact.substr(10, 2) + ":" + compact.substr(12);
}

std::unique_ptr<PeerCertificate> describe(X509* certificate) {
  auto peer = std::make_unique<PeerCertificate>();
  peer->subject = text_of(X509_get_subject_name(certificate));
  peer->issuer = text_of(X509_get_issuer_name(certificate));
  peer->not_before = text_of(X509_get0_notBefore(certificate));
  peer->not_after = text_of(X509_get0_notAfter(certificate));
  const bssl::UniquePtr<BIGNUM> serial(ASN1_INTEGER_to_BN(X509_get0_serialNumber(certificate), nullptr));
  const bssl::UniquePtr<char> digits(serial != nullptr ? BN_bn2hex(serial.get()) : nullptr);
  if (digits != nullptr) peer->serial = digits.get();
  std::array<std::uint8_t, SHA256_DIGEST_LENGTH> digest{};
  unsigned size = 0;
  if (X509_digest(certificate, EVP_sha256(), digest.data(), &size) == 1) {
    peer->fingerprint.resize(2 * digest.size());
    hex_encode({reinterpret_cast<const char*>(digest.data()), digest.size()}, peer->fingerprint.data());
  }
  const bssl::UniquePtr<BIO> pem(BIO_new(BIO_s_mem()));
  if (PEM_write_bio_X509(pem.get(), certificate) == 1) peer->pem = text_of(pem.get());
  return peer;
}

}  // namespace

// -- BoringSSL's side of the bytes ----------------------------------------------------------------------------------

struct Engine::Bio {
  static Engine& engine(BIO* bio) { return *static_cast<Engine*>(BIO_get_data(bio)); }

  static int read(BIO* bio, char* to, int size) {
    std::string_view& from = engine(bio).incoming_;
    BIO_clear_retry_flags(bio);
    if (from.empty()) {
      BIO_set_retry_read(bio);
      return -1;
    }
    const std::size_t taken = std::min(from.size(), static_cast<std::size_t>(size));
    std::copy_n(from.data(), taken, to);
    from.remove_prefix(taken);
    return static_cast<int>(taken);
  }

  static int write(BIO* bio, const char* from, int size) {
    BIO_clear_retry_flags(bio);
    engine(bio).outgoing_.append({from, static_cast<std::size_t>(size)});
    return size;
  }

  static long control(BIO*, int command, long, void*) { return command == BIO_CTRL_FLUSH ? 1 : 0; }

  static const BIO_METHOD* method() {
    static BIO_METHOD* const made = [] {
      BIO_METHOD* method = BIO_meth_new(0, "evlua");
      BIO_meth_set_read(method, read);
      BIO_meth_set_write(method, write);
      BIO_meth_set_ctrl(method, control);
      return method;
    }();
    return made;
  }
};

void Engine::FreeSsl::operator()(SSL* ssl) const noexcept { SSL_free(ssl); }

Engine::Engine(std::shared_ptr<const ServerContext> context)
    : context_(std::move(context)), ssl_(SSL_new(context_->default_context())) {
  EVLUA_CHECK(ssl_ != nullptr);
  BIO* bio = BIO_new(Bio::method());
  EVLUA_CHECK(bio != nullptr);
  BIO_set_data(bio, this);
  BIO_set_init(bio, 1);
  SSL_set_bio(ssl_.get(), bio, bio);
  SSL_set_accept_state(ssl_.get());
}

Engine::~Engine() = default;

void Engine::fail() {
  error_ = take_error();
  state_ = State::failed;
}

bool Engine::shake_hands() {
  const int done = SSL_do_handshake(ssl_.get());
  if (done == 1) {
    note_session();
    state_ = State::open;
    return true;
  }
  if (SSL_get_error(ssl_.get(), done) != SSL_ERROR_WANT_READ) fail();
  return false;
}

void Engine::note_session() {
  SSL* ssl = ssl_.get();
  session_.version = SSL_get_version(ssl);
  session_.cipher = SSL_CIPHER_standard_name(SSL_get_current_cipher(ssl));
  session_.resumed = SSL_session_reused(ssl) != 0;
  const std::uint8_t* protocol = nullptr;
  unsigned size = 0;
  SSL_get0_alpn_selected(ssl, &protocol, &size);
  session_.has_alpn = size != 0;
  session_.http2 = size == 2;
  if (const char* name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name); name != nullptr) {
    session_.server_name = name;
  }
  const bssl::UniquePtr<X509> peer(SSL_get_peer_certificate(ssl));
  if (peer != nullptr) session_.peer = describe(peer.get());
}

Engine::State Engine::receive(std::string_view ciphertext, Bytes& plaintext) {
  incoming_ = ciphertext;
  const bool shaken = state_ != State::handshake || shake_hands();
  if (shaken && state_ == State::open) read_all(plaintext);
  incoming_ = {};
  return state_;
}

void Engine::read_all(Bytes& plaintext) {
  while (true) {
    const auto pending = static_cast<std::size_t>(SSL_pending(ssl_.get()));
    const std::size_t room = std::max(pending, kReadBytes);
    char* to = plaintext.reserve(room);
    const int got = SSL_read(ssl_.get(), to, static_cast<int>(room));
    if (got > 0) {
      plaintext.commit(static_cast<std::size_t>(got));
      continue;
    }
    switch (SSL_get_error(ssl_.get(), got)) {
      case SSL_ERROR_WANT_READ: return;
      case SSL_ERROR_ZERO_RETURN: state_ = State::ended; return;
      default: fail(); return;
    }
  }
}

bool Engine::send(std::string_view plaintext) {
  if (state_ == State::failed || state_ == State::handshake) return false;
  while (!plaintext.empty()) {
    const std::string_view record = plaintext.substr(0, kRecordBytes);
    const int sent = SSL_write(ssl_.get(), record.data(), static_cast<int>(record.size()));
    if (sent <= 0) {
      fail();
      return false;
    }
    plaintext.remove_prefix(static_cast<std::size_t>(sent));
  }
  return true;
}

void Engine::end() {
  if (state_ == State::open || state_ == State::ended) SSL_shutdown(ssl_.get());
  ERR_clear_error();
}

}  // namespace evlua::tls
