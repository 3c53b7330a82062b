// What evlua.fs and its files share: how results become Lua values, and what failures are about.
#pragma once

#include <sys/types.h>

#include <lua.hpp>

#include <optional>
#include <string>
#include <string_view>

#include "fs/file.h"
#include "fs/path_ops.h"
#include "lua/bridge.h"
#include "lua/stack.h"
#include "net/socket.h"

namespace evlua::lua {

inline Instant deadline_option(lua_State* L, int index) {
  return check_options(L, index, {"timeout"}) ? option_deadline(L, index) : kNever;
}

constexpr lua_Integer kPermissionsMax = 07777;

/// The option `permissions` in the table at `index`.
inline std::optional<mode_t> option_permissions(lua_State* L, int index) {
  const lua_Integer given = option_integer(L, index, "permissions", 0);
  luaL_argcheck(L, given >= 0 && given <= kPermissionsMax, index, "option 'permissions': 0 to 07777 (4095) expected");
  const bool is_there = lua_getfield(L, index, "permissions") != LUA_TNIL;
  lua_pop(L, 1);
  return is_there ? std::optional(static_cast<mode_t>(given)) : std::nullopt;
}

/// What failures are about: the path, copied, since arguments may be anything. `verb` is for calls that are no
/// operation of the backend, which would name itself.
struct About {
  char text[96] = {};
  About() = default;
  explicit About(const char* path, const char* verb = "") noexcept {
    const std::size_t size = std::string_view(verb).copy(text, sizeof text - 1);
    std::string_view(path).copy(text + size, sizeof text - 1 - size);
  }
  const char* subject() const noexcept { return text[0] != '\0' ? text : nullptr; }
};

struct PushTrue : About {
  using About::About;
  int operator()(lua_State* L) const {
    lua_pushboolean(L, 1);
    return 1;
  }
};

struct PushString : About {
  using About::About;
  int operator()(lua_State* L, const std::string& bytes) const {
    lua_pushlstring(L, bytes.data(), bytes.size());
    return 1;
  }
};

struct PushInfo : About {
  using About::About;
  int operator()(lua_State* L, const fs::FileInfo& info) const;
};

/// A new object of this file.
void push_file(lua_State* L, fs::File& file);
/// A new object of the file that came from elsewhere, at its position; `flags` as F_GETFL has them.
void push_received_file(lua_State* L, net::Socket& descriptor, int flags);
/// Adds to the module's table on top what is in lib_paths.cpp.
void add_path_functions(lua_State* L);
/// Adds `watch` to it.
void add_watch_function(lua_State* L);
/// The open file at `index`; null when it is none, or closed.
const fs::File* to_file(lua_State* L, int index);
/// The type of open files, if it is not there yet.
void define_file_type(lua_State* L);
/// open(path[, mode[, options]])
int open_file(lua_State* L);

}  // namespace evlua::lua
