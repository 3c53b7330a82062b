// What changes when a file is written or replaced.
#pragma once

#include <string>

namespace evlua::tools {

/// "" for no path; a file that is not there has a state, too. Blocks.
std::string file_state(const std::string& path);

}  // namespace evlua::tools
