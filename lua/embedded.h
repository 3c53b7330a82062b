// The part of the library that is written in Lua, embedded at build time from lua/lib/*.lua.
#pragma once

#include <cstddef>

namespace evlua::lua {

struct EmbeddedFile {
  const char* name;  ///< without ".lua"
  const char* data;
  std::size_t size;
};

extern const EmbeddedFile embedded_files[];
extern const std::size_t embedded_file_count;

}  // namespace evlua::lua
