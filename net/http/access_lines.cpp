#include "net/http/access_lines.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <ctime>

#include "net/http/trace_context.h"

namespace evlua::http {

namespace {

constexpr std::size_t kTargetMax = 8 * 1024;
constexpr std::size_t kFieldMax = 1024;
constexpr std::string_view kCut = "...";
constexpr char kHex[] = "0123456789abcdef";

/// "00", "01" to "99".
constexpr std::array<char, 200> kPairs = [] {
  std::array<char, 200> pairs{};
  for (std::size_t i = 0; i < 100; ++i) {
    pairs[2 * i] = static_cast<char>('0' + i / 10);
    pairs[2 * i + 1] = static_cast<char>('0' + i % 10);
  }
  return pairs;
}();

constexpr bool is_plain(char byte) noexcept { return byte >= 0x20 && byte < 0x7f && byte != '"' && byte != '\\'; }

/// How many bytes of the beginning need no escape. Eight at a time: most of what comes is plain.
std::size_t plain_prefix(std::string_view text) noexcept {
  constexpr std::uint64_t kOnes = 0x0101010101010101;
  constexpr std::uint64_t kHigh = 0x8080808080808080;
  const auto zero_byte = [](std::uint64_t word) { return (word - kOnes) & ~word & kHigh; };
  std::size_t at = 0;
  for (; at + 8 <= text.size(); at += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, text.data() + at, 8);
    const std::uint64_t low = (word - kOnes * 0x20) & ~word;
    const std::uint64_t odd =
        low | word | zero_byte(word ^ kOnes * 0x7f) | zero_byte(word ^ kOnes * '"') | zero_byte(word ^ kOnes * '\\');
    if ((odd & kHigh) != 0) break;
  }
  while (at < text.size() && is_plain(text[at])) ++at;
  return at;
}

/// The length of the UTF-8 sequence of a printable character that the text begins with; 0: it begins with none.
std::size_t utf8_prefix(std::string_view text) noexcept {
  const auto byte = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U; };
  const auto follows = [&](std::size_t i) { return (byte(i) & 0xC0) == 0x80; };
  const unsigned first = byte(0);
  if (first >= 0xC2 && first <= 0xDF && follows(1)) return first == 0xC2 && byte(1) < 0xA0 ? 0 : 2;
  if (first >= 0xE0 && first <= 0xEF && follows(1) && follows(2)) {
    const bool bad = (first == 0xE0 && byte(1) < 0xA0) || (first == 0xED && byte(1) > 0x9F);
    const bool separates = first == 0xE2 && byte(1) == 0x80 && byte(2) >= 0xA8 && byte(2) <= 0xAF;
    return bad || separates ? 0 : 3;  // U+2028 and the like end lines, or turn their direction
  }
  if (first >= 0xF0 && first <= 0xF4 && follows(1) && follows(2) && follows(3)) {
    return (first == 0xF0 && byte(1) < 0x90) || (first == 0xF4 && byte(1) > 0x8F) ? 0 : 4;
  }
  return 0;
}

void append_number(Bytes& out, std::uint64_t number) noexcept {
  char* to = out.reserve(20);
  out.commit(static_cast<std::size_t>(std::to_chars(to, to + 20, number).ptr - to));
}

/// The six digits behind a point.
void append_microseconds(Bytes& out, std::uint32_t microseconds) noexcept {
  char* const to = out.reserve(6);
  for (std::size_t at = 6; at > 0; microseconds /= 100) {  // by pairs: half as many divisions
    at -= 2;
    std::memcpy(to + at, kPairs.data() + 2 * (microseconds % 100), 2);
  }
  out.commit(6);
}

void append_seconds(Bytes& out, Duration duration) noexcept {
  const auto microseconds = static_cast<std::uint64_t>(std::max<Duration>(duration, 0) / kMicrosecond);
  if (microseconds < 1'000'000) {
    out.append("0.");
  } else {
    append_number(out, microseconds / 1'000'000);
    out.append(".");
  }
  append_microseconds(out, static_cast<std::uint32_t>(microseconds % 1'000'000));
}

void append_id(Bytes& out, const Exchange& exchange) noexcept {
  std::array<char, Exchange::kRequestIdRoom> room;
  out.append(exchange.request_id(room));
}

void append_quoted(Bytes& out, std::optional<std::string_view> value) noexcept {
  if (!value) return out.append(R"( "-")");
  out.append(" \"");
  append_escaped(out, *value, kFieldMax);
  out.append("\"");
}

using Append = void (*)(Bytes&, std::string_view, std::size_t) noexcept;

/// "GET /path HTTP/1.1", whose parts are plain: a request where they are not is refused.
template <Append append>
void append_request_line(Bytes& out, const Exchange& exchange, const ExchangeEnd& end) noexcept {
  if (end.refused) {
    append(out, end.refused_line.empty() ? "-" : end.refused_line, kFieldMax);
    return;
  }
  append(out, exchange.method(), kFieldMax);
  out.append(" ");
  append(out, exchange.target(), kTargetMax);
  out.append(exchange.version_major() == 2 ? " HTTP/2.0" : exchange.version_minor() == 0 ? " HTTP/1.0" : " HTTP/1.1");
}

/// Whom req.remote names; a request that was refused has no fields to tell it.
template <Append append>
void append_client(Bytes& out, Exchange& exchange, const ExchangeEnd& end) noexcept {
  const std::string_view named = end.refused ? std::string_view() : exchange.named_host();
  if (!named.empty()) return append(out, named, kFieldMax);
  exchange.append_remote_host(out);
}

template <class Escape>
void escape_all(Bytes& out, std::string_view text, std::size_t max, Escape escape) noexcept {
  const bool cut = text.size() > max;
  text = text.substr(0, max);
  while (!text.empty()) {
    const std::size_t plain = plain_prefix(text);
    out.append(text.substr(0, plain));
    text.remove_prefix(plain);
    if (!text.empty()) text.remove_prefix(escape(text));
  }
  if (cut) out.append(kCut);
}

}  // namespace

void append_escaped(Bytes& out, std::string_view text, std::size_t max) noexcept {
  if (text.size() <= max && plain_prefix(text) == text.size()) return out.append(text);
  escape_all(out, text, max, [&out](std::string_view rest) -> std::size_t {
    const auto byte = static_cast<unsigned char>(rest[0]);
    const char escape[] = {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
    out.append({escape, sizeof escape});
    return 1;
  });
}

void append_json(Bytes& out, std::string_view text, std::size_t max) noexcept {
  escape_all(out, text, max, [&out](std::string_view rest) -> std::size_t {
    if (rest[0] == '"' || rest[0] == '\\') {
      const char escape[] = {'\\', rest[0]};
      out.append({escape, sizeof escape});
      return 1;
    }
    if (const std::size_t whole = utf8_prefix(rest); whole != 0) {
      out.append(rest.substr(0, whole));
      return whole;
    }
    const auto byte = static_cast<unsigned char>(rest[0]);
    const char escape[] = {'\\', 'u', '0', '0', kHex[byte >> 4], kHex[byte & 15]};
    out.append({escape, sizeof escape});
    return 1;
  });
}

void AccessLines::look_at_clock() noexcept {
  timespec now{};
  ::clock_gettime(format_ == AccessFormat::json ? CLOCK_REALTIME : CLOCK_REALTIME_COARSE, &now);
  microseconds_ = static_cast<std::uint32_t>(now.tv_nsec / 1000);
  if (now.tv_sec == second_) return;
  second_ = now.tv_sec;
  std::tm parts{};
  ::gmtime_r(&second_, &parts);
  static constexpr std::array<const char*, 12> kMonths = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                                          "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), "%02d/%s/%04d:%02d:%02d:%02d +0000", parts.tm_mday,
                kMonths[static_cast<std::size_t>(parts.tm_mon)], parts.tm_year + 1900, parts.tm_hour, parts.tm_min,
                parts.tm_sec);
  before_request_ = std::string(" - - [") + text.data() + "] \"";
  std::snprintf(text.data(), text.size(), "%04d-%02d-%02dT%02d:%02d:%02d.", parts.tm_year + 1900, parts.tm_mon + 1,
                parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec);
  iso_time_ = text.data();
}

std::string_view AccessLines::make(Exchange& exchange, const ExchangeEnd& end) noexcept {
  line_.clear();
  look_at_clock();
  if (format_ == AccessFormat::combined) {
    combined(exchange, end);
  } else {
    json(exchange, end);
  }
  line_.append("\n");
  return line_.view();
}

void AccessLines::combined(Exchange& exchange, const ExchangeEnd& end) noexcept {
  append_client<append_escaped>(line_, exchange, end);
  line_.append(before_request_);
  append_request_line<append_escaped>(line_, exchange, end);
  line_.append("\" ");
  append_number(line_, static_cast<std::uint64_t>(end.status));
  line_.append(" ");
  append_number(line_, exchange.body_bytes());
  for (const std::string_view name : {"referer", "user-agent"}) {
    append_quoted(line_, end.refused ? std::nullopt : exchange.header(name));
  }
  line_.append(" ");
  append_seconds(line_, end.duration);
  line_.append(" ");
  append_id(line_, exchange);
  const tls::Session* session = exchange.tls();
  line_.append(" ");
  line_.append(session != nullptr ? std::string_view(session->version) : "-");
}

void AccessLines::json(Exchange& exchange, const ExchangeEnd& end) noexcept {
  line_.append(R"({"time":")");
  line_.append(iso_time_);
  append_microseconds(line_, microseconds_);
  line_.append(R"(Z","remote":")");
  append_client<append_json>(line_, exchange, end);
  line_.append(R"(","request":")");
  append_request_line<append_json>(line_, exchange, end);
  if (!end.refused) {
    line_.append(R"(","method":")");
    append_json(line_, exchange.method(), kFieldMax);
    line_.append(R"(","target":")");
    append_json(line_, exchange.target(), kTargetMax);
    line_.append(R"(","host":")");
    append_json(line_, exchange.host(), kFieldMax);
  }
  line_.append(R"(","status":)");
  append_number(line_, static_cast<std::uint64_t>(end.status));
  line_.append(R"(,"bytes":)");
  append_number(line_, exchange.body_bytes());
  line_.append(R"(,"seconds":)");
  append_seconds(line_, end.duration);
  line_.append(R"(,"id":")");
  append_id(line_, exchange);
  const tls::Session* session = exchange.tls();
  line_.append(R"(","tls":)");
  if (session != nullptr) {
    line_.append("\"");
    line_.append(session->version);
    line_.append("\"");
  } else {
    line_.append("null");
  }
  if (end.aborted) line_.append(R"(,"aborted":true)");
  if (!end.refused) {
    const auto referer = exchange.header("referer");
    const auto agent = exchange.header("user-agent");
    line_.append(R"(,"referer":")");
    append_json(line_, referer.value_or(""), kFieldMax);
    line_.append(R"(","user_agent":")");
    append_json(line_, agent.value_or(""), kFieldMax);
    const TraceContext& trace = exchange.trace();
    line_.append(R"(","trace_id":")");
    line_.append(trace.id_text());
    line_.append(R"(","span_id":")");
    line_.append(TraceContext::span_text(trace.span));
    line_.append(R"(")");
    if (trace.parent != 0) {
      line_.append(R"(,"parent_id":")");
      line_.append(TraceContext::span_text(trace.parent));
      line_.append(R"(")");
    }
  }
  line_.append("}");
}

}  // namespace evlua::http
