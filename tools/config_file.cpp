#include "tools/config_file.h"

#define TOML_EXCEPTIONS 0
#define TOML_ENABLE_FORMATTERS 0
#include <toml++/toml.h>

#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>

namespace evlua::tools {

namespace {

using Entries = tl::expected<std::vector<ConfigEntry>, std::string>;

std::string text_of(double number) {
  char text[32];
  return {text, std::to_chars(text, text + sizeof text, number).ptr};
}

/// Nothing for what no option takes: tables, dates, lists in lists.
std::optional<ConfigValue> value_of(const toml::node& node) {
  using Kind = ConfigValue::Kind;
  if (const auto* text = node.as_string()) return ConfigValue{Kind::text, text->get()};
  if (const auto* number = node.as_integer()) return ConfigValue{Kind::number, std::to_string(number->get())};
  if (const auto* number = node.as_floating_point()) return ConfigValue{Kind::number, text_of(number->get())};
  if (const auto* yes = node.as_boolean()) return ConfigValue{Kind::boolean, yes->get() ? "true" : "false"};
  return std::nullopt;
}

/// False: it has a value that no option takes.
bool add_values(const toml::node& node, ConfigEntry& entry) {
  const toml::array* list = node.as_array();
  entry.is_list = list != nullptr;
  if (list == nullptr) {
    std::optional<ConfigValue> value = value_of(node);
    if (value) entry.values.push_back(std::move(*value));
    return value.has_value();
  }
  for (const toml::node& element : *list) {
    std::optional<ConfigValue> value = value_of(element);
    if (!value) return false;
    entry.values.push_back(std::move(*value));
  }
  return true;
}

/// 0 or an errno.
int read_whole(const std::string& path, std::string& content) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "re"), std::fclose);
  if (file == nullptr) return errno;
  char piece[4096];
  while (const std::size_t size = std::fread(piece, 1, sizeof piece, file.get())) content.append(piece, size);
  return std::ferror(file.get()) != 0 ? errno : 0;
}

std::string at(const std::string& path, unsigned line) { return path + ":" + std::to_string(line) + ": "; }

}  // namespace

Entries read_config_file(const std::string& path) {
  std::string content;
  if (const int error = read_whole(path, content)) return tl::unexpected(path + ": " + std::strerror(error));
  const toml::parse_result parsed = toml::parse(content, path);
  if (!parsed) {
    const toml::parse_error& error = parsed.error();
    return tl::unexpected(at(path, error.source().begin.line) + std::string(error.description()));
  }
  std::vector<ConfigEntry> entries;
  for (auto&& [key, node] : parsed.table()) {
    ConfigEntry entry{std::string(key.str()), node.source().begin.line, false, {}};
    if (!add_values(node, entry)) {
      return tl::unexpected(at(path, entry.line) + "'" + entry.name + "' has a value that no option takes");
    }
    entries.push_back(std::move(entry));
  }
  return entries;
}

std::string quoted_for_config(const std::string& text) {
  std::string quoted = "\"";
  for (const char byte : text) {
    if (byte == '"' || byte == '\\') {
      quoted.append({'\\', byte});
    } else if (static_cast<unsigned char>(byte) < 0x20 || byte == 0x7f) {
      char escape[8];
      std::snprintf(escape, sizeof escape, "\\u%04x", static_cast<unsigned>(byte));
      quoted += escape;
    } else {
      quoted += byte;
    }
  }
  return quoted + "\"";
}

}  // namespace evlua::tools
