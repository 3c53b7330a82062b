#include "lua/stack.h"
#include "lua/sync.h"

namespace evlua::lua {

int LineWait::finish_line(lua_State* L) {
  if (linked()) Line::erase(*this);
  if (woken()) {
    lua_pushboolean(L, 1);
    return 1;
  }
  left_(object_);
  return push_wait_failure(L, error());
}

int push_ending(lua_State* L, CaseWait::Ending ending) {
  using Ending = CaseWait::Ending;
  if (ending == Ending::closed) return push_failure(L, "the channel is closed", "EPIPE");
  if (ending == Ending::end) {
    return push_failure(L, Error{static_cast<std::int32_t>(Errc::end_of_file), ErrorDomain::runtime, OpCode::task});
  }
  if (ending == Ending::done) lua_pushboolean(L, 1);
  return 1;
}

int CaseWait::push_chosen(lua_State* L) {
  if (ending == Ending::failed) return push_failure(L, failure);
  if (ending == Ending::received) {
    lua_rawgeti(L, LUA_REGISTRYINDEX, chosen->value);
    luaL_unref(L, LUA_REGISTRYINDEX, std::exchange(chosen->value, LUA_NOREF));
  }
  return push_ending(L, ending);
}

namespace {

struct OneWait : CaseWait {
  OneWait(List<CaseNode>& line, Instant until, int value) : CaseWait(until) {
    node.wait = this;
    node.line = &line;
    node.value = value;
    start = [](Suspension& self, Fiber& waiter) {
      auto& wait = static_cast<OneWait&>(self);
      wait.node.line->push_back(wait.node);
      wait.begin_park(waiter);
    };
    finish = [](Suspension& self, lua_State* L) {
      auto& wait = static_cast<OneWait&>(self);
      if (wait.node.linked()) List<CaseNode>::erase(wait.node);
      if (wait.woken() && wait.ending == Ending::received) return wait.push_chosen(L);
      luaL_unref(L, LUA_REGISTRYINDEX, wait.node.value);
      return wait.woken() ? wait.push_chosen(L) : push_wait_failure(L, wait.error());
    };
  }

  CaseNode node;
};

}  // namespace

int wait_in(lua_State* L, List<CaseNode>& line, Instant until, bool sends) {
  Fiber& fiber = fiber_to_wait(L);
  if (fiber.cancelled() != OpStop::none && !fiber.shielded()) return refuse_wait(L, fiber);
  const int value = sends ? luaL_ref(L, LUA_REGISTRYINDEX) : LUA_NOREF;
  fiber.emplace<OneWait>(line, until, value);
  return lua_yieldk(L, 0, 0, &continue_wait);
}

}  // namespace evlua::lua
