// The objects of evlua.net, for those who wait for them together with other things.
#pragma once

#include <lua.hpp>

#include "net/listener.h"
#include "net/stream.h"

namespace evlua::lua {

/// Null when the value is none.
net::Stream* to_stream(lua_State* L, int index);
net::Listener* to_listener(lua_State* L, int index);

}  // namespace evlua::lua
