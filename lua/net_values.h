// The objects of evlua.net, for those who wait for them together with other things.
#pragma once

#include <lua.hpp>

#include "net/datagram.h"
#include "net/listener.h"
#include "net/stream.h"

namespace evlua::lua {

/// The type of streams; more than one module has them.
void define_stream_type(lua_State* L);
/// Pushes a stream of our end of a pipe, which it takes. The type must have been defined.
void push_pipe(lua_State* L, net::Socket& end);
/// Pushes an object of evlua.net, which must have been loaded, and which takes the socket.
void push_stream_of(lua_State* L, net::Socket& socket);
void push_listener_of(lua_State* L, net::Socket& socket);
void push_datagram_of(lua_State* L, net::Socket& socket);
/// Null when the value is none.
net::Stream* to_stream(lua_State* L, int index);
net::Listener* to_listener(lua_State* L, int index);
net::DatagramSocket* to_datagram(lua_State* L, int index);

/// send_handle and receive_handle, methods of streams
int send_handle(lua_State* L);
int receive_handle(lua_State* L);

/// Adds `datagram` to the module on top of the stack.
void open_datagram(lua_State* L);

}  // namespace evlua::lua
