// OCSP responses (RFC 6960): what a server has to know of one before it staples it. Whether it was signed by the right
// one is for clients to judge.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

using X509 = struct x509_st;

namespace evlua::tls {

/// What a response says of a certificate. Times are seconds since 1970.
struct OcspStatus {
  std::string refusal;                      ///< why it says nothing of it; empty: it does
  bool revoked = false;                     ///< the certificate is not good any more, whatever else clients find
  std::int64_t this_update = 0;             ///< it is true from then on
  std::optional<std::int64_t> next_update;  ///< up to then; nothing: as long as nobody knows better
};

/// What `response`, in DER form, says of `certificate`. Nothing: it is no OCSP response.
std::optional<OcspStatus> read_ocsp(std::string_view response, const X509& certificate);

}  // namespace evlua::tls
