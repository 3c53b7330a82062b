// OCSP responses, read for two certificates of one issuer: what is taken is whole, is about the certificate and says
// one thing of it.
#include <openssl/asn1.h>
#include <openssl/x509.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/check.h"
#include "net/tls/ocsp.h"

namespace {

using evlua::tls::read_ocsp;

constexpr std::int64_t kDay = 86400;
constexpr std::int64_t kYearNull = -719528 * kDay;         // 0000-01-01
constexpr std::int64_t kLastYearEnds = 2932897 * kDay;     // 10000-01-01
constexpr std::int64_t kOddDates = (99 + 99 * 31) * kDay;  // months, days and hours of two digits, whatever they are

struct Subject {
  explicit Subject(std::uint16_t number) : certificate(X509_new()), serial{"\2\2", 2} {
    bssl::UniquePtr<ASN1_INTEGER> integer(ASN1_INTEGER_new());
    EVLUA_CHECK(ASN1_INTEGER_set_uint64(integer.get(), number) == 1);
    EVLUA_CHECK(X509_set_serialNumber(certificate.get(), integer.get()) == 1);
    bssl::UniquePtr<X509_NAME> issuer(X509_NAME_new());
    const auto* name = reinterpret_cast<const std::uint8_t*>("ca");
    EVLUA_CHECK(X509_NAME_add_entry_by_txt(issuer.get(), "CN", MBSTRING_ASC, name, -1, -1, 0) == 1);
    EVLUA_CHECK(X509_set_issuer_name(certificate.get(), issuer.get()) == 1);
    serial += {static_cast<char>(number >> 8), static_cast<char>(number & 0xff)};
  }

  bssl::UniquePtr<X509> certificate;
  std::string serial;  // as DER has it
};

void check_time(std::int64_t seconds) {
  EVLUA_CHECK(seconds >= kYearNull - kOddDates && seconds <= kLastYearEnds + kOddDates);
}

void check_status(std::string_view input, const Subject& subject) {
  const auto status = read_ocsp(input, *subject.certificate);
  if (!status) return;
  EVLUA_CHECK(!read_ocsp(input.substr(0, input.size() - 1), *subject.certificate));
  EVLUA_CHECK(!read_ocsp(std::string(input) + '\0', *subject.certificate));
  EVLUA_CHECK(status->refusal.empty() || !status->revoked);
  if (!status->refusal.empty()) return;
  EVLUA_CHECK(input.find(subject.serial) != std::string_view::npos);
  check_time(status->this_update);
  if (status->next_update) check_time(*status->next_update);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Subject first(0x1001), second(0x1002);
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  check_status(input, first);
  check_status(input, second);
  return 0;
}
