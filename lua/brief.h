// Lua code that runs for nobody: a finalizer when the runtime itself allocates or a state closes, `__tostring` of an
// error that nobody joins. No task's limits hold there, so it gets an error when its time is up. So do the coroutines
// it resumes and the patterns it matches.
#pragma once

#include <lua.hpp>

#include "core/time.h"
#include "lua/set_hooks.h"

namespace evlua::lua {

class Brief {
 public:
  /// All scopes that begin in its life together may take `time` of this thread's processor.
  class Limit {
   public:
    explicit Limit(Duration time) noexcept;
    ~Limit() { ends_ = outer_ends_; }
    Limit(const Limit&) = delete;
    Limit& operator=(const Limit&) = delete;

   private:
    const Instant outer_ends_;
  };
  /// Code in L may, until the end of the scope's life. Inside of another limit: what is left of that one's.
  class Scope {
   public:
    Scope(lua_State* L, Duration time) noexcept;
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    const Limit limit_;
    lua_State* const state_;
    const SetHooks::Hook hook_;
  };

  static bool runs() noexcept { return ends_ != kNever; }
  static bool is_hook(lua_Hook hook) noexcept { return hook == on_hook; }
  /// lua_resume for code that runs so.
  static int resume(lua_State* L, lua_State* from, int arguments) noexcept;
  /// What the code has to be ended with; null as long as it may go on.
  static const char* check() noexcept;

 private:
  static void on_hook(lua_State* L, lua_Debug* where);

  static thread_local constinit Instant ends_;
};

}  // namespace evlua::lua
