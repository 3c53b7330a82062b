#include "net/tls/ocsp.h"

#include <openssl/bytestring.h>
#include <openssl/digest.h>
#include <openssl/err.h>
#include <openssl/mem.h>
#include <openssl/x509.h>

#include <array>
#include <ctime>

namespace evlua::tls {

namespace {

constexpr unsigned context_tag(unsigned number) { return CBS_ASN1_CONTEXT_SPECIFIC | number; }
constexpr unsigned explicit_tag(unsigned number) { return context_tag(number) | CBS_ASN1_CONSTRUCTED; }

constexpr std::uint8_t kBasicResponse[] = {0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1};  // 1.3.6.1.5.5.7.48.1.1

/// "20261127040000Z", and no other form (RFC 6960, 4.2.2.1).
bool take_time(CBS& from, std::int64_t& seconds) {
  CBS text;
  if (CBS_get_asn1(&from, &text, CBS_ASN1_GENERALIZEDTIME) != 1 || CBS_len(&text) != 15) return false;
  const char* at = reinterpret_cast<const char*>(CBS_data(&text));
  if (at[14] != 'Z') return false;
  std::array<int, 6> parts{};
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const int digits = i == 0 ? 4 : 2;
    for (const char* const end = at + digits; at != end; ++at) {
      if (*at < '0' || *at > '9') return false;
      parts[i] = parts[i] * 10 + (*at - '0');
    }
  }
  std::tm date{};
  date.tm_year = parts[0] - 1900;
  date.tm_mon = parts[1] - 1;
  date.tm_mday = parts[2];
  date.tm_hour = parts[3];
  date.tm_min = parts[4];
  date.tm_sec = parts[5];
  seconds = ::timegm(&date);
  return true;
}

/// CertID: hashes of the issuer's name and key, and the number that it gave. The key is in the issuer's certificate,
/// which we may not have.
bool take_id(CBS& from, const X509& certificate, bool& same) {
  CBS id, algorithm, name_hash, key_hash, serial;
  if (CBS_get_asn1(&from, &id, CBS_ASN1_SEQUENCE) != 1 ||
      CBS_get_asn1_element(&id, &algorithm, CBS_ASN1_SEQUENCE) != 1 ||
      CBS_get_asn1(&id, &name_hash, CBS_ASN1_OCTETSTRING) != 1 ||
      CBS_get_asn1(&id, &key_hash, CBS_ASN1_OCTETSTRING) != 1 ||
      CBS_get_asn1_element(&id, &serial, CBS_ASN1_INTEGER) != 1 || CBS_len(&id) != 0) {
    return false;
  }
  std::uint8_t* own = nullptr;
  const int own_size = i2d_ASN1_INTEGER(X509_get0_serialNumber(&certificate), &own);
  same = own_size > 0 && CBS_mem_equal(&serial, own, static_cast<std::size_t>(own_size)) == 1;
  OPENSSL_free(own);
  const EVP_MD* digest = EVP_parse_digest_algorithm(&algorithm);
  std::array<std::uint8_t, EVP_MAX_MD_SIZE> hash{};
  unsigned size = 0;
  if (digest == nullptr || X509_NAME_digest(X509_get_issuer_name(&certificate), digest, hash.data(), &size) != 1) {
    ERR_clear_error();
    return true;  // a hash that nobody knows: the number has to do
  }
  same = same && CBS_mem_equal(&name_hash, hash.data(), size) == 1;
  return true;
}

/// One of its answers. False: it is none.
bool take_answer(CBS& from, const X509& certificate, OcspStatus& out, bool& same) {
  CBS answer, status;
  unsigned tag = 0;
  if (CBS_get_asn1(&from, &answer, CBS_ASN1_SEQUENCE) != 1 || !take_id(answer, certificate, same) ||
      CBS_get_any_asn1(&answer, &status, &tag) != 1 || !take_time(answer, out.this_update)) {
    return false;
  }
  CBS next;
  int has_next = 0;
  if (CBS_get_optional_asn1(&answer, &next, &has_next, explicit_tag(0)) != 1) return false;
  if (has_next != 0) {
    std::int64_t until = 0;
    if (!take_time(next, until)) return false;
    out.next_update = until;
  }
  out.revoked = tag == explicit_tag(1);
  if (tag == context_tag(2)) out.refusal = "it says that the certificate is not known";
  return out.revoked || tag == context_tag(0) || tag == context_tag(2);
}

/// BasicOCSPResponse, up to the answer for the certificate.
std::optional<OcspStatus> read_basic(CBS basic, const X509& certificate) {
  CBS whole, data, who, answers;
  unsigned who_tag = 0;
  if (CBS_get_asn1(&basic, &whole, CBS_ASN1_SEQUENCE) != 1 || CBS_get_asn1(&whole, &data, CBS_ASN1_SEQUENCE) != 1 ||
      CBS_get_optional_asn1(&data, nullptr, nullptr, explicit_tag(0)) != 1 ||  // version
      CBS_get_any_asn1(&data, &who, &who_tag) != 1 ||                          // who answers
      CBS_get_asn1(&data, nullptr, CBS_ASN1_GENERALIZEDTIME) != 1 ||
      CBS_get_asn1(&data, &answers, CBS_ASN1_SEQUENCE) != 1) {
    return std::nullopt;
  }
  while (CBS_len(&answers) != 0) {
    OcspStatus found;
    bool same = false;
    if (!take_answer(answers, certificate, found, same)) return std::nullopt;
    if (same) return found;
  }
  OcspStatus other;
  other.refusal = "it is for another certificate";
  return other;
}

}  // namespace

std::optional<OcspStatus> read_ocsp(std::string_view response, const X509& certificate) {
  CBS all, outer, status;
  CBS_init(&all, reinterpret_cast<const std::uint8_t*>(response.data()), response.size());
  if (CBS_get_asn1(&all, &outer, CBS_ASN1_SEQUENCE) != 1 || CBS_len(&all) != 0 ||
      CBS_get_asn1(&outer, &status, CBS_ASN1_ENUMERATED) != 1 || CBS_len(&status) != 1) {
    return std::nullopt;
  }
  if (const int code = *CBS_data(&status); code != 0) {
    OcspStatus refused;
    refused.refusal = "who was asked gave no answer (status " + std::to_string(code) + ")";
    return refused;
  }
  CBS wrapped, bytes, type, basic;
  if (CBS_get_asn1(&outer, &wrapped, explicit_tag(0)) != 1 || CBS_get_asn1(&wrapped, &bytes, CBS_ASN1_SEQUENCE) != 1 ||
      CBS_get_asn1(&bytes, &type, CBS_ASN1_OBJECT) != 1 || CBS_get_asn1(&bytes, &basic, CBS_ASN1_OCTETSTRING) != 1 ||
      CBS_mem_equal(&type, kBasicResponse, sizeof kBasicResponse) != 1) {
    return std::nullopt;
  }
  return read_basic(basic, certificate);
}

}  // namespace evlua::tls
