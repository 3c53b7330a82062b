// Options of sockets in a table of Lua: {ttl = 1, broadcast = true}.
#pragma once

#include <lua.hpp>

#include <cstdint>
#include <initializer_list>

#include "core/error.h"

namespace evlua::lua {

/// Raises unless `index` is absent, nil, or a table of options for sockets of that use (net::SocketOption::Use), with
/// values that they can take, and of those in `others`, whose values are the caller's matter. True when it is a table.
bool check_socket_options(lua_State* L, int index, std::uint8_t use, std::initializer_list<const char*> others);

/// Sets those of a table that was checked: before the socket is bound, or after. False: leaves `nil, message, code` on
/// the stack, with the option's name in the message.
bool apply_socket_options(lua_State* L, int index, int fd, int family, std::uint8_t use, bool before_bind);

/// get(name): pushes what the option named at `index` is now, and returns 1; or `nil, message, code`. Raises unless
/// sockets of that use have such an option.
int push_socket_option(lua_State* L, int index, int fd, int family, std::uint8_t use);

/// The index of the network interface with the name at `index`; 0 for none or nil. -1: there is no such interface, and
/// `nil, message, code` are on the stack.
int check_interface(lua_State* L, int index);

}  // namespace evlua::lua
