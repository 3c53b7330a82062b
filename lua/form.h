// Parameters of queries and forms (application/x-www-form-urlencoded, WHATWG URL 5.1), and multipart forms.
#pragma once

#include <lua.hpp>

#include <string_view>

namespace evlua::lua {

/// Pushes the first value of that name, decoded, "" for one without a value; or nil.
void push_parameter(lua_State* L, std::string_view text, std::string_view wanted);
/// Pushes a table of the first values of all names.
void push_parameters(lua_State* L, std::string_view text);
/// Pushes a list of all values of that name.
void push_parameter_list(lua_State* L, std::string_view text, std::string_view wanted);

/// at_end(req, f, ...): f(...) is called when the request has ended, however it has, as by evlua.defer. Defined with
/// req.
int at_request_end(lua_State* L);

/// Adds the methods of that file of lua/lib to those in the table on top of the stack.
void extend_with(lua_State* L, const char* file);

}  // namespace evlua::lua
