// How a head is read. `scan_lines` looks for control bytes only: each must be part of a CRLF, which settles bare CR,
// bare LF, NUL and the rest at once, finds the line ends, and checks the limits. Whole lines then go to llhttp, which
// checks methods, names, values and what it knows of the framing. Afterwards `check_fields` applies the rules that
// must not be left to anybody: one Host, one Content-Length, no Transfer-Encoding but "chunked", never both.
#include "net/http/parser.h"

#include <algorithm>
#include <cstring>

#include "core/check.h"
#include "net/http/syntax.h"

namespace evlua::http {

namespace {

constexpr std::uint32_t kEmptyLinesMax = 4;  // before a request line; RFC 9112 2.2 asks for one
constexpr std::size_t kVersionBytes = 8;     // "HTTP/1.1"

/// A host without the port that it has anyway.
std::string_view without_port(std::string_view host, std::string_view port) noexcept {
  if (host.ends_with(port)) host.remove_suffix(port.size());
  if (host.ends_with(':')) host.remove_suffix(1);
  return host;
}

/// Codings of which the last one is "chunked", and no other: a body that has an end, and that we cannot decode.
bool chunks_something(std::string_view codings) noexcept {
  const std::size_t last = codings.rfind(',');
  if (last == std::string_view::npos || !equal_ignoring_case(trim(codings.substr(last + 1)), "chunked")) return false;
  codings = codings.substr(0, last);
  while (true) {
    const std::size_t comma = std::min(codings.find(','), codings.size());
    const std::string_view coding = trim(codings.substr(0, comma));
    if (!valid_field_name(coding) || equal_ignoring_case(coding, "chunked")) return false;
    if (comma == codings.size()) return true;
    codings.remove_prefix(comma + 1);
  }
}

}  // namespace

struct RequestParser::Callbacks {
  static RequestParser& self(llhttp_t* parser) noexcept { return *static_cast<RequestParser*>(parser->data); }

  static int name(llhttp_t* parser, const char* at, std::size_t size) noexcept {
    RequestParser& request = self(parser);
    const auto position = request.position(at);
    if (request.field_count_ != 0) {
      // A name that goes on where the last one stopped is the same one.
      Range& last = request.fields_[request.field_count_ - 1u].name;
      if (last.at + last.size == position) {
        last.size = static_cast<std::uint16_t>(last.size + size);
        return 0;
      }
    }
    EVLUA_CHECK(request.field_count_ < kHeaderFieldsMax);  // the lines were counted
    request.fields_[request.field_count_++] = {{position, static_cast<std::uint16_t>(size)}, {}};
    return 0;
  }

  static int value(llhttp_t* parser, const char* at, std::size_t size) noexcept {
    RequestParser& request = self(parser);
    const auto position = request.position(at);
    Range& range = request.fields_[request.field_count_ - 1u].value;
    if (range.size == 0) {
      range = {position, static_cast<std::uint16_t>(size)};
    } else if (range.at + range.size == position) {
      range.size = static_cast<std::uint16_t>(range.size + size);
    } else {
      return HPE_USER;  // folded lines were refused before, so this does not happen
    }
    return 0;
  }

  static int head_complete(llhttp_t*) noexcept { return HPE_PAUSED; }

  static constexpr llhttp_settings_t settings() noexcept {
    llhttp_settings_t settings{};
    settings.on_header_field = name;
    settings.on_header_value = value;
    settings.on_headers_complete = head_complete;
    return settings;
  }
};

void RequestParser::reset() noexcept {
  static constexpr llhttp_settings_t settings = Callbacks::settings();
  llhttp_init(&llhttp_, HTTP_REQUEST, &settings);
  llhttp_.data = this;
  state_ = State();
  field_count_ = 0;
}

RequestParser::Outcome RequestParser::refuse(int status, const char* reason) noexcept {
  state_.refusal = static_cast<std::int16_t>(status);
  state_.reason = reason;
  return Outcome::refused;
}

RequestParser::Outcome RequestParser::parse(std::string_view head, const Limits& limits) noexcept {
  const bool cut = head.size() > kHeadBytesMax;
  if (cut) head = head.substr(0, kHeadBytesMax);
  if (state_.line_start == state_.start) {
    const Outcome outcome = check_start(head);
    if (outcome != Outcome::complete) return outcome;
  }
  const Outcome scanned = scan_lines(head, limits);
  // What came before a refused line has its say first, as it would if it had come alone.
  const Outcome fed = feed(head);
  if (fed == Outcome::refused || scanned == Outcome::refused) return Outcome::refused;
  if (scanned == Outcome::incomplete) return cut ? refuse(431, "head too large") : scanned;
  state_.head_bytes = state_.line_start;
  return check_fields(head);
}

/// Skips empty lines and looks at the first byte, so that what is no HTTP at all is refused without waiting for more.
RequestParser::Outcome RequestParser::check_start(std::string_view head) noexcept {
  while (state_.start < head.size() && head[state_.start] == '\r') {
    if (state_.start + 1 == head.size()) return Outcome::incomplete;
    if (head[state_.start + 1] != '\n') return refuse(400, "bare CR");
    state_.start += 2;
    state_.line_start = state_.start;  // still nothing of a request line
    if (state_.start > 2 * kEmptyLinesMax) return refuse(400, "too many empty lines");
  }
  state_.scanned_bytes = state_.fed_bytes = state_.start;
  if (state_.start == head.size()) return Outcome::incomplete;
  return is_token_byte(head[state_.start]) ? Outcome::complete : refuse(400, "not a method");
}

RequestParser::Outcome RequestParser::scan_lines(std::string_view head, const Limits& limits) noexcept {
  for (;;) {
    const std::size_t at = find_control(head, state_.scanned_bytes);
    const bool in_request_line = state_.fields_start == 0;
    if (in_request_line) {
      if (at - state_.line_start > limits.request_line_bytes) return refuse_long_line(head, limits);
    } else {
      // Looked at first, since it is known first.
      const bool starts = state_.line_start < head.size();
      if (starts && is_blank(head[state_.line_start])) return refuse(400, "folded line");
      // The empty line at the end does not count.
      const std::size_t end = at == state_.line_start ? at : at + 2;
      if (end - state_.fields_start > limits.header_block_bytes) return refuse(431, "header block too large");
    }
    state_.scanned_bytes = static_cast<std::uint32_t>(at);
    if (at + 1 >= head.size()) {
      const bool may_go_on = at == head.size() || head[at] == '\r';
      return may_go_on ? Outcome::incomplete : refuse(400, "control byte");
    }
    if (head[at] != '\r' || head[at + 1] != '\n') return refuse(400, "control byte");
    const bool empty = at == state_.line_start;
    const auto line_end = static_cast<std::uint32_t>(at + 2);
    if (in_request_line) {
      const Outcome outcome = check_request_line(head.substr(0, at));
      if (outcome == Outcome::refused) return outcome;
      state_.fields_start = line_end;
    } else if (!empty && ++state_.lines > std::min(limits.header_fields, kHeaderFieldsMax)) {
      return refuse(431, "too many fields");
    }
    state_.line_start = state_.scanned_bytes = line_end;
    if (empty) return Outcome::complete;
  }
}

/// What is too long may be the method, which then is none that we know (RFC 9112 3).
RequestParser::Outcome RequestParser::refuse_long_line(std::string_view head, const Limits& limits) noexcept {
  const std::string_view line = head.substr(state_.line_start, limits.request_line_bytes);
  if (line.find(' ') == std::string_view::npos) return refuse(501, "method too long");
  return refuse(414, "request line too long");
}

/// Gives llhttp the whole lines it has not seen. `complete` says only that it had no objection.
RequestParser::Outcome RequestParser::feed(std::string_view head) noexcept {
  if (state_.line_start == state_.fed_bytes) return Outcome::complete;
  const std::uint32_t fed_before = state_.fed_bytes;
  const llhttp_errno_t error = execute(head);
  state_.fed_bytes = state_.line_start;
  if (error == HPE_OK || error == HPE_PAUSED) return Outcome::complete;
  if (error == HPE_INVALID_URL) return refuse(400, "invalid target");
  // The request line has the right shape, so what llhttp dislikes about it is the method.
  const bool in_request_line = fed_before == state_.start && llhttp_.error_pos < head.data() + state_.fields_start;
  if (in_request_line) return refuse(501, "unknown method");
  return refuse(400, llhttp_.reason != nullptr ? llhttp_.reason : "invalid head");
}

/// llhttp knows no HTTP/1.2. For it, as for the handler, that is 1.1 (RFC 9110 2.5).
llhttp_errno_t RequestParser::execute(std::string_view head) noexcept {
  const std::uint32_t minor = state_.fields_start - 3;  // "1\r\n"
  if (state_.fed_bytes < minor && head[minor] > '1') {
    fed_from_ = head.data() + state_.fed_bytes;
    llhttp_errno_t error = llhttp_execute(&llhttp_, fed_from_, minor - state_.fed_bytes);
    if (error == HPE_OK) error = llhttp_execute(&llhttp_, "1", 1);
    if (error != HPE_OK) return error;
    state_.fed_bytes = minor + 1;
  }
  fed_from_ = head.data() + state_.fed_bytes;
  return llhttp_execute(&llhttp_, fed_from_, state_.line_start - state_.fed_bytes);
}

/// `line` goes from the start of the head to the end of the request line.
RequestParser::Outcome RequestParser::check_request_line(std::string_view line) noexcept {
  std::size_t end = state_.start;
  while (end < line.size() && is_token_byte(line[end])) ++end;
  if (end == line.size() || line[end] != ' ') return refuse(400, "invalid method");
  state_.method = range(state_.start, end);

  if (line.size() < end + 1 + 1 + kVersionBytes + 1) return refuse(400, "invalid request line");
  const std::size_t version = line.size() - kVersionBytes;
  if (line[version - 1] != ' ') return refuse(400, "invalid request line");
  const std::string_view name = line.substr(version);
  if (name.substr(0, 5) != "HTTP/" || !is_digit(name[5]) || name[6] != '.' || !is_digit(name[7])) {
    return refuse(400, "invalid version");
  }
  if (name[5] != '1') return refuse(505, "unsupported version");
  state_.version_minor = name[7] == '0' ? 0 : 1;
  state_.target = range(end + 1, version - 1);
  return check_target(line);
}

RequestParser::Outcome RequestParser::check_target(std::string_view head) noexcept {
  const std::string_view all = view(head, state_.target);
  std::size_t query = all.size();
  for (std::size_t at = 0; at < all.size(); ++at) {
    const char byte = all[at];
    if (byte == '?' && query == all.size()) query = at;
    if (!is_visible(byte) || byte == '#') return refuse(400, "invalid target");
  }
  const std::string_view name = method(head);
  if (name == "CONNECT") return refuse(501, "CONNECT");
  const std::size_t from = state_.target.at;
  if (query < all.size()) state_.query = range(from + query + 1, from + all.size());
  state_.path = range(from, from + query);
  if (all[0] == '/') return Outcome::complete;
  if (all == "*") return name == "OPTIONS" ? Outcome::complete : refuse(400, "invalid target");

  std::size_t authority = 0;
  if (equal_ignoring_case(all.substr(0, 7), "http://")) authority = 7;
  if (equal_ignoring_case(all.substr(0, 8), "https://")) authority = 8;
  if (authority == 0) return refuse(400, "invalid target");
  const std::size_t end = std::min(all.find_first_of("/?", authority), all.size());
  state_.host = range(from + authority, from + end);
  state_.absolute = true;
  state_.https = authority == 8;
  state_.path = range(from + end, from + std::max(end, query));
  const std::string_view host_name = view(head, state_.host);
  if (host_name.empty() || !valid_host(host_name)) return refuse(400, "invalid target");
  return Outcome::complete;
}

RequestParser::Outcome RequestParser::check_fields(std::string_view head) noexcept {
  for (std::size_t index = 0; index < field_count_; ++index) {
    Field& field = fields_[index];
    while (field.value.size > 0 && is_blank(head[field.value.at + field.value.size - 1u])) --field.value.size;
    const Outcome outcome = take_field(head, field);
    if (outcome == Outcome::refused) return outcome;
  }
  return check_framing();
}

RequestParser::Outcome RequestParser::take_field(std::string_view head, const Field& field) noexcept {
  const std::string_view name = view(head, field.name);
  const std::string_view value = view(head, field.value);
  switch (name.size()) {
    case 0: return refuse(400, "empty field name");
    case 4:
      if (equal_ignoring_case(name, "host")) return take_host(head, field.value);
      break;
    case 6:
      if (equal_ignoring_case(name, "expect") && state_.version_minor > 0) {
        if (!equal_ignoring_case(value, "100-continue")) return refuse(417, "unknown expectation");
        state_.expects_continue = true;
      }
      break;
    case 10:
      if (equal_ignoring_case(name, "connection")) take_connection(value);
      break;
    case 14:
      if (equal_ignoring_case(name, "content-length")) {
        if (has_tab(head, field)) return refuse(400, "tab in Content-Length");
        return take_length(value);
      }
      break;
    case 17:
      if (equal_ignoring_case(name, "transfer-encoding")) {
        if (state_.has_coding) return refuse(400, "repeated Transfer-Encoding");
        if (has_tab(head, field)) return refuse(400, "tab in Transfer-Encoding");
        if (!equal_ignoring_case(value, "chunked")) {
          return refuse(chunks_something(value) ? 501 : 400, "unknown Transfer-Encoding");
        }
        state_.has_coding = true;
      }
      break;
    default: break;
  }
  return Outcome::complete;
}

/// Tabs are legal blanks around a value, and an old trick to hide a framing field from a reader less exact (RFC 9112
/// 11.2). Nobody else puts them there.
bool RequestParser::has_tab(std::string_view head, const Field& field) noexcept {
  const std::size_t from = field.name.at;
  return head.substr(from, head.find('\r', from) - from).find('\t') != std::string_view::npos;
}

RequestParser::Outcome RequestParser::take_host(std::string_view head, Range value) noexcept {
  if (state_.has_host) return refuse(400, "repeated Host");
  state_.has_host = true;
  const std::string_view name = view(head, value);
  if (!valid_host(name)) return refuse(400, "invalid Host");  // no http URI has an empty one (RFC 9110 4.2.1)
  if (!state_.absolute) {
    state_.host = value;
    return Outcome::complete;
  }
  // They have to be the same (RFC 9112 3.2): whom else was the client, or somebody before us, made to believe in?
  const std::string_view port = state_.https ? ":443" : ":80";
  const bool same = equal_ignoring_case(without_port(name, port), without_port(host(head), port));
  return same ? Outcome::complete : refuse(400, "Host is not the target's");
}

RequestParser::Outcome RequestParser::take_length(std::string_view value) noexcept {
  if (state_.has_length) return refuse(400, "repeated Content-Length");
  state_.has_length = true;
  const std::optional<std::uint64_t> length = parse_length(value);
  if (!length) return refuse(400, "invalid Content-Length");
  state_.content_length = *length;
  return Outcome::complete;
}

void RequestParser::take_connection(std::string_view value) noexcept {
  while (!value.empty()) {
    const std::size_t comma = std::min(value.find(','), value.size());
    const std::string_view option = trim(value.substr(0, comma));
    if (equal_ignoring_case(option, "close")) state_.asks_close = true;
    if (equal_ignoring_case(option, "keep-alive")) state_.asks_keep_alive = true;
    value.remove_prefix(std::min(comma + 1, value.size()));
  }
}

RequestParser::Outcome RequestParser::check_framing() noexcept {
  if (state_.version_minor > 0 && !state_.has_host) return refuse(400, "no Host");
  if (state_.has_coding) {
    if (state_.has_length) return refuse(400, "Content-Length with Transfer-Encoding");
    if (state_.version_minor == 0) return refuse(400, "Transfer-Encoding in HTTP/1.0");
    state_.body_kind = BodyKind::chunked;
  } else if (state_.content_length != 0) {
    state_.body_kind = BodyKind::length;
  }
  if (llhttp_.method == HTTP_TRACE && state_.body_kind != BodyKind::none) return refuse(400, "TRACE with a body");
  state_.keep_alive = !state_.asks_close && (state_.version_minor > 0 || state_.asks_keep_alive);
  return Outcome::complete;
}

// -- HTTP/2 ---------------------------------------------------------------------------------------------------------

void RequestParser::add_field(Bytes& head, std::string_view name, std::string_view value,
                              const Limits& limits) noexcept {
  if (state_.refusal != 0) return;
  const bool pseudo = name.starts_with(':');
  const std::size_t most = std::min<std::size_t>(limits.request_line_bytes + limits.header_block_bytes, kHeadBytesMax);
  if (pseudo && value.size() > limits.request_line_bytes) {
    (void)refuse(414, "target too long");
  } else if (head.size() + name.size() + value.size() > most) {
    (void)refuse(431, "header block too large");
  } else if (!pseudo && field_count_ >= std::min(limits.header_fields, kHeaderFieldsMax)) {
    (void)refuse(431, "too many fields");
  }
  if (state_.refusal != 0) return;
  const std::size_t from = head.size();
  head.append(name);
  head.append(value);
  const Range value_range = range(from + name.size(), head.size());
  if (name == ":method") {
    state_.method = value_range;
  } else if (name == ":path") {
    state_.target = value_range;
  } else if (name == ":authority") {
    // Handlers find it where HTTP/1 has it.
    fields_[field_count_++] = {range(head.size(), head.size() + 4), value_range};
    head.append("host");
  } else if (!pseudo) {
    fields_[field_count_++] = {range(from, from + name.size()), value_range};
  }
}

/// A client may send cookies one by one, to compress them better; they are one field (RFC 9113, 8.2.3).
void RequestParser::join_cookies(Bytes& head) noexcept {
  const auto is_cookie = [&head](const Field& field) { return view(head.view(), field.name) == "cookie"; };
  const Field* const end = fields_.data() + field_count_;
  if (std::count_if(fields_.cbegin(), end, is_cookie) < 2) return;
  std::size_t joined = 0;
  std::for_each(fields_.cbegin(), end, [&](const Field& field) {
    if (is_cookie(field)) joined += std::size_t{field.value.size} + 2;
  });
  if (head.size() + joined > kHeadBytesMax) {
    (void)refuse(431, "header block too large");
    return;
  }
  const std::size_t from = head.size();
  head.reserve(joined);  // what is appended lies in there
  std::size_t kept = 0;
  Field* whole = nullptr;
  for (std::size_t index = 0; index < field_count_; ++index) {
    const Field field = fields_[index];
    const bool cookie = is_cookie(field);
    if (cookie && whole != nullptr) head.append("; ");
    if (cookie) head.append(view(head.view(), field.value));
    if (cookie && whole != nullptr) continue;
    fields_[kept] = field;
    if (cookie) whole = &fields_[kept];
    ++kept;
  }
  whole->value = range(from, head.size());
  field_count_ = static_cast<std::uint16_t>(kept);
}

RequestParser::Outcome RequestParser::end_fields(Bytes& bytes, bool has_body) noexcept {
  state_.version_major = 2;
  state_.version_minor = 0;
  if (state_.refusal == 0) join_cookies(bytes);
  if (state_.refusal != 0) return Outcome::refused;
  const std::string_view head = bytes.view();
  if (view(head, state_.method) == "CONNECT") return refuse(501, "CONNECT");
  if (state_.target.size == 0) return refuse(400, "no target");
  const Outcome outcome = check_target(head);
  if (outcome == Outcome::refused) return outcome;
  if (state_.absolute) return refuse(400, "invalid target");
  llhttp_.method = view(head, state_.method) == "HEAD" ? HTTP_HEAD : HTTP_GET;
  for (std::size_t index = 0; index < field_count_; ++index) {
    const Field& field = fields_[index];
    const std::string_view name = view(head, field.name);
    const std::string_view value = view(head, field.value);
    if (name == "host") {
      // Beside an :authority there may be a Host field that says the same.
      if (!valid_host(value) || (state_.has_host && value != host(head))) return refuse(400, "invalid host");
      state_.has_host = true;
      state_.host = field.value;
    } else if (name == "content-length") {
      if (take_length(value) == Outcome::refused) return Outcome::refused;
    } else if (name == "expect") {
      if (!equal_ignoring_case(value, "100-continue")) return refuse(417, "unknown expectation");
      state_.expects_continue = true;
    }
  }
  state_.body_kind = has_body ? BodyKind::stream : BodyKind::none;
  return Outcome::complete;
}

std::optional<std::string_view> RequestParser::find(std::string_view head, std::string_view name) const noexcept {
  for (std::size_t index = 0; index < field_count_; ++index) {
    const Field& field = fields_[index];
    if (field.name.size == name.size() && equal_ignoring_case(view(head, field.name), name)) {
      return view(head, field.value);
    }
  }
  return std::nullopt;
}

}  // namespace evlua::http
