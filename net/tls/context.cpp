#include "net/tls/context.h"

#include <openssl/ec.h>
#include <openssl/ec_key.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <ctime>
#include <utility>

#include "core/check.h"
#include "core/log.h"
#include "core/whole_file.h"
#include "net/tls/errors.h"
#include "net/tls/ocsp.h"

namespace evlua::tls {

namespace {

using Outcome = tl::expected<void, std::string>;

constexpr const char* kCiphers =
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305";
constexpr const char* kCurves = "X25519:P-256:P-384";
constexpr std::uint32_t kSessionSeconds = 24 * 3600;
constexpr long kDevelopmentSeconds = 30L * 24 * 3600;
constexpr std::int64_t kClockSkewSeconds = 300;  // between us and who signs OCSP responses

std::string lower_case(std::string_view text) {
  std::string lower(text);
  for (char& byte : lower) {
    if (byte >= 'A' && byte <= 'Z') byte = static_cast<char>(byte | 0x20);
  }
  return lower;
}

const ServerContext& context_of(SSL* ssl) {
  return *static_cast<const ServerContext*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)));
}

// -- callbacks ------------------------------------------------------------------------------------------------------

int choose_certificate(SSL* ssl, int*, void*) {
  const char* name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
  if (name == nullptr) return SSL_TLSEXT_ERR_NOACK;
  SSL_CTX* found = context_of(ssl).find(lower_case(name));
  if (found != nullptr && found != SSL_get_SSL_CTX(ssl)) SSL_set_SSL_CTX(ssl, found);
  return SSL_TLSEXT_ERR_OK;
}

/// RFC 7301: the server's preference decides; no common protocol is an error.
int choose_protocol(SSL* ssl, const std::uint8_t** out, std::uint8_t* out_size, const std::uint8_t* in,
                    unsigned in_size, void*) {
  static constexpr std::uint8_t kBoth[] = "\x02h2\x08http/1.1";
  const bool http2 = context_of(ssl).offers_http2();
  const std::uint8_t* ours = http2 ? kBoth : kBoth + 3;
  const unsigned ours_size = http2 ? 12 : 9;
  std::uint8_t* chosen = nullptr;
  const int match = SSL_select_next_proto(&chosen, out_size, ours, ours_size, in, in_size);
  if (match != OPENSSL_NPN_NEGOTIATED) return SSL_TLSEXT_ERR_ALERT_FATAL;
  *out = chosen;
  return SSL_TLSEXT_ERR_OK;
}

int seal_or_open_ticket(SSL* ssl, std::uint8_t* name, std::uint8_t* iv, EVP_CIPHER_CTX* cipher, HMAC_CTX* mac,
                        int encrypt) {
  TicketKeys& keys = context_of(ssl).ticket_keys();
  TicketKeys::Key key;
  TicketKeys::Found found = TicketKeys::Found::present;
  if (encrypt != 0) {
    key = keys.sealing(monotonic_now());
    std::memcpy(name, key.name.data(), key.name.size());
    RAND_bytes(iv, EVP_CIPHER_iv_length(EVP_aes_128_cbc()));
  } else {
    found = keys.find(name, monotonic_now(), key);
    if (found == TicketKeys::Found::none) return 0;
  }
  const bool ready = EVP_CipherInit_ex(cipher, EVP_aes_128_cbc(), nullptr, key.cipher.data(), iv, encrypt) == 1 &&
                     HMAC_Init_ex(mac, key.mac.data(), key.mac.size(), EVP_sha256(), nullptr) == 1;
  if (!ready) return -1;
  return found == TicketKeys::Found::previous ? 2 : 1;
}

/// A terminal would be asked otherwise.
int no_password(char*, int, int, void*) { return 0; }

// -- files ----------------------------------------------------------------------------------------------------------

tl::expected<std::string, std::string> read_file(const std::string& path) {
  Result<std::string> text = read_whole_file(path);
  if (!text) return tl::unexpected("cannot read '" + path + "': " + std::strerror(text.error().code));
  return std::move(*text);
}

bssl::UniquePtr<BIO> bio_of(const std::string& text) {
  return bssl::UniquePtr<BIO>(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

Outcome use_chain(SSL_CTX* context, const std::string& path) {
  const auto text = read_file(path);
  if (!text) return tl::unexpected(text.error());
  const bssl::UniquePtr<BIO> bio = bio_of(*text);
  bool leaf = true;
  while (true) {
    const bssl::UniquePtr<X509> certificate(PEM_read_bio_X509(bio.get(), nullptr, no_password, nullptr));
    if (certificate == nullptr) break;
    const int used = leaf ? SSL_CTX_use_certificate(context, certificate.get())
                          : SSL_CTX_add1_chain_cert(context, certificate.get());
    if (used != 1) return tl::unexpected("certificate '" + path + "': " + take_error());
    leaf = false;
  }
  const bool at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  if (leaf && at_end) return tl::unexpected("'" + path + "' holds no certificate in PEM form");
  if (!at_end) return tl::unexpected("certificate '" + path + "': " + take_error());
  ERR_clear_error();
  return {};
}

Outcome use_key(SSL_CTX* context, const CertificateFiles& files) {
  const auto text = read_file(files.key);
  if (!text) return tl::unexpected(text.error());
  const bssl::UniquePtr<EVP_PKEY> key(PEM_read_bio_PrivateKey(bio_of(*text).get(), nullptr, no_password, nullptr));
  if (key == nullptr) {
    return tl::unexpected("key '" + files.key + "': " + take_error() + "; an unencrypted PEM key is expected");
  }
  ERR_clear_error();
  if (SSL_CTX_use_PrivateKey(context, key.get()) == 1) return {};
  ERR_clear_error();
  return tl::unexpected("the key '" + files.key + "' does not belong to the certificate '" + files.certificate + "'");
}

std::string text_of(std::int64_t seconds) {
  const auto time = static_cast<std::time_t>(seconds);
  std::tm date{};
  ::gmtime_r(&time, &date);
  std::array<char, 32> text{};
  return {text.data(), std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M:%S UTC", &date)};
}

/// Why clients would not take it now; empty: they do.
std::string objection(const OcspStatus& status, std::int64_t now) {
  if (!status.refusal.empty()) return status.refusal;
  if (status.this_update > now + kClockSkewSeconds)
    return "it is good only from " + text_of(status.this_update) + " on";
  if (status.next_update && *status.next_update <= now) return "it has expired, at " + text_of(*status.next_update);
  return {};
}

/// The DNS names of a certificate, in lower case; of one that has none, its common name (RFC 6125 6.4.4).
std::vector<std::string> names_of(X509* certificate) {
  std::vector<std::string> names;
  const bssl::UniquePtr<GENERAL_NAMES> alternatives(
      static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)));
  for (std::size_t i = 0; alternatives != nullptr && i < sk_GENERAL_NAME_num(alternatives.get()); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(alternatives.get(), i);
    if (name->type != GEN_DNS) continue;
    const auto* bytes = reinterpret_cast<const char*>(ASN1_STRING_get0_data(name->d.dNSName));
    names.push_back(lower_case({bytes, static_cast<std::size_t>(ASN1_STRING_length(name->d.dNSName))}));
  }
  if (!names.empty()) return names;
  std::array<char, 256> common{};
  if (X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName, common.data(), common.size()) > 0) {
    names.push_back(lower_case(common.data()));
  }
  return names;
}

// -- a certificate for development ----------------------------------------------------------------------------------

bssl::UniquePtr<EVP_PKEY> make_key() {
  bssl::UniquePtr<EC_KEY> pair(EC_KEY_new_by_curve_name(NID_X9_62_prime256v1));
  bssl::UniquePtr<EVP_PKEY> key(EVP_PKEY_new());
  if (EC_KEY_generate_key(pair.get()) != 1 || EVP_PKEY_set1_EC_KEY(key.get(), pair.get()) != 1) return nullptr;
  return key;
}

bool add_extension(X509* certificate, int nid, const char* value) {
  X509V3_CTX context{};
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, certificate, certificate, nullptr, nullptr, 0);
  const bssl::UniquePtr<X509_EXTENSION> extension(X509V3_EXT_nconf_nid(nullptr, &context, nid, value));
  return extension != nullptr && X509_add_ext(certificate, extension.get(), -1) == 1;
}

bssl::UniquePtr<X509> make_certificate(EVP_PKEY* key) {
  bssl::UniquePtr<X509> made(X509_new());
  std::uint64_t serial = 0;
  RAND_bytes(reinterpret_cast<std::uint8_t*>(&serial), sizeof serial);
  X509_NAME* name = X509_get_subject_name(made.get());
  const auto* common = reinterpret_cast<const std::uint8_t*>("localhost");
  const bool complete =
      X509_set_version(made.get(), X509_VERSION_3) == 1 &&
      ASN1_INTEGER_set_uint64(X509_get_serialNumber(made.get()), serial >> 1) == 1 &&
      X509_gmtime_adj(X509_getm_notBefore(made.get()), -3600) != nullptr &&
      X509_gmtime_adj(X509_getm_notAfter(made.get()), kDevelopmentSeconds) != nullptr &&
      X509_NAME_add_entry_by_NID(name, NID_commonName, MBSTRING_UTF8, common, -1, -1, 0) == 1 &&
      X509_set_issuer_name(made.get(), name) == 1 && X509_set_pubkey(made.get(), key) == 1 &&
      add_extension(made.get(), NID_basic_constraints, "critical,CA:FALSE") &&
      add_extension(made.get(), NID_ext_key_usage, "serverAuth") &&
      add_extension(made.get(), NID_subject_alt_name, "DNS:localhost,DNS:*.localhost,IP:127.0.0.1,IP:::1") &&
      X509_sign(made.get(), key, EVP_sha256()) != 0;
  return complete ? std::move(made) : nullptr;
}

}  // namespace

// -- contexts -------------------------------------------------------------------------------------------------------

void ServerContext::FreeContext::operator()(SSL_CTX* context) const noexcept { SSL_CTX_free(context); }

ServerContext::~ServerContext() = default;

ServerContext::ContextPointer ServerContext::make_context() {
  ContextPointer context(SSL_CTX_new(TLS_server_method()));
  SSL_CTX* made = context.get();
  EVLUA_CHECK(made != nullptr);
  SSL_CTX_set_app_data(made, this);
  EVLUA_CHECK(SSL_CTX_set_min_proto_version(made, TLS1_2_VERSION) == 1);
  EVLUA_CHECK(SSL_CTX_set_strict_cipher_list(made, kCiphers) == 1);
  EVLUA_CHECK(SSL_CTX_set1_curves_list(made, kCurves) == 1);
  SSL_CTX_set_options(made, SSL_OP_CIPHER_SERVER_PREFERENCE);
  SSL_CTX_set_tlsext_servername_callback(made, choose_certificate);
  SSL_CTX_set_alpn_select_cb(made, choose_protocol, nullptr);
  // Resumption by tickets alone: nothing to keep, nothing to share between workers.
  SSL_CTX_set_session_cache_mode(made, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_tlsext_ticket_key_cb(made, seal_or_open_ticket);
  SSL_CTX_set_timeout(made, kSessionSeconds);
  SSL_CTX_set_session_psk_dhe_timeout(made, kSessionSeconds);
  return context;
}

/// With its certificate and key, and whom it asks for one.
ServerContext::ContextPointer ServerContext::copy_context(SSL_CTX* from) {
  ContextPointer context = make_context();
  SSL_CTX* made = context.get();
  STACK_OF(X509)* chain = nullptr;
  EVLUA_CHECK(SSL_CTX_get0_chain_certs(from, &chain) == 1);
  EVLUA_CHECK(SSL_CTX_use_certificate(made, SSL_CTX_get0_certificate(from)) == 1);
  EVLUA_CHECK(SSL_CTX_set1_chain(made, chain) == 1);
  EVLUA_CHECK(SSL_CTX_use_PrivateKey(made, SSL_CTX_get0_privatekey(from)) == 1);
  SSL_CTX_set_verify(made, SSL_CTX_get_verify_mode(from), nullptr);
  SSL_CTX_set_cert_store(made, bssl::UpRef(SSL_CTX_get_cert_store(from)).release());
  SSL_CTX_set_client_CA_list(made, SSL_dup_CA_list(SSL_CTX_get_client_CA_list(from)));
  return context;
}

void ServerContext::keep(Certificate certificate) {
  // The first certificate that has a name gets it.
  SSL_CTX* const context = certificate.context.get();
  for (std::string& name : names_of(SSL_CTX_get0_certificate(context))) {
    by_name_.try_emplace(std::move(name), context);
  }
  certificates_.push_back(std::move(certificate));
}

Outcome ServerContext::add(const CertificateFiles& files) {
  Certificate certificate{make_context(), {}};
  Outcome used = use_chain(certificate.context.get(), files.certificate);
  if (used) used = use_key(certificate.context.get(), files);
  if (used && !files.ocsp.empty()) used = use_ocsp(certificate, files.ocsp);
  if (used) keep(std::move(certificate));
  return used;
}

Outcome ServerContext::use_ocsp(Certificate& certificate, const std::string& path) {
  auto response = read_file(path);
  if (!response) return tl::unexpected(response.error());
  return staple(certificate, path, std::move(*response));
}

/// Some clients break off if what is stapled has expired or is about something else: they get nothing then. That the
/// certificate is revoked they get to know.
Outcome ServerContext::staple(Certificate& certificate, const std::string& path, std::string response) {
  SSL_CTX* const context = certificate.context.get();
  const std::optional<OcspStatus> status = read_ocsp(response, *SSL_CTX_get0_certificate(context));
  if (!status) return tl::unexpected("'" + path + "' is no OCSP response in DER form");
  const std::int64_t now = std::time(nullptr);
  for (const std::int64_t change : {status->this_update, status->next_update.value_or(0)}) {
    if (status->refusal.empty() && change > now) good_until_ = std::min(good_until_.value_or(change), change);
  }
  if (const std::string why = objection(*status, now); !why.empty()) {
    Log::warn("'%s' is not stapled: %s", path.c_str(), why.c_str());
    return {};
  }
  if (status->revoked) Log::warn("'%s' says that the certificate is revoked", path.c_str());
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(response.data());
  if (SSL_CTX_set_ocsp_response(context, bytes, response.size()) != 1) return tl::unexpected(take_error());
  certificate.response = std::move(response);
  return {};
}

Outcome ServerContext::add_development() {
  ContextPointer context = make_context();
  const bssl::UniquePtr<EVP_PKEY> key = make_key();
  const bssl::UniquePtr<X509> certificate = key != nullptr ? make_certificate(key.get()) : nullptr;
  if (certificate == nullptr || SSL_CTX_use_certificate(context.get(), certificate.get()) != 1 ||
      SSL_CTX_use_PrivateKey(context.get(), key.get()) != 1) {
    return tl::unexpected("cannot make a certificate: " + take_error());
  }
  keep({std::move(context), {}});
  return {};
}

/// A session says that its client was found to be good; that is so for those who asked for the same, of the same
/// authorities. Certificates of ours may change without it.
void ServerContext::resume_only(const ServerOptions& options, const std::string& authorities) {
  static_assert(std::tuple_size_v<decltype(resumable_)> == SHA256_DIGEST_LENGTH);
  const std::string asked = std::to_string(static_cast<int>(options.client_certificates)) + authorities;
  SHA256(reinterpret_cast<const std::uint8_t*>(asked.data()), asked.size(), resumable_.data());
  for (const Certificate& certificate : certificates_) mark_sessions(certificate);
}

void ServerContext::mark_sessions(const Certificate& certificate) const {
  SSL_CTX* const context = certificate.context.get();
  EVLUA_CHECK(SSL_CTX_set_session_id_context(context, resumable_.data(), resumable_.size()) == 1);
}

Outcome ServerContext::check_clients(const ServerOptions& options) {
  if (options.client_certificates == ClientCertificates::off) {
    resume_only(options, {});
    return {};
  }
  const auto text = read_file(options.client_ca);
  if (!text) return tl::unexpected(text.error());
  resume_only(options, *text);
  const bssl::UniquePtr<BIO> bio = bio_of(*text);
  const int mode = options.client_certificates == ClientCertificates::required
                       ? SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT
                       : SSL_VERIFY_PEER;
  for (const Certificate& own : certificates_) SSL_CTX_set_verify(own.context.get(), mode, nullptr);
  bool any = false;
  while (true) {
    const bssl::UniquePtr<X509> authority(PEM_read_bio_X509(bio.get(), nullptr, no_password, nullptr));
    if (authority == nullptr) break;
    any = true;
    for (const Certificate& own : certificates_) {
      if (X509_STORE_add_cert(SSL_CTX_get_cert_store(own.context.get()), authority.get()) != 1 ||
          SSL_CTX_add_client_CA(own.context.get(), authority.get()) != 1) {
        return tl::unexpected("client authority '" + options.client_ca + "': " + take_error());
      }
    }
  }
  ERR_clear_error();
  if (!any) return tl::unexpected("'" + options.client_ca + "' holds no certificate in PEM form");
  return {};
}

ServerContext::Made ServerContext::make(const ServerOptions& options, std::shared_ptr<TicketKeys> keys,
                                        bool development) {
  const std::shared_ptr<ServerContext> made(new ServerContext(std::move(keys)));
  made->http2_ = options.http2;
  Outcome added;
  for (const CertificateFiles& files : options.certificates) {
    added = made->add(files);
    if (!added) return tl::unexpected(added.error());
  }
  if (development) added = made->add_development();
  if (added) added = made->check_clients(options);
  if (!added) return tl::unexpected(added.error());
  return made;
}

ServerContext::Made ServerContext::load(const ServerOptions& options, std::shared_ptr<TicketKeys> keys) {
  return make(options, std::move(keys), false);
}

ServerContext::Made ServerContext::make_development(const ServerOptions& options, std::shared_ptr<TicketKeys> keys) {
  return make(options, std::move(keys), true);
}

std::shared_ptr<const ServerContext> ServerContext::stapled_again(const ServerOptions& options) const {
  const std::shared_ptr<ServerContext> made(new ServerContext(keys_));
  made->http2_ = http2_;
  made->resumable_ = resumable_;
  for (std::size_t i = 0; i < certificates_.size(); ++i) {
    Certificate certificate{made->copy_context(certificates_[i].context.get()), {}};
    made->mark_sessions(certificate);
    const std::string& path = options.certificates[i].ocsp;
    const Outcome used = path.empty() ? Outcome() : made->use_ocsp(certificate, path);
    if (!used) {
      Log::error("the OCSP response stays as it was: %s", used.error().c_str());
      const std::string& before = certificates_[i].response;
      if (!before.empty()) (void)made->staple(certificate, path, before);
    }
    made->keep(std::move(certificate));
  }
  return made;
}

SSL_CTX* ServerContext::find(std::string_view server_name) const {
  auto place = by_name_.find(server_name);
  if (place == by_name_.end()) {
    const std::size_t dot = server_name.find('.');
    if (dot == std::string_view::npos) return nullptr;
    place = by_name_.find("*" + std::string(server_name.substr(dot)));  // a wildcard stands for one label
  }
  return place != by_name_.end() ? place->second : nullptr;
}

}  // namespace evlua::tls
