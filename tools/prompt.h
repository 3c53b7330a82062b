// The prompt of evlua: what lua/lib/repl.lua needs of the terminal.
#pragma once

#include <lua.hpp>

namespace evlua::lua {
class Vm;
}

namespace evlua::tools {

/// Whether there is somebody to type: input and output are a terminal.
bool at_terminal();

/// Pushes a table of functions: begin(f), where f(text) -> what could follow, and what to show; read_line(prompt) ->
/// "text" and a line, "interrupted" or "end"; run(task), which is what SIGINT ends from now on, and has_run() ->
/// whether it did; refresh().
int open_prompt(lua_State* L);

/// SIGINT belongs to the prompt from then on. [any thread]
bool prompt_has_begun() noexcept;
/// SIGINT: gives up the line that is being read, or ends what runs; what is between the two is ended as soon as it
/// runs. [strand]
void interrupt_prompt(lua::Vm& vm);

/// The terminal becomes as it was, if there was a prompt. [any thread]
void restore_terminal();

}  // namespace evlua::tools
