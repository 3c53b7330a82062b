// Message: Lua values on their way from one Vm to another, copied.
//
// nil, booleans, numbers, strings, the null of evlua.json, tables (nested, shared, with cycles; without their
// metatables) and Lua functions with their upvalues are copied. Functions of C and modules that are upvalues travel by
// name: `require` finds them on the other side. An object whose metatable has `__transfer` travels as what that
// function returns for it: a module, the name of a function there, and its arguments. Anything else is refused, by an
// error that says where it was found.
#pragma once

#include <lua.hpp>

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "core/shared/channel.h"

namespace evlua::lua {

class Message;
using MessageChannel = Channel<std::unique_ptr<Message>>;

class Message {
 public:
  std::string bytes;                                      ///< see message.cpp
  std::vector<std::unique_ptr<char[]>> blocks;            ///< long strings: one copy in, one copy out
  std::vector<std::shared_ptr<MessageChannel>> channels;  ///< that the values refer to
  std::vector<std::string> modules;                       ///< to be loaded before unpacking
  int values = 0;
};

/// Pops the values from `first` to the top and pushes a userdata that holds them; raises for what cannot be copied.
void pack_message(lua_State* L, int first);
/// Pushes such a userdata without a message.
std::unique_ptr<Message>& push_packed(lua_State* L);
/// The message of such a userdata; null when it was taken.
std::unique_ptr<Message>& packed_message(lua_State* L, int index);

/// Pushes the values and returns their number. May raise, and may wait (for `require`): call it at the end of a C
/// function, which returns the same.
int unpack_message(lua_State* L, std::unique_ptr<Message> message);
/// The same as a Lua function of the packed userdata on top of the stack.
int unpack_packed(lua_State* L);

/// Makes the type of packed messages known to a state.
void define_message_type(lua_State* L);

/// Channels as Lua sees them.
void push_channel(lua_State* L, const std::shared_ptr<MessageChannel>& channel);
/// Null when the value is none.
std::shared_ptr<MessageChannel>* to_channel(lua_State* L, int index);

}  // namespace evlua::lua
