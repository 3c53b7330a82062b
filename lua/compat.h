// Other libraries' interfaces over ours: `evlua.compat`, `--compat NAME`.
#pragma once

#include <lua.hpp>

#include <array>
#include <string>
#include <vector>

#include "net/plain_socket.h"

namespace evlua::lua {

/// What can be opted for.
inline constexpr std::array<const char*, 1> kCompatNames = {"socket"};

/// "socket", for messages.
std::string compat_names();
bool is_compat_name(const std::string& name);

/// Opts for them in a state whose modules are open, as `evlua.compat.use` does. Raises.
void use_compat(lua_State* L, const std::vector<std::string>& names);

/// The primitives behind `evlua.compat`.
int open_compat(lua_State* L);

// -- what of them is in other files ---------------------------------------------------------------------------------

/// The socket at `index`, or null.
net::PlainSocket* to_plain_socket(lua_State* L, int index);
/// The socket at index 1, or raises.
net::PlainSocket& check_plain_socket(lua_State* L);
inline int push_true(lua_State* L) {
  lua_pushboolean(L, 1);
  return 1;
}
/// Pushes nil and what LuaSocket says for that errno, and returns 2.
int push_socket_error(lua_State* L, int error);

/// set_option(socket, kind, name, value) and get_option(socket, kind, name); `kind` is "stream", "datagram" or "unix".
int set_plain_option(lua_State* L);
int get_plain_option(lua_State* L);

/// close(socket): waits until the address is free again; where nobody can wait, closes in the background.
int close_plain_socket(lua_State* L);
/// wait(socket, for_writing [, seconds]): true when the call may be tried again; nil, message and code as of any wait,
/// or nil and "closed" when the socket was closed meanwhile.
int wait_plain_socket(lua_State* L);
/// select({socket, bits, fd, bits ..}, false): how many are ready, and which bits in the list itself. A socket that has
/// been closed is ready for everything: it says so.
/// select(list, true [, seconds]): waits until some may be; then ask again.
int select_plain_sockets(lua_State* L);

}  // namespace evlua::lua
