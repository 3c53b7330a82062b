// fs.watch: what happens to files, as events.
#include <lua.hpp>

#include <memory>
#include <new>
#include <utility>

#include "fs/watch.h"
#include "lua/fs_values.h"
#include "lua/iterate.h"
#include "lua/type_label.h"

namespace evlua::lua {

namespace {

constexpr const char* kWatcherType = "evlua.watcher";

constexpr const char* kTooMany = "no more watches are allowed, see fs.inotify.max_user_watches";

struct WatcherHandle {
  std::unique_ptr<fs::Watch> watch;
};

fs::Watch& check_watcher(lua_State* L) {
  auto* handle = static_cast<WatcherHandle*>(check_object(L, 1, kWatcherType));
  if (handle->watch == nullptr) luaL_argerror(L, 1, "the watcher has been collected");  // to another finalizer
  return *handle->watch;
}

/// A failure for which there is a message of our own is a value.
struct Told {
  Result<fs::WatchEvent> event = fail(ECANCELED);
};

Task<Result<Told>> next_event(fs::Watch& watch, Instant deadline) {
  Told told;
  told.event = co_await watch.next(deadline);
  if (!told.event && !told.event.error().is(ENOSPC)) co_return fail(told.event.error());
  co_return told;
}

struct PushEvent {
  static const char* subject() noexcept { return "watch"; }
  int operator()(lua_State* L, const Told& told) const {
    if (!told.event) {
      lua_pushfstring(L, "watch: a new folder is not watched: %s", kTooMany);
      return push_failure(L, lua_tostring(L, -1), "ENOSPC");
    }
    const fs::WatchEvent& event = *told.event;
    if (*event.type == '\0') return push_failure(L, fail(Errc::end_of_file).value());
    lua_createtable(L, 0, 4);
    lua_pushstring(L, event.type);
    lua_setfield(L, -2, "type");
    if (!event.name.empty()) {
      lua_pushlstring(L, event.name.data(), event.name.size());
      lua_setfield(L, -2, "name");
    }
    if (event.cookie != 0) {
      lua_pushinteger(L, event.cookie);
      lua_setfield(L, -2, "move");
    }
    lua_pushboolean(L, event.is_directory);
    lua_setfield(L, -2, "directory");
    return 1;
  }
};

/// read([options]) -> event
int read(lua_State* L) {
  fs::Watch& watch = check_watcher(L);
  const Instant deadline = deadline_option(L, 2);
  return suspend_task<Told>(
      L, [&watch, deadline] { return next_event(watch, deadline); }, PushEvent());
}

/// for event in watcher:events() do ... end: ends when it is closed, or what was watched is no more.
int events(lua_State* L) {
  (void)check_watcher(L);
  lua_settop(L, 1);
  lua_pushnil(L);
  return push_iterator(L, read);
}

/// close(): does not wait.
int close(lua_State* L) {
  fs::Watch& watch = check_watcher(L);
  if (watch.is_open()) watch.close();
  lua_pushboolean(L, 1);
  return 1;
}

int watcher_to_string(lua_State* L) {
  lua_pushstring(L, check_watcher(L).is_open() ? "watcher" : "watcher (closed)");
  return 1;
}

int collect_watcher(lua_State* L) {
  auto* handle = static_cast<WatcherHandle*>(lua_touserdata(L, 1));
  handle->~WatcherHandle();
  new (handle) WatcherHandle;
  return 0;
}

/// Likewise.
struct Opened {
  Result<std::unique_ptr<fs::Watch>> watch = fail(ECANCELED);
};

struct PushWatcher : About {
  using About::About;
  int operator()(lua_State* L, Opened& opened) const {
    if (!opened.watch) {
      lua_pushfstring(L, "%s: %s", subject(), kTooMany);
      return push_failure(L, lua_tostring(L, -1), "ENOSPC");
    }
    auto* handle = new (lua_newuserdata(L, sizeof(WatcherHandle))) WatcherHandle;
    handle->watch = std::move(*opened.watch);
    luaL_setmetatable(L, kWatcherType);
    return 1;
  }
};

Task<Result<Opened>> open_watch(std::string path, bool recursive) {
  Opened opened;
  opened.watch = co_await fs::Watch::open(std::move(path), recursive);
  if (!opened.watch && !opened.watch.error().is(ENOSPC)) co_return fail(opened.watch.error());
  co_return opened;
}

/// watch(path[, options]) -> watcher
int watch_path(lua_State* L) {
  const char* path = check_path(L, 1);
  const bool recursive = check_options(L, 2, {"recursive"}) && option_flag(L, 2, "recursive", false);
  return suspend_task<Opened>(
      L, [path, recursive] { return open_watch(path, recursive); }, PushWatcher(path, "watch "));
}

}  // namespace

void add_watch_function(lua_State* L) {
  const luaL_Reg methods[] = {{"read", read}, {"events", events}, {"close", close}, {nullptr, nullptr}};
  const luaL_Reg meta[] = {{"__tostring", watcher_to_string}, {"__gc", collect_watcher}, {nullptr, nullptr}};
  define_type(L, kWatcherType, methods, meta);
  lua_pushcfunction(L, watch_path);
  lua_setfield(L, -2, "watch");
}

}  // namespace evlua::lua
