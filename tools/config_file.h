// A file of options, TOML 1.0: names and values, no tables.
#pragma once

#include <cstdint>
#include <string>
#include <tl/expected.hpp>
#include <vector>

namespace evlua::tools {

struct ConfigValue {
  enum class Kind : std::uint8_t { text, number, boolean };

  Kind kind = Kind::text;
  std::string text;  ///< as it would be on the command line; of a boolean "true" or "false"
};

struct ConfigEntry {
  std::string name;
  unsigned line = 0;
  bool is_list = false;
  std::vector<ConfigValue> values;  ///< one, if it is no list
};

/// What is in the file. The error is what to print. Blocks.
tl::expected<std::vector<ConfigEntry>, std::string> read_config_file(const std::string& path);

/// The text as a string of such a file.
std::string quoted_for_config(const std::string& text);

}  // namespace evlua::tools
