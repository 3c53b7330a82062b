#include "lua/process_options.h"

#include <fcntl.h>

#include <cerrno>
#include <cstring>
#include <new>

#include "lua/fs_values.h"
#include "lua/stack.h"

namespace evlua::lua {

namespace {

constexpr const char* kRequestType = "evlua.process_request";
constexpr lua_Integer kLimitMax = std::numeric_limits<std::int32_t>::max();
constexpr lua_Integer kArgumentsMax = 1 << 20;
constexpr double kGraceSeconds = 2;
constexpr double kDrainSeconds = 1;

int collect_request(lua_State* L) {
  auto* request = static_cast<ProcessRequest*>(lua_touserdata(L, 1));
  request->~ProcessRequest();
  new (request) ProcessRequest;
  return 0;
}

bool is_known(const char* key, ProcessUse use) noexcept {
  constexpr const char* kBoth[] = {"cwd",         "env",   "user",   "group", "new_group",
                                   "new_session", "stdin", "stdout", "stderr"};
  constexpr const char* kRun[] = {"timeout", "grace", "limit", "drain"};
  for (const char* name : kBoth) {
    if (std::strcmp(name, key) == 0) return true;
  }
  for (const char* name : kRun) {
    if (use == ProcessUse::run && std::strcmp(name, key) == 0) return true;
  }
  return false;
}

/// Keys are the numbers of the arguments, and options.
void check_keys(lua_State* L, lua_Integer arguments, ProcessUse use) {
  lua_pushnil(L);
  while (lua_next(L, 1) != 0) {
    lua_pop(L, 1);
    if (lua_isinteger(L, -1) != 0) {
      const lua_Integer index = lua_tointeger(L, -1);
      if (index >= 1 && index <= arguments) continue;
    } else if (lua_type(L, -1) == LUA_TSTRING && is_known(lua_tostring(L, -1), use)) {
      continue;
    }
    luaL_argerror(L, 1, lua_pushfstring(L, "unknown option '%s'", luaL_tolstring(L, -1, nullptr)));
  }
}

/// The string on top, without NUL bytes; `what` names it in errors.
const char* check_text(lua_State* L, const char* what) {
  const bool is_text = lua_type(L, -1) == LUA_TSTRING || lua_type(L, -1) == LUA_TNUMBER;
  if (!is_text) luaL_argerror(L, 1, lua_pushfstring(L, "%s: string expected, got %s", what, luaL_typename(L, -1)));
  std::size_t size = 0;
  const char* text = lua_tolstring(L, -1, &size);
  if (std::strlen(text) != size) luaL_argerror(L, 1, lua_pushfstring(L, "%s contains a NUL byte", what));
  return text;
}

void read_arguments(lua_State* L, fs::SpawnOptions& spawn, lua_Integer count) {
  luaL_argcheck(L, count >= 1, 1, "the name of a program expected as the first element");
  luaL_argcheck(L, count <= kArgumentsMax, 1, "too many arguments");
  for (lua_Integer i = 1; i <= count; ++i) {
    lua_rawgeti(L, 1, i);
    const char* what = lua_pushfstring(L, "element %d", static_cast<int>(i));
    lua_insert(L, -2);
    spawn.arguments.emplace_back(check_text(L, what));
    lua_pop(L, 2);
  }
  spawn.program = spawn.arguments.front();
}

void read_environment(lua_State* L, fs::SpawnOptions& spawn) {
  if (lua_getfield(L, 1, "env") != LUA_TNIL) {
    luaL_argcheck(L, lua_istable(L, -1), 1, "option 'env': table expected");
    spawn.environment.emplace();
    lua_pushnil(L);
    while (lua_next(L, -2) != 0) {
      luaL_argcheck(L, lua_type(L, -2) == LUA_TSTRING, 1, "option 'env': names must be strings");
      lua_pushvalue(L, -2);
      const char* name = check_text(L, "a name in option 'env'");
      luaL_argcheck(L, *name != '\0' && std::strchr(name, '=') == nullptr, 1,
                    "option 'env': a name must not be empty or contain '='");
      lua_pushvalue(L, -2);
      const char* value = check_text(L, "a value in option 'env'");
      spawn.environment->emplace_back(name).append("=").append(value);
      lua_pop(L, 3);
    }
  }
  lua_pop(L, 1);
}

/// Pushes the option, which is a string without NUL bytes or nil.
const char* push_text_option(lua_State* L, const char* name) {
  const char* what = lua_pushfstring(L, "option '%s'", name);
  const char* text = lua_getfield(L, 1, name) == LUA_TNIL ? nullptr : check_text(L, what);
  lua_remove(L, -2);
  return text;
}

/// A copy of the descriptor: the file may be closed before the program begins.
void take_file(lua_State* L, const fs::File& file, fs::Stdio& into) {
  const int copy = ::fcntl(file.fd(), F_DUPFD_CLOEXEC, 3);
  if (copy < 0) luaL_argerror(L, 1, std::strerror(errno));
  into.kind = fs::Stdio::Kind::file;
  into.file = fs::File(copy, false);
}

/// Reads "stdin", "stdout" or "stderr"; `usual` is what it is when nothing is said.
void read_stdio(lua_State* L, const char* name, fs::Stdio& into, fs::Stdio::Kind usual) {
  using Kind = fs::Stdio::Kind;
  into.kind = usual;
  const int type = lua_getfield(L, 1, name);
  const char* word = type == LUA_TSTRING ? lua_tostring(L, -1) : "";
  const fs::File* file = to_file(L, -1);
  if (type == LUA_TNIL) {
    // As usual.
  } else if (file != nullptr) {
    take_file(L, *file, into);
  } else if (std::strcmp(word, "inherit") == 0) {
    into.kind = Kind::inherit;
  } else if (std::strcmp(word, "null") == 0) {
    into.kind = Kind::null;
  } else if (std::strcmp(word, "pipe") == 0) {
    into.kind = Kind::pipe;
  } else if (std::strcmp(word, "stdout") == 0 && std::strcmp(name, "stderr") == 0) {
    into.kind = Kind::output;
  } else {
    luaL_argerror(
        L, 1,
        lua_pushfstring(L, "option '%s': \"pipe\", \"inherit\", \"null\"%s or an open file of evlua.fs expected", name,
                        std::strcmp(name, "stderr") == 0 ? ", \"stdout\"" : ""));
  }
  lua_pop(L, 1);
}

void read_all_stdio(lua_State* L, ProcessRequest& request, ProcessUse use) {
  using Kind = fs::Stdio::Kind;
  std::array<fs::Stdio, 3>& stdio = request.launch().stdio;
  const Kind usual = use == ProcessUse::run ? Kind::pipe : Kind::inherit;
  if (use == ProcessUse::spawn) {
    read_stdio(L, "stdin", stdio[0], usual);
    lua_pushnil(L);
  } else if (lua_getfield(L, 1, "stdin") == LUA_TSTRING) {
    std::size_t size = 0;
    const char* data = lua_tolstring(L, -1, &size);
    request.run.input = {data, size};
    stdio[0].kind = size > 0 ? Kind::pipe : Kind::null;
  } else if (lua_isnil(L, -1)) {
    stdio[0].kind = Kind::null;
  } else {
    const fs::File* file = to_file(L, -1);
    if (file == nullptr) luaL_argerror(L, 1, "option 'stdin': a string or an open file of evlua.fs expected");
    take_file(L, *file, stdio[0]);
  }
  read_stdio(L, "stdout", stdio[1], usual);
  read_stdio(L, "stderr", stdio[2], usual);
  request.inherits_output = stdio[1].kind == Kind::inherit || stdio[2].kind == Kind::inherit;
}

void read_limits(lua_State* L, fs::RunOptions& run) {
  run.deadline = option_deadline(L, 1);
  run.grace = duration_from_seconds(option_number(L, 1, "grace", kGraceSeconds));
  run.drain = duration_from_seconds(option_number(L, 1, "drain", kDrainSeconds));
  const lua_Integer limit = option_integer(L, 1, "limit", static_cast<lua_Integer>(run.limit));
  luaL_argcheck(L, limit >= 0 && limit <= kLimitMax, 1, "option 'limit' must be from 0 to 2147483647");
  run.limit = static_cast<std::size_t>(limit);
}

}  // namespace

ProcessRequest& push_process_request(lua_State* L, ProcessUse use) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  auto& request = *new (lua_newuserdata(L, sizeof(ProcessRequest))) ProcessRequest;
  luaL_setmetatable(L, kRequestType);
  fs::LaunchOptions& launch = request.launch();
  const auto count = static_cast<lua_Integer>(lua_rawlen(L, 1));
  check_keys(L, count, use);
  read_arguments(L, launch.spawn, count);
  lua_rawgeti(L, 1, 1);
  read_environment(L, launch.spawn);
  if (const char* directory = push_text_option(L, "cwd"); directory != nullptr) launch.spawn.directory = directory;
  const char* user = push_text_option(L, "user");
  if (user != nullptr) launch.user = user;
  const char* group = push_text_option(L, "group");
  if (group != nullptr) launch.group = group;
  lua_pushfstring(L, "%s:%s", user != nullptr ? user : "", group != nullptr ? group : "");
  lua_replace(L, kAccountIndex);
  lua_settop(L, kAccountIndex);
  launch.spawn.new_group = option_flag(L, 1, "new_group", false);
  launch.spawn.new_session = option_flag(L, 1, "new_session", false);
  read_all_stdio(L, request, use);
  if (use == ProcessUse::run) read_limits(L, request.run);
  return request;
}

void define_process_request(lua_State* L) {
  luaL_newmetatable(L, kRequestType);
  lua_pushcfunction(L, collect_request);
  lua_setfield(L, -2, "__gc");
  lua_pop(L, 1);
}

}  // namespace evlua::lua
