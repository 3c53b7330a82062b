#include "core/error.h"

#include <netdb.h>

#include <cctype>
#include <cerrno>
#include <cstring>

namespace evlua {
namespace {

struct ResolverName {
  int code;
  const char* name;
};

constexpr ResolverName kResolverNames[] = {
    {EAI_AGAIN, "EAI_AGAIN"},           {EAI_BADFLAGS, "EAI_BADFLAGS"}, {EAI_FAIL, "EAI_FAIL"},
    {EAI_FAMILY, "EAI_FAMILY"},         {EAI_MEMORY, "EAI_MEMORY"},     {EAI_NONAME, "EAI_NONAME"},
    {EAI_SERVICE, "EAI_SERVICE"},       {EAI_SOCKTYPE, "EAI_SOCKTYPE"}, {EAI_SYSTEM, "EAI_SYSTEM"},
    {EAI_OVERFLOW, "EAI_OVERFLOW"},
#ifdef EAI_NODATA
    {EAI_NODATA, "EAI_NODATA"},
#endif
#ifdef EAI_ADDRFAMILY
    {EAI_ADDRFAMILY, "EAI_ADDRFAMILY"},
#endif
};

const char* system_name(int code) noexcept {
  const char* name = ::strerrorname_np(code);
  return name != nullptr ? name : "EUNKNOWN";
}

const char* resolver_name(int code) noexcept {
  for (const ResolverName& entry : kResolverNames) {
    if (entry.code == code) return entry.name;
  }
  return "EAI_UNKNOWN";
}

/// The C library's sentence without its capital; abbreviations such as "RPC" keep theirs.
std::string as_message(const char* sentence) {
  std::string text(sentence);
  const auto is_upper = [&](std::size_t at) { return std::isupper(static_cast<unsigned char>(text[at])) != 0; };
  if (!text.empty() && is_upper(0) && !(text.size() > 1 && is_upper(1))) {
    text[0] = static_cast<char>(std::tolower(static_cast<unsigned char>(text[0])));
  }
  return text;
}

std::string system_message(int code) {
  // Our words for the two that programs meet on purpose: no connection need be involved, and one spelling in the docs.
  if (code == ETIMEDOUT) return "timed out";
  if (code == ECANCELED) return "cancelled";
  // Not strerror: the description is the same in every locale and needs no buffer.
  const char* sentence = ::strerrordesc_np(code);
  return sentence != nullptr ? as_message(sentence) : "unknown error " + std::to_string(code);
}

}  // namespace

const char* Error::name() const noexcept {
  switch (domain) {
    case ErrorDomain::system: return system_name(code);
    case ErrorDomain::resolver: return resolver_name(code);
    case ErrorDomain::runtime: break;
  }
  switch (static_cast<Errc>(code)) {
    case Errc::end_of_file: return "EOF";
    case Errc::too_large: return "ELIMIT";
    case Errc::no_thread: return "EAGAIN";
  }
  return "EUNKNOWN";
}

std::string Error::message() const {
  switch (domain) {
    case ErrorDomain::system: return system_message(code);
    case ErrorDomain::resolver: return as_message(::gai_strerror(code));
    case ErrorDomain::runtime: break;
  }
  switch (static_cast<Errc>(code)) {
    case Errc::end_of_file: return "end of file";
    case Errc::too_large: return "limit exceeded";
    case Errc::no_thread:
      return "no thread can be started: raise the limits on threads and processes (ulimit -u; TasksMax= in a systemd "
             "unit; pids of a container) or on memory";
  }
  return "unknown error " + std::to_string(code);
}

std::string Error::describe() const {
  if (op == OpCode::nop) return message();
  return std::string(name_of(op)) + ": " + message();
}

}  // namespace evlua
