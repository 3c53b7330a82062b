// The field traceparent: what is taken from it is what it says, and what we send on can be read again.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/check.h"
#include "net/http/trace_context.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using evlua::http::TraceContext;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const auto joined = TraceContext::join(input);
  if (!joined) return 0;
  EVLUA_CHECK((joined->id[0] | joined->id[1]) != 0 && joined->parent != 0 && joined->span != 0 && joined->flags <= 1);
  EVLUA_CHECK(joined->id_text() == input.substr(3, 32) &&
              TraceContext::span_text(joined->parent) == input.substr(36, 16));
  const std::string sent = joined->traceparent();
  const auto received = TraceContext::join(sent);
  EVLUA_CHECK(sent.size() == 55 && received && received->id == joined->id && received->parent == joined->span);
  EVLUA_CHECK(received->sampled() == joined->sampled());
  return 0;
}
