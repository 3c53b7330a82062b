// Lua code that runs for nobody: a finalizer when the runtime itself allocates or a state closes, `__tostring` of an
// error that nobody joins. No task's limits hold there, so it gets an error when its time is up. So do the coroutines
// it resumes and the patterns it matches.
#pragma once

#include <lua.hpp>

#include "core/time.h"

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
    const bool paused_before_;
  };

  static bool runs() noexcept { return ends_ != kNever; }
  /// lua_resume for code that runs so.
  static int resume(lua_State* L, lua_State* from, int arguments) noexcept;
  /// Before each instruction of such code. Raises an error when its time is up.
  static void look(lua_State* L);
  /// What the code has to be ended with; null as long as it may go on.
  static const char* check() noexcept;

 private:
  static thread_local constinit Instant ends_;
  static thread_local constinit int instructions_left_;  // until the next look at the clock
};

}  // namespace evlua::lua
