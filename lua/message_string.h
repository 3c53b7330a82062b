// A long string of a message: not among its other bytes, but in a block which becomes the receiver's.
#pragma once

#include <lua.hpp>

#include <cstddef>

namespace evlua::lua {

struct MessageString {
  static constexpr std::size_t kLeast = 4096;  ///< bytes; copying shorter ones is cheaper than a block for each

  void* block = nullptr;  ///< null when it has been received
  std::size_t length = 0;
  MessageString* next = nullptr;

  /// What one of so many bytes takes, but for what malloc adds to each of its two blocks.
  static std::size_t cost(std::size_t length) noexcept;
  /// Null when there is no memory.
  static MessageString* create(const char* bytes, std::size_t length) noexcept;
  static void destroy(MessageString* string) noexcept;

  /// Pushes the string and gives its block to the state; raises when that may not have so much memory.
  void push(lua_State* L);
};

}  // namespace evlua::lua
