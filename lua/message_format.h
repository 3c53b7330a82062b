// The bytes of a message: a tag for each value, then what belongs to it. Integers in native order: both ends are this
// process. Tables and functions are numbered in the order in which they begin, so that a later mention is a number.
#pragma once

#include <memory>

#include "lua/message.h"

namespace evlua::lua {

inline constexpr const char* kNoMemory = "not enough memory";

enum class MessageTag : char {
  nil,
  no,
  yes,
  integer,
  number,
  string,       // size, bytes
  long_string,  // MessageString*
  table,        // sizes of both parts, then pairs, then end
  end,
  function,  // size of the bytecode, bytecode, number of upvalues, upvalues
  globals,   // the upvalue _ENV
  again,     // number of a table or function
  module,    // size, name
  named,     // the same twice: module and field
  made,      // the same twice, number of arguments, arguments: what that function returns
  channel,   // ChannelLink*
  null,      // evlua.json's
};

/// The userdata of push_packed.
struct PackedMessage {
  std::unique_ptr<Message> message;
};

}  // namespace evlua::lua
