#include "net/http/trace_context.h"

#include <sys/random.h>

#include "core/time.h"

namespace evlua::http {

namespace {

constexpr std::size_t kSize = 55;  // of version 00

/// Lower-case digits only, as the recommendation wants them.
bool parse_hex(std::string_view text, std::uint64_t& value) noexcept {
  value = 0;
  for (const char byte : text) {
    int digit = 0;
    if (byte >= '0' && byte <= '9') {
      digit = byte - '0';
    } else if (byte >= 'a' && byte <= 'f') {
      digit = byte - 'a' + 10;
    } else {
      return false;
    }
    value = value << 4 | static_cast<std::uint64_t>(digit);
  }
  return true;
}

void put_hex(std::string& out, std::uint64_t value, int digits) {
  for (int shift = (digits - 1) * 4; shift >= 0; shift -= 4) out += "0123456789abcdef"[value >> shift & 15];
}

/// splitmix64
std::uint64_t next_random() noexcept {
  thread_local std::uint64_t state = [] {
    std::uint64_t seed = 0;
    if (::getrandom(&seed, sizeof seed, GRND_NONBLOCK) != sizeof seed) {
      seed = static_cast<std::uint64_t>(monotonic_now()) ^ reinterpret_cast<std::uintptr_t>(&seed);
    }
    return seed;
  }();
  std::uint64_t mixed = state += 0x9E3779B97F4A7C15;
  mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9;
  mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB;
  return mixed ^ mixed >> 31;
}

}  // namespace

std::uint64_t random_id() noexcept {
  std::uint64_t id = next_random();
  while (id == 0) id = next_random();
  return id;
}

TraceContext TraceContext::begin() noexcept {
  TraceContext made;
  made.id = {random_id(), random_id()};
  made.span = random_id();
  return made;
}

std::optional<TraceContext> TraceContext::join(std::string_view text) noexcept {
  if (text.size() < kSize || text[2] != '-' || text[35] != '-' || text[52] != '-') return std::nullopt;
  std::uint64_t version = 0;
  std::uint64_t flags = 0;
  TraceContext made;
  const bool hex = parse_hex(text.substr(0, 2), version) && parse_hex(text.substr(3, 16), made.id[0]) &&
                   parse_hex(text.substr(19, 16), made.id[1]) && parse_hex(text.substr(36, 16), made.parent) &&
                   parse_hex(text.substr(53, 2), flags);
  if (!hex || version == 0xff || (made.id[0] | made.id[1]) == 0 || made.parent == 0) return std::nullopt;
  // Later versions may say more, behind a dash.
  if (text.size() > kSize && (version == 0 || text[kSize] != '-')) return std::nullopt;
  made.flags = static_cast<std::uint8_t>(flags & 1);  // of the others nothing is known
  made.span = random_id();
  return made;
}

std::string TraceContext::id_text() const {
  std::string text;
  put_hex(text, id[0], 16);
  put_hex(text, id[1], 16);
  return text;
}

std::string TraceContext::span_text(std::uint64_t span) {
  std::string text;
  put_hex(text, span, 16);
  return text;
}

std::string TraceContext::traceparent() const {
  return "00-" + id_text() + "-" + span_text(span) + (sampled() ? "-01" : "-00");
}

}  // namespace evlua::http
