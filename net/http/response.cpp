#include "net/http/response.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <ctime>
#include <utility>

#include "core/time.h"
#include "core/worker.h"
#include "net/http/syntax.h"

namespace evlua::http {

namespace {

constexpr std::string_view kServerName = "evlua";
constexpr std::string_view kServerLine = "Server: evlua\r\n";
constexpr std::string_view kOkLine = "HTTP/1.1 200 OK\r\n";
constexpr std::size_t kFieldBytesKept = 4096;
// Status line with a named status, Server, Date, framing and Connection, generously.
constexpr std::size_t kFixedBytes = 512;

/// What most responses begin with, made once per second.
struct Preamble {
  Instant valid_until = 0;
  std::size_t size = 0;
  std::size_t date_at = 0;
  char bytes[128];
};

thread_local Preamble this_thread_preamble;

void append_two(char*& to, int value) noexcept {
  *to++ = static_cast<char>('0' + value / 10);
  *to++ = static_cast<char>('0' + value % 10);
}

void append(char*& to, std::string_view text) noexcept {
  to = std::copy(text.begin(), text.end(), to);  // text may be empty and its data null
}

/// IMF-fixdate, RFC 9110 5.6.7.
void append_date(char*& to, std::time_t seconds) noexcept {
  constexpr std::string_view days = "SunMonTueWedThuFriSat";
  constexpr std::string_view months = "JanFebMarAprMayJunJulAugSepOctNovDec";
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  append(to, days.substr(static_cast<std::size_t>(parts.tm_wday) * 3, 3));
  append(to, ", ");
  append_two(to, parts.tm_mday);
  *to++ = ' ';
  append(to, months.substr(static_cast<std::size_t>(parts.tm_mon) * 3, 3));
  *to++ = ' ';
  append_two(to, (parts.tm_year + 1900) / 100);
  append_two(to, (parts.tm_year + 1900) % 100);
  *to++ = ' ';
  append_two(to, parts.tm_hour);
  *to++ = ':';
  append_two(to, parts.tm_min);
  *to++ = ':';
  append_two(to, parts.tm_sec);
  append(to, " GMT");
}

/// "HTTP/1.1 200 OK", Server and Date. The clock is the worker's, so looking costs nothing.
const Preamble& preamble() noexcept {
  Preamble& cached = this_thread_preamble;
  Worker* worker = Worker::current_or_null();
  const Instant now = worker != nullptr ? worker->now() : monotonic_now();
  if (now < cached.valid_until) return cached;
  timespec wall{};
  ::clock_gettime(CLOCK_REALTIME, &wall);
  char* to = cached.bytes;
  append(to, kOkLine);
  append(to, kServerLine);
  cached.date_at = static_cast<std::size_t>(to - cached.bytes);
  append(to, "Date: ");
  append_date(to, wall.tv_sec);
  append(to, "\r\n");
  cached.size = static_cast<std::size_t>(to - cached.bytes);
  cached.valid_until = now + (kSecond - wall.tv_nsec);
  return cached;
}

void append_number(char*& to, std::uint64_t number) noexcept { to = std::to_chars(to, to + 20, number).ptr; }

}  // namespace

std::string_view reason_phrase(int status) noexcept {
  switch (status) {
    case 200: return "OK";
    case 201: return "Created";
    case 202: return "Accepted";
    case 203: return "Non-Authoritative Information";
    case 204: return "No Content";
    case 205: return "Reset Content";
    case 206: return "Partial Content";
    case 300: return "Multiple Choices";
    case 301: return "Moved Permanently";
    case 302: return "Found";
    case 303: return "See Other";
    case 304: return "Not Modified";
    case 307: return "Temporary Redirect";
    case 308: return "Permanent Redirect";
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 402: return "Payment Required";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 406: return "Not Acceptable";
    case 407: return "Proxy Authentication Required";
    case 408: return "Request Timeout";
    case 409: return "Conflict";
    case 410: return "Gone";
    case 411: return "Length Required";
    case 412: return "Precondition Failed";
    case 413: return "Content Too Large";
    case 414: return "URI Too Long";
    case 415: return "Unsupported Media Type";
    case 416: return "Range Not Satisfiable";
    case 417: return "Expectation Failed";
    case 418: return "I'm a teapot";
    case 421: return "Misdirected Request";
    case 422: return "Unprocessable Content";
    case 425: return "Too Early";
    case 426: return "Upgrade Required";
    case 428: return "Precondition Required";
    case 429: return "Too Many Requests";
    case 431: return "Request Header Fields Too Large";
    case 451: return "Unavailable For Legal Reasons";
    case 500: return "Internal Server Error";
    case 501: return "Not Implemented";
    case 502: return "Bad Gateway";
    case 503: return "Service Unavailable";
    case 504: return "Gateway Timeout";
    case 505: return "HTTP Version Not Supported";
    case 507: return "Insufficient Storage";
    case 511: return "Network Authentication Required";
    default: return {};
  }
}

void ResponseHead::reset() noexcept {
  if (lines_.capacity() > kFieldBytesKept) {
    lines_.release();
  } else {
    lines_.clear();
  }
  reason_.clear();
  content_length_ = 0;
  status_ = 200;
  has_length_ = has_date_ = has_server_ = asks_close_ = false;
}

Result<void> ResponseHead::set_status(int status, std::string_view reason) {
  if (status < 200 || status > 999 || !valid_field_value(reason)) return fail(EINVAL, OpCode::protocol);
  status_ = static_cast<std::int16_t>(status);
  reason_ = reason;
  return {};
}

/// May the field be set, and what does it say that we must know?
Result<void> ResponseHead::check(std::string_view name, std::string_view value) noexcept {
  if (!valid_field_name(name) || !valid_field_value(value)) return fail(EINVAL, OpCode::protocol);
  switch (name.size()) {
    case 4:
      if (equal_ignoring_case(name, "date")) has_date_ = true;
      break;
    case 6:
      if (equal_ignoring_case(name, "server")) has_server_ = true;
      break;
    case 10:
      if (equal_ignoring_case(name, "connection") && equal_ignoring_case(trim(value), "close")) asks_close_ = true;
      break;
    case 14:
      if (equal_ignoring_case(name, "content-length")) {
        const std::optional<std::uint64_t> length = parse_length(value);
        if (!length) return fail(EINVAL, OpCode::protocol);
        has_length_ = true;
        content_length_ = *length;
      }
      break;
    case 17:
      if (equal_ignoring_case(name, "transfer-encoding")) return fail(EINVAL, OpCode::protocol);
      break;
    default: break;
  }
  return {};
}

/// Fields that write_to puts into words itself, from what `check` noted.
bool ResponseHead::is_ours(std::string_view name, std::string_view value) noexcept {
  if (name.size() == 14) return equal_ignoring_case(name, "content-length");
  if (name.size() != 10 || !equal_ignoring_case(name, "connection")) return false;
  const std::string_view option = trim(value);
  return equal_ignoring_case(option, "close") || equal_ignoring_case(option, "keep-alive");
}

Result<void> ResponseHead::set(std::string_view name, std::string_view value) {
  const Result<void> valid = check(name, value);
  if (!valid) return valid;
  if (!lines_.empty()) erase_lines(name);
  if (!is_ours(name, value)) append(name, value);
  return {};
}

Result<void> ResponseHead::add(std::string_view name, std::string_view value) {
  if (equal_ignoring_case(name, "content-length")) return set(name, value);
  const Result<void> valid = check(name, value);
  if (!valid) return valid;
  if (!is_ours(name, value)) append(name, value);
  return {};
}

void ResponseHead::append(std::string_view name, std::string_view value) noexcept {
  char* to = lines_.reserve(name.size() + value.size() + 4);
  char* const from = to;
  http::append(to, name);
  http::append(to, ": ");
  http::append(to, value);
  http::append(to, "\r\n");
  lines_.commit(static_cast<std::size_t>(to - from));
}

bool ResponseHead::remove(std::string_view name) noexcept {
  bool found = erase_lines(name);
  if (equal_ignoring_case(name, "date")) has_date_ = false;
  if (equal_ignoring_case(name, "server")) has_server_ = false;
  if (equal_ignoring_case(name, "connection")) found |= std::exchange(asks_close_, false);
  if (equal_ignoring_case(name, "content-length")) found |= std::exchange(has_length_, false);
  return found;
}

bool ResponseHead::erase_lines(std::string_view name) noexcept {
  bool found = false;
  for (std::size_t line = line_of(name, 0); line != std::string_view::npos; line = line_of(name, line)) {
    const std::size_t end = lines_.view().find('\n', line) + 1;
    lines_.erase(line, end - line);
    found = true;
  }
  return found;
}

std::size_t ResponseHead::line_of(std::string_view name, std::size_t from) const noexcept {
  const std::string_view lines = lines_.view();
  for (std::size_t line = from; line < lines.size(); line = lines.find('\n', line) + 1) {
    if (lines.size() - line > name.size() && lines[line + name.size()] == ':' &&
        equal_ignoring_case(lines.substr(line, name.size()), name)) {
      return line;
    }
  }
  return std::string_view::npos;
}

bool ResponseHead::has(std::string_view name) const noexcept {
  if (equal_ignoring_case(name, "content-length")) return has_length_;
  if (asks_close_ && equal_ignoring_case(name, "connection")) return true;
  return find(name).has_value();
}

std::optional<std::string_view> ResponseHead::find(std::string_view name) const noexcept {
  const std::size_t line = line_of(name, 0);
  if (line == std::string_view::npos) return std::nullopt;
  const std::size_t value = line + name.size() + 2;
  return lines_.view().substr(value, lines_.view().find('\r', value) - value);
}

std::string_view ResponseHead::standard_server() noexcept { return kServerName; }

std::string_view ResponseHead::standard_date() noexcept {
  const Preamble& common = preamble();
  constexpr std::size_t kName = std::string_view("Date: ").size();
  return {common.bytes + common.date_at + kName, common.size - common.date_at - kName - 2};
}

void ResponseHead::write_to(Bytes& out, Framing framing, std::uint64_t length, Persistence persistence,
                            std::size_t body_room) const noexcept {
  const Preamble& common = preamble();
  const std::string_view cached(common.bytes, common.size);
  char* const from = out.reserve(kFixedBytes + reason_.size() + lines_.size() + body_room);
  char* to = from;
  if (status_ == 200 && reason_.empty() && !has_date_ && !has_server_) {
    http::append(to, cached);
  } else {
    http::append(to, "HTTP/1.1 ");
    append_number(to, static_cast<std::uint64_t>(status_));
    *to++ = ' ';
    http::append(to, reason_.empty() ? reason_phrase(status_) : std::string_view(reason_));
    http::append(to, "\r\n");
    if (!has_server_) http::append(to, kServerLine);
    if (!has_date_) http::append(to, cached.substr(common.date_at));
  }
  if (framing == Framing::length) {
    http::append(to, "Content-Length: ");
    append_number(to, length);
    http::append(to, "\r\n");
  } else if (framing == Framing::chunked) {
    http::append(to, "Transfer-Encoding: chunked\r\n");
  }
  if (persistence == Persistence::close) http::append(to, "Connection: close\r\n");
  if (persistence == Persistence::keep_alive) http::append(to, "Connection: keep-alive\r\n");
  if (!lines_.empty()) http::append(to, lines_.view());
  http::append(to, "\r\n");
  out.commit(static_cast<std::size_t>(to - from));
}

}  // namespace evlua::http
