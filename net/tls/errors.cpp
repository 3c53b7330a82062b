#include "net/tls/errors.h"

#include <openssl/err.h>

namespace evlua::tls {

std::string take_error() {
  const std::uint32_t code = ERR_get_error();
  ERR_clear_error();
  if (code == 0) return "unknown error";
  std::string text = ERR_reason_error_string(code) != nullptr ? ERR_reason_error_string(code) : "error";
  for (char& byte : text) {
    if (byte == '_') byte = ' ';
    if (byte >= 'A' && byte <= 'Z') byte = static_cast<char>(byte | 0x20);
  }
  return text;
}

}  // namespace evlua::tls
