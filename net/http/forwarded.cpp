#include "net/http/forwarded.h"

#include <algorithm>
#include <cstddef>
#include <optional>
#include <utility>

#include "net/address.h"
#include "net/http/syntax.h"

namespace evlua::http {

namespace {

// -- values -----------------------------------------------------------------------------------------------------------

/// Somebody whom a proxy names.
struct Node {
  std::string text;
  net::Address address;  // AF_UNSPEC: it has none, or hides it
};

constexpr std::size_t kHiddenNameMax = 64;

/// RFC 7239, 6.3
bool is_hidden_name(std::string_view text) noexcept {
  const auto is_good = [](char byte) {
    return is_digit(byte) || (to_lower(byte) >= 'a' && to_lower(byte) <= 'z') || byte == '.' || byte == '_' ||
           byte == '-';
  };
  return text.size() > 1 && text.size() <= kHiddenNameMax && text[0] == '_' &&
         std::all_of(text.begin(), text.end(), is_good);
}

/// "192.0.2.7", "2001:db8::1" or "[2001:db8::1]", with a port behind it or not.
std::optional<Node> parse_address(std::string_view text) {
  std::string_view host = text;
  std::string_view port;
  bool has_port = false;
  if (text.starts_with('[')) {
    const std::size_t close = text.find(']');
    if (close == std::string_view::npos || text.find(':') > close) return std::nullopt;
    host = text.substr(1, close - 1);
    port = text.substr(close + 1);
    has_port = !port.empty();
    if (has_port && port[0] != ':') return std::nullopt;
  } else if (const std::size_t colon = text.find(':'); colon != text.npos && text.find(':', colon + 1) == text.npos) {
    host = text.substr(0, colon);
    port = text.substr(colon);
    has_port = true;
  }
  if (has_port) port.remove_prefix(1);
  const bool port_hidden = is_hidden_name(port);
  const Result<std::uint16_t> number = has_port && !port_hidden ? net::parse_port(port) : std::uint16_t{0};
  if (!number) return std::nullopt;
  const Result<net::Address> address = net::Address::from_host(host, *number);
  if (!address) return std::nullopt;
  Node node{address->to_string(), *address};
  if (!has_port || port_hidden) node.text.resize(node.text.rfind(':'));
  return node;
}

std::optional<Node> parse_node(std::string_view text) {
  if (equal_ignoring_case(text, "unknown")) return Node{"unknown", {}};
  if (is_hidden_name(text)) return Node{std::string(text), {}};
  if (text != "unix:") return parse_address(text);
  sockaddr local{};
  local.sa_family = AF_UNIX;
  return Node{"unix:", net::Address::from(&local, sizeof local.sa_family)};
}

std::string known_scheme(std::string_view text) {
  if (equal_ignoring_case(text, "http")) return "http";
  return equal_ignoring_case(text, "https") ? "https" : "";
}

std::string known_host(std::string_view text) { return valid_host(text) ? std::string(text) : std::string(); }

// -- Forwarded --------------------------------------------------------------------------------------------------------

/// What one proxy says.
struct Element {
  std::string client;
  std::string scheme;
  std::string host;
};

void skip_blanks(std::string_view& rest) noexcept {
  while (!rest.empty() && is_blank(rest[0])) rest.remove_prefix(1);
}

/// A quoted string, or bytes up to a separator: addresses often come without the quotation marks that they need.
bool take_value(std::string_view& rest, std::string& value) {
  value.clear();
  if (!rest.starts_with('"')) {
    const std::size_t end = std::min(rest.find_first_of(",; \t\"\\"), rest.size());
    value = rest.substr(0, end);
    rest.remove_prefix(end);
    return end > 0;
  }
  for (std::size_t at = 1; at < rest.size(); ++at) {
    if (rest[at] == '"') {
      rest.remove_prefix(at + 1);
      return true;
    }
    if (rest[at] == '\\' && ++at == rest.size()) return false;
    value += rest[at];
  }
  return false;
}

/// name=value; nothing may be said twice.
bool take_pair(std::string_view& rest, Element& element, unsigned& seen) {
  const std::size_t equals = rest.find('=');
  if (equals == std::string_view::npos || !valid_field_name(rest.substr(0, equals))) return false;
  const std::string_view name = rest.substr(0, equals);
  rest.remove_prefix(equals + 1);
  std::string value;
  if (!take_value(rest, value)) return false;
  const std::pair<const char*, std::string*> known[] = {
      {"for", &element.client}, {"proto", &element.scheme}, {"host", &element.host}};
  for (unsigned i = 0; i < 3; ++i) {
    if (!equal_ignoring_case(name, known[i].first)) continue;
    if ((seen & 1U << i) != 0 || value.empty()) return false;
    seen |= 1U << i;
    *known[i].second = std::move(value);
    break;
  }
  return true;
}

/// False for a line that breaks the grammar anywhere: where its elements end is not certain then.
bool split_elements(std::string_view rest, std::vector<Element>& out) {
  while (true) {
    Element element;
    unsigned seen = 0;
    bool any = false;
    skip_blanks(rest);
    while (!rest.empty() && rest[0] != ',') {
      if (rest[0] != ';') {
        if (!take_pair(rest, element, seen)) return false;
        any = true;
        skip_blanks(rest);
        if (!rest.empty() && rest[0] != ';' && rest[0] != ',') return false;
      } else {
        rest.remove_prefix(1);
        skip_blanks(rest);
      }
    }
    if (any) out.push_back(std::move(element));
    if (rest.empty()) return true;
    rest.remove_prefix(1);
  }
}

/// Takes what `element` says into `client`. True: whom it names is a proxy of ours, so that we may ask further.
bool step(const Element& element, const AddressList& trusted, ForwardedClient& client) {
  std::optional<Node> node;
  if (!element.client.empty()) {
    node = parse_node(element.client);
    if (!node) return false;
  }
  client.scheme = known_scheme(element.scheme);
  client.host = known_host(element.host);
  if (!node) return false;
  client.remote = std::move(node->text);
  return trusted.contains(node->address.get());
}

ForwardedClient of_forwarded(const std::vector<std::string_view>& lines, const AddressList& trusted) {
  ForwardedClient client;
  for (auto line = lines.rbegin(); line != lines.rend(); ++line) {
    std::vector<Element> elements;
    if (!split_elements(*line, elements)) return client;
    for (auto element = elements.rbegin(); element != elements.rend(); ++element) {
      if (!step(*element, trusted, client)) return client;
    }
  }
  return client;
}

// -- X-Forwarded-* ----------------------------------------------------------------------------------------------------

/// The entries of lists in several lines, the last one first.
class Backwards {
 public:
  explicit Backwards(const std::vector<std::string_view>& lines) noexcept : lines_(lines), left_(lines.size()) {}

  std::optional<std::string_view> next() noexcept {
    while (true) {
      if (!inside_) {
        if (left_ == 0) return std::nullopt;
        line_ = lines_[--left_];
        inside_ = true;
      }
      const std::size_t comma = line_.rfind(',');
      const std::string_view entry = trim(comma == std::string_view::npos ? line_ : line_.substr(comma + 1));
      inside_ = comma != std::string_view::npos;
      if (inside_) line_ = line_.substr(0, comma);
      if (!entry.empty()) return entry;
    }
  }

 private:
  const std::vector<std::string_view>& lines_;
  std::size_t left_;
  std::string_view line_;
  bool inside_ = false;
};

/// What was said `depth` proxies away. Who does not add to a list replaces it: then there are fewer entries.
std::string_view entry_at(const std::vector<std::string_view>& lines, std::size_t depth) noexcept {
  Backwards entries(lines);
  std::string_view found;
  for (std::size_t i = 0; i <= depth; ++i) {
    const auto entry = entries.next();
    if (!entry) break;
    found = *entry;
  }
  return found;
}

ForwardedClient of_separate_fields(const ForwardedLines& lines, const AddressList& trusted) {
  ForwardedClient client;
  Backwards entries(lines.clients);
  std::size_t depth = 0;
  for (std::size_t steps = 0;; ++steps) {
    const auto entry = entries.next();
    std::optional<Node> node = entry ? parse_node(*entry) : std::nullopt;
    if (!node) break;
    depth = steps;
    client.remote = std::move(node->text);
    if (!trusted.contains(node->address.get())) break;
  }
  client.scheme = known_scheme(entry_at(lines.schemes, depth));
  client.host = known_host(entry_at(lines.hosts, depth));
  return client;
}

}  // namespace

void ForwardedLines::add(const HeaderField& field) {
  if (equal_ignoring_case(field.name, "forwarded")) forwarded.push_back(field.value);
  if (equal_ignoring_case(field.name, "x-forwarded-for")) clients.push_back(field.value);
  if (equal_ignoring_case(field.name, "x-forwarded-proto")) schemes.push_back(field.value);
  if (equal_ignoring_case(field.name, "x-forwarded-host")) hosts.push_back(field.value);
}

ForwardedClient find_client(const ForwardedLines& lines, const AddressList& trusted) {
  return lines.forwarded.empty() ? of_separate_fields(lines, trusted) : of_forwarded(lines.forwarded, trusted);
}

}  // namespace evlua::http
