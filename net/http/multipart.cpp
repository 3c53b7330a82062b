#include "net/http/multipart.h"

#include <algorithm>

#include "net/http/syntax.h"

namespace evlua::http {

namespace {

constexpr std::size_t kPaddingMax = 256;  // blanks behind a boundary

int digit(char byte) noexcept { return is_digit(byte) ? byte - '0' : (byte | 0x20) - 'a' + 10; }

std::string decode_percent(std::string_view text) {
  std::string decoded;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool escape = text[i] == '%' && i + 2 < text.size() && is_hex_digit(text[i + 1]) && is_hex_digit(text[i + 2]);
    decoded += escape ? static_cast<char>(digit(text[i + 1]) * 16 + digit(text[i + 2])) : text[i];
    if (escape) i += 2;
  }
  return decoded;
}

/// Takes one `; name=value` from the front; false when there is none, or it is broken. Browsers escape quotation marks
/// in a value by a backslash or as %22, and no other backslash.
bool next_parameter(std::string_view& text, std::string_view& name, std::string& value) {
  while (!text.empty() && (is_blank(text[0]) || text[0] == ';')) text.remove_prefix(1);
  const std::size_t equals = text.find('=');
  if (equals == std::string_view::npos) return false;
  name = trim(text.substr(0, equals));
  text.remove_prefix(equals + 1);
  value.clear();
  if (text.empty() || text[0] != '"') {
    const std::size_t end = std::min(text.find(';'), text.size());
    value = trim(text.substr(0, end));
    text.remove_prefix(end);
    return true;
  }
  std::size_t at = 1;
  for (; at < text.size() && text[at] != '"'; ++at) {
    if (text[at] == '\\' && at + 1 < text.size() && text[at + 1] == '"') ++at;
    value += text[at];
  }
  if (at == text.size()) return false;
  text.remove_prefix(at + 1);
  return true;
}

std::string base_name(const std::string& name) { return name.substr(name.find_last_of("/\\") + 1); }

}  // namespace

std::optional<std::string> multipart_boundary(std::string_view content_type) {
  const std::size_t semicolon = std::min(content_type.find(';'), content_type.size());
  if (!equal_ignoring_case(trim(content_type.substr(0, semicolon)), "multipart/form-data")) return std::nullopt;
  content_type.remove_prefix(semicolon);
  std::string_view name;
  std::string value;
  while (next_parameter(content_type, name, value)) {
    if (!equal_ignoring_case(name, "boundary")) continue;
    const bool good = !value.empty() && value.size() <= 200 && find_control(value, 0) == value.size();
    return good ? std::optional(value) : std::nullopt;
  }
  return std::nullopt;
}

MultipartReader::MultipartReader(std::string_view boundary)
    : delimiter_("\r\n--" + std::string(boundary)), buffer_("\r\n") {}

void MultipartReader::feed(std::string_view bytes) {
  if (state_ == State::end || state_ == State::invalid) return;
  buffer_.erase(0, at_);
  at_ = 0;
  buffer_.append(bytes);
}

MultipartReader::Event MultipartReader::refuse(const char* reason) noexcept {
  state_ = State::invalid;
  reason_ = reason;
  return Event::invalid;
}

MultipartReader::Event MultipartReader::next() {
  Event event = Event::more;
  switch (state_) {
    case State::preamble: event = skip_preamble(); break;
    case State::delimiter: event = end_delimiter(); break;
    case State::head: event = read_head(); break;
    case State::data: event = read_data(); break;
    case State::end: return Event::end;
    case State::invalid: return Event::invalid;
  }
  return event == Event::more && finished_ ? refuse("it ends too early") : event;
}

/// What comes before the first boundary is nobody's.
MultipartReader::Event MultipartReader::skip_preamble() {
  const std::size_t found = rest().find(delimiter_);
  if (found == std::string_view::npos) {
    at_ += rest().size() - std::min(rest().size(), delimiter_.size() - 1);
    return Event::more;
  }
  at_ += found + delimiter_.size();
  state_ = State::delimiter;
  return end_delimiter();
}

/// Behind a boundary: two dashes end the body, a line end begins a part.
MultipartReader::Event MultipartReader::end_delimiter() {
  if (in_part_) {
    in_part_ = false;
    return Event::part_end;
  }
  const std::string_view text = rest();
  if (text.size() < 2) return Event::more;
  if (text.starts_with("--")) {
    state_ = State::end;
    buffer_.clear();
    at_ = 0;
    return Event::end;
  }
  std::size_t blanks = 0;
  while (blanks < text.size() && is_blank(text[blanks])) ++blanks;
  if (blanks > kPaddingMax) return refuse("a boundary line is too long");
  if (text.size() < blanks + 2) return Event::more;
  if (text.substr(blanks, 2) != "\r\n") return refuse("something stands behind a boundary");
  if (++parts_ > kPartsMax) return refuse("too many parts");
  at_ += blanks;  // the line end belongs to what ends the head
  state_ = State::head;
  return read_head();
}

MultipartReader::Event MultipartReader::read_head() {
  const std::string_view text = rest();
  const std::size_t end = text.find("\r\n\r\n");
  if (end == std::string_view::npos) {
    return text.size() > kHeadBytesMax ? refuse("the head of a part is too long") : Event::more;
  }
  if (end > kHeadBytesMax) return refuse("the head of a part is too long");
  at_ += end + 4;
  if (!parse_head(text.substr(0, end))) return refuse("the head of a part is broken");
  state_ = State::data;
  in_part_ = true;
  return Event::part;
}

bool MultipartReader::parse_head(std::string_view text) {
  head_ = {};
  bool named = false;
  while (!text.empty()) {
    text.remove_prefix(2);
    const std::size_t end = std::min(text.find("\r\n"), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end);
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos || !valid_field_name(line.substr(0, colon))) return false;
    const std::string_view name = line.substr(0, colon);
    const std::string_view value = trim(line.substr(colon + 1));
    if (!valid_field_value(value)) return false;
    head_.fields.emplace_back(name, value);
    if (equal_ignoring_case(name, "content-type")) head_.content_type = value;
    if (!equal_ignoring_case(name, "content-disposition")) continue;
    if (named || !take_disposition(value)) return false;
    named = true;
  }
  return named;
}

bool MultipartReader::take_disposition(std::string_view value) {
  const std::size_t semicolon = std::min(value.find(';'), value.size());
  if (!equal_ignoring_case(trim(value.substr(0, semicolon)), "form-data")) return false;
  value.remove_prefix(semicolon);
  bool named = false;
  bool extended = false;
  std::string_view parameter;
  std::string text;
  while (next_parameter(value, parameter, text)) {
    if (equal_ignoring_case(parameter, "name")) {
      head_.name = text;
      named = true;
    } else if (equal_ignoring_case(parameter, "filename") && !extended) {
      head_.file_name = base_name(text);
    } else if (equal_ignoring_case(parameter, "filename*") && equal_ignoring_case(text.substr(0, 7), "utf-8''")) {
      head_.file_name = base_name(decode_percent(text.substr(7)));
      extended = true;
    }
  }
  return named && trim(value).empty();
}

MultipartReader::Event MultipartReader::read_data() {
  const std::string_view text = rest();
  const std::size_t found = text.find(delimiter_);
  const std::size_t sure =
      found != std::string_view::npos ? found : text.size() - std::min(text.size(), delimiter_.size() - 1);
  if (sure > 0) {
    data_ = text.substr(0, sure);
    at_ += sure;
    return Event::data;
  }
  if (found == std::string_view::npos) return Event::more;
  at_ += delimiter_.size();
  state_ = State::delimiter;
  return end_delimiter();
}

}  // namespace evlua::http
