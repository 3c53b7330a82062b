// Reading arguments and options. Everything here works with trivial types, so it may raise from anywhere.
#pragma once

#include <lua.hpp>

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <string_view>

#include "core/error.h"
#include "core/time.h"
#include "core/worker.h"

namespace evlua::lua {

/// Copies `error`'s message into a buffer, for callers that cannot hold a std::string.
void copy_message(const Error& error, char* buffer, std::size_t size) noexcept;

inline std::string_view check_bytes(lua_State* L, int index) {
  std::size_t size = 0;
  const char* data = luaL_checklstring(L, index, &size);
  return {data, size};
}

/// A string without NUL bytes, for system calls.
const char* check_path(lua_State* L, int index);

/// An integer in [low, high], or raises.
lua_Integer check_range(lua_State* L, int index, lua_Integer low, lua_Integer high);

/// "l" or "L", perhaps with Lua 5.1's asterisk, or raises: what `lines` reads must come to an end.
void check_line_format(lua_State* L, int index);

/// Raises unless `index` is absent, nil, or a table whose keys are all in `known`.
/// True when there is a table.
bool check_options(lua_State* L, int index, std::initializer_list<const char*> known);

// Options of the table at `index` (after check_options said there is one); wrong types raise, naming the option.
bool option_flag(lua_State* L, int index, const char* name, bool otherwise);
lua_Integer option_integer(lua_State* L, int index, const char* name, lua_Integer otherwise);
double option_number(lua_State* L, int index, const char* name, double otherwise);
/// Null when absent. The string lives as long as the table holds it.
const char* option_string(lua_State* L, int index, const char* name, std::size_t* size = nullptr);

/// The deadline from the option `timeout` in seconds; kNever when absent. REQUIRES: on a worker.
Instant option_deadline(lua_State* L, int index);
/// The deadline from a plain argument in seconds, absent or nil meaning none.
Instant check_timeout(lua_State* L, int index);

/// lua_pcall for what must not run for long because no task runs it: metamethods of an error that is being reported.
/// Fails after a tenth of a second.
int pcall_briefly(lua_State* L, int arguments, int results);
/// For the end of what has computed for too long. The error goes past message handlers, which could compute for ever,
/// and past the pcalls of the program, to what cleans up for the runtime.
[[noreturn]] void raise_past_catchers(lua_State* L, const char* message);
/// The same for the error that is raised next, here.
void skip_catchers(lua_State* L);

/// Registers `functions` as the methods of the userdata type `name`, with `__index`, `__name` and `__metatable` set.
void define_type(lua_State* L, const char* name, const luaL_Reg* methods, const luaL_Reg* metamethods);

}  // namespace evlua::lua
