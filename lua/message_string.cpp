#include "lua/message_string.h"

#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

#include "lua/message_format.h"
#include "lua/vm.h"

// Compiled with Lua (cmake/lua/adopt.c).
extern "C" {
std::size_t evlua_string_block(std::size_t length, std::size_t* bytes_at);
void evlua_push_string_block(lua_State* L, void* block, std::size_t length);
}

namespace evlua::lua {

std::size_t MessageString::cost(std::size_t length) noexcept {
  std::size_t bytes_at = 0;
  return evlua_string_block(length, &bytes_at) + sizeof(MessageString);
}

MessageString* MessageString::create(const char* bytes, std::size_t length) noexcept {
  std::size_t bytes_at = 0;
  void* block = std::malloc(evlua_string_block(length, &bytes_at));
  auto* string = block != nullptr ? new (std::nothrow) MessageString{block, length, nullptr} : nullptr;
  if (string == nullptr) {
    std::free(block);
    return nullptr;
  }
  std::memcpy(static_cast<char*>(block) + bytes_at, bytes, length);
  return string;
}

void MessageString::destroy(MessageString* string) noexcept {
  std::free(string->block);
  delete string;
}

void MessageString::push(lua_State* L) {
  std::size_t bytes_at = 0;
  const std::size_t size = evlua_string_block(length, &bytes_at);
  Vm& vm = Vm::of(L);
  if (!vm.adopt_memory(size)) {
    lua_gc(L, LUA_GCCOLLECT, 0);
    if (!vm.adopt_memory(size)) luaL_error(L, "%s", kNoMemory);
  }
  evlua_push_string_block(L, std::exchange(block, nullptr), length);
}

}  // namespace evlua::lua
