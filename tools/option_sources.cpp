#include "tools/option_sources.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <utility>
#include <vector>

#include "tools/config_file.h"

namespace evlua::tools {

namespace {

constexpr std::string_view kPrefix = "EVLUASERVER_";

std::string variable_of(const std::string& option) {
  std::string name = std::string(kPrefix) + option;
  for (char& c : name) c = c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return name;
}

bool is_flag(const CLI::Option& option) { return option.get_items_expected_max() == 0; }
bool is_list(const CLI::Option& option) { return option.get_items_expected_max() > 1; }
bool is_text(const CLI::Option& option) { return option.get_type_name().starts_with("TEXT"); }

[[noreturn]] void refuse(const std::string& message) {
  throw CLI::ParseError(message, CLI::ExitCodes::ValidationError);
}

/// The one among those that the option excludes which has been given; or null.
const CLI::Option* rival_of(const CLI::Option& option) {
  for (const CLI::Option* rival : option.get_excludes()) {
    if (rival->count() > 0) return rival;
  }
  return nullptr;
}

/// A nearer source has said it, or something in its place.
bool is_settled(const CLI::Option& option) { return option.count() > 0 || rival_of(option) != nullptr; }

/// What one source says of an option; `where` stands in front of what is wrong with it.
struct Saying {
  CLI::Option* option;
  std::vector<std::string> values;
  std::string where;
};

/// As if they were given.
void give(const std::vector<Saying>& sayings) {
  for (const auto& [option, values, where] : sayings) {
    try {
      for (const std::string& value : values) option->add_result(value);
      if (!values.empty()) option->run_callback();
    } catch (const CLI::ParseError& error) {
      refuse(where + error.what());
    }
    const CLI::Option* rival = rival_of(*option);
    if (!values.empty() && rival != nullptr) {
      refuse(where + option->get_single_name() + " excludes " + rival->get_single_name());
    }
  }
}

/// Lines; of options for addresses, what commas separate as well.
std::vector<std::string> split(std::string_view text, bool at_commas) {
  std::vector<std::string> parts;
  const std::string_view separators = at_commas ? "\n," : "\n";
  while (!text.empty()) {
    const std::size_t end = std::min(text.find_first_of(separators), text.size());
    if (end != 0) parts.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return parts;
}

/// A name that is misspelt would otherwise be found out when it matters.
void refuse_unknown_variables(const std::vector<std::string>& known) {
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    const std::size_t equals = text.find('=');
    if (!text.starts_with(kPrefix) || equals == std::string_view::npos || equals + 1 == text.size()) continue;
    const std::string name(text.substr(0, equals));
    if (std::find(known.begin(), known.end(), name) == known.end()) refuse("the variable " + name + " is no option's");
  }
}

CLI::Option* find_configurable(CLI::App& app, const std::string& name) {
  for (CLI::Option* option : app.get_options()) {
    if (option->get_configurable() && option->get_single_name() == name) return option;
  }
  return nullptr;
}

/// Empty, or why the option does not take it.
std::string objection(const CLI::Option& option, const ConfigEntry& entry) {
  using Kind = ConfigValue::Kind;
  if (entry.is_list && !is_list(option)) return "takes no list";
  for (const ConfigValue& value : entry.values) {
    if (is_flag(option) != (value.kind == Kind::boolean)) return is_flag(option) ? "is true or false" : "is no boolean";
    if (is_text(option) && value.kind != Kind::text) return "takes a string";
  }
  return {};
}

/// As TOML writes it.
std::string config_text(const CLI::Option& option, const std::string& value) {
  if (is_flag(option)) return !value.empty() && CLI::detail::to_flag_value(value) > 0 ? "true" : "false";
  if (is_text(option)) return quoted_for_config(value);
  double number = 0;
  const char* end = value.data() + value.size();
  if (option.get_type_name().starts_with("FLOAT") && std::from_chars(value.data(), end, number).ec == std::errc()) {
    char text[32];
    return {text, std::to_chars(text, text + sizeof text, number).ptr};
  }
  return value;
}

std::string config_values(const CLI::Option& option) {
  const bool given = option.count() > 0;
  if (!is_list(option)) return config_text(option, given ? option.results().back() : option.get_default_str());
  std::string all;
  for (const std::string& value : option.results()) all += (all.empty() ? "" : ", ") + config_text(option, value);
  return "[" + all + "]";
}

}  // namespace

std::string variable_value(const std::string& option) {
  const char* value = std::getenv(variable_of(option).c_str());
  return value != nullptr ? value : "";
}

void take_from_environment(CLI::App& app, const std::string& own) {
  std::vector<std::string> known = {variable_of(own)};
  std::vector<Saying> sayings;
  for (CLI::Option* option : app.get_options()) {
    if (!option->get_configurable()) continue;
    const std::string name = option->get_single_name();
    known.push_back(variable_of(name));
    const std::string value = variable_value(name);
    if (value.empty() || is_settled(*option)) continue;
    const bool addresses = name == "listen" || name == "proxy-protocol" || name == "trusted-proxy";
    sayings.push_back(
        {option, is_list(*option) ? split(value, addresses) : std::vector<std::string>{value}, known.back() + ": "});
  }
  give(sayings);
  refuse_unknown_variables(known);
}

void take_from_file(CLI::App& app, const std::string& path) {
  const auto entries = read_config_file(path);
  if (!entries) refuse(entries.error());
  std::vector<Saying> sayings;
  for (const ConfigEntry& entry : *entries) {
    const std::string where = path + ":" + std::to_string(entry.line) + ": ";
    CLI::Option* option = find_configurable(app, entry.name);
    if (option == nullptr) refuse(where + "'" + entry.name + "' is no option");
    const std::string wrong = objection(*option, entry);
    if (!wrong.empty()) refuse(where + entry.name + " " + wrong);
    if (is_settled(*option)) continue;
    std::vector<std::string> values;
    for (const ConfigValue& value : entry.values) values.push_back(value.text);
    sayings.push_back({option, std::move(values), where});
  }
  give(sayings);
}

void print_config(const CLI::App& app) {
  for (const CLI::Option* option : app.get_options()) {
    if (!option->get_configurable()) continue;
    std::printf("%s%s = %s\n", option->count() > 0 ? "" : "#", option->get_single_name().c_str(),
                config_values(*option).c_str());
  }
}

}  // namespace evlua::tools
