// Lua values to JSON text (RFC 8259), always valid UTF-8.
#pragma once

#include <lua.hpp>

#include <cstddef>
#include <cstdint>

namespace evlua::lua {

struct JsonEncodeOptions {
  std::uint32_t depth_max = 1000;
  std::uint32_t indent = 0;  ///< spaces per level; 0: all on one line
  bool sort_keys = false;
};

/// Where an encoder is: in a table, at one of its keys.
struct JsonStep {
  const void* table;
  lua_Integer index;  ///< of an array's element, or 0
  int key;            ///< stack index of an object's key
};

/// What an encoder writes to. Plain memory of the Lua state's allocator, so that it counts against the limit and an
/// error may pass over it; whoever owns the userdata that it lives in calls `release`.
struct JsonMemory {
  char* text;
  std::size_t size;
  std::size_t capacity;
  JsonStep* steps;
  std::size_t steps_capacity;

  void release(lua_State* L) noexcept;
  /// Gives back what a large text took.
  void trim(lua_State* L) noexcept;
};

/// Pushes the text of the value at `index` and returns 1, or nil, message, code and returns 3; raises when memory runs
/// out. `array_meta` is the stack index of what marks arrays. `memory` must not be used by anybody else meanwhile.
int encode_json(lua_State* L, int index, const JsonEncodeOptions& options, int array_meta, JsonMemory& memory);

}  // namespace evlua::lua
