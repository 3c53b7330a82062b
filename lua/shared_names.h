// What all Vms of the process find by name.
#pragma once

#include <lua.hpp>

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <string_view>

#include "core/lockfree/futex_mutex.h"
#include "lua/stack.h"

namespace evlua::lua {

inline constexpr std::size_t kNamesMax = 1 << 16;

/// Things of one kind by name. They live as long as the process.
template <class T>
class Registry {
 public:
  /// The one that is there, or a new one. Null when there are too many, or no memory.
  template <class Make>
  T* get(std::string_view name, Make make) noexcept {
    const std::lock_guard guard(lock_);
    auto place = things_.find(name);
    if (place != things_.end()) return place->second.get();
    if (things_.size() == kNamesMax) return nullptr;
    try {
      return things_.emplace(std::string(name), make()).first->second.get();
    } catch (const std::bad_alloc&) {
      return nullptr;
    }
  }

  template <class Visit>
  void for_each(const Visit& visit) {
    const std::lock_guard guard(lock_);
    for (const auto& [name, thing] : things_) visit(name, *thing);
  }

 private:
  FutexMutex lock_;
  std::map<std::string, std::unique_ptr<T>, std::less<>> things_;
};

/// All there are. Never destroyed: Vms of threads that still run at exit may use it.
template <class T>
Registry<T>& registry() {
  static auto& all = *new Registry<T>;
  return all;
}

/// A string of at least one byte.
inline std::string_view check_name(lua_State* L, int index) {
  const std::string_view name = check_bytes(L, index);
  luaL_argcheck(L, !name.empty(), index, "a name expected, got \"\"");
  return name;
}

/// `thing`, or an error where a Registry has none.
template <class T>
T& check_made(lua_State* L, T* thing, const char* what) {
  if (thing == nullptr)
    luaL_error(L, "not enough memory for the %s, or more than %I of them", what, lua_Integer{kNamesMax});
  return *thing;
}

}  // namespace evlua::lua
