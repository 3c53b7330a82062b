// What evlua.process takes: {"program", "argument", ..., option = value, ...}.
#pragma once

#include <lua.hpp>

#include "fs/run.h"

namespace evlua::lua {

/// Options that are being read, or were. As userdata, so that reading them may raise.
struct ProcessRequest {
  fs::RunOptions run;
  bool inherits_output = false;

  fs::LaunchOptions& launch() noexcept { return run.launch; }
};

/// Where a request that was pushed and what belongs to it are on the stack of a function with one argument.
inline constexpr int kRequestIndex = 2;
inline constexpr int kNameIndex = 3;       ///< the program, for messages
inline constexpr int kDirectoryIndex = 4;  ///< its working directory, or nil
inline constexpr int kAccountIndex = 5;    ///< "user:group", as it was given, or nil
inline constexpr int kInputIndex = 6;      ///< what it reads, or nil

enum class ProcessUse : unsigned char { spawn, run };

/// Reads the table at 1, and fills the stack as said above. Raises for what is wrong.
ProcessRequest& push_process_request(lua_State* L, ProcessUse use);

/// Once for each Lua state.
void define_process_request(lua_State* L);

}  // namespace evlua::lua
