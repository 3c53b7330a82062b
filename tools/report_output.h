// Where `evlua test` writes a report that other programs read: to the standard output, which nobody else has then.
#pragma once

#include <lua.hpp>

namespace evlua::tools {

/// What the tests print, and the programs that they start, goes to standard error from here on. Before there are
/// threads.
void keep_output_for_report() noexcept;

/// Pushes the file of the output that was kept.
int open_report_output(lua_State* L);

}  // namespace evlua::tools
