// The prompt of evlua: what lua/lib/repl.lua needs of the terminal.
#pragma once

#include <lua.hpp>

namespace evlua::tools {

/// Whether there is somebody to type: input and output are a terminal.
bool at_terminal();

/// Pushes a table of functions: read_line(prompt) -> "text" and a line, "interrupted" or "end"; give_up(), for SIGINT
/// while it reads, and interrupted(), for SIGINT while something runs; refresh(); complete_with(f), where f(text) ->
/// what to insert, what to show.
int open_prompt(lua_State* L);

/// The terminal becomes as it was, if there was a prompt. [any thread]
void restore_terminal();

}  // namespace evlua::tools
