// Where options come from besides the command line, and how they are printed for a file. All errors are thrown as
// CLI::ParseError, for CLI::App::exit.
#pragma once

#include <string>

namespace CLI {
class App;
}

namespace evlua::tools {

/// The value of an option's variable, EVLUASERVER_MAX_BODY of max-body; empty: none.
std::string variable_value(const std::string& option);

/// What the environment says of options that are not given. `own` names one that is not for files, but has a variable.
void take_from_environment(CLI::App& app, const std::string& own);

/// What the file says of options that are not given yet.
void take_from_file(CLI::App& app, const std::string& path);

/// As a file for take_from_file; what was not given stands there as a comment, with its default.
void print_config(const CLI::App& app);

}  // namespace evlua::tools
