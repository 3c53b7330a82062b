#include "lua/task_local.h"

#include <algorithm>

#include "core/worker.h"
#include "lua/stack.h"

namespace evlua::lua {

namespace {

// Registry keys of tables: reference of a fiber's root -> its locals, and its list of deferred calls.
const char kLocals = 0;
const char kDeferred = 0;

constexpr const char* kTimeOver = "time limit exceeded";

/// Sets `table[key]` to the value on top, and pops it.
void store(lua_State* L, const void* table, int key) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, table);
  lua_insert(L, -2);
  lua_rawseti(L, -2, key);
  lua_pop(L, 1);
}

/// Pushes `table[key]`, which becomes an empty table if it is nothing yet.
void push_own_table(lua_State* L, const void* table, int key) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, table);
  if (lua_rawgeti(L, -1, key) == LUA_TNIL) {
    lua_pop(L, 1);
    lua_newtable(L);
    lua_pushvalue(L, -1);
    lua_rawseti(L, -3, key);
  }
  lua_remove(L, -2);
}

Fiber& check_running(lua_State* L) {
  Fiber* fiber = Vm::of(L).running();
  if (fiber == nullptr) luaL_error(L, "outside of a task");
  return *fiber;
}

}  // namespace

void open_belongings(lua_State* L) {
  for (const void* key : {static_cast<const void*>(&kLocals), static_cast<const void*>(&kDeferred)}) {
    lua_newtable(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, key);
  }
}

void Fiber::push_locals(lua_State* L) {
  push_own_table(L, &kLocals, root_ref_);
  has_locals_ = true;
}

void Fiber::take_locals(lua_State* L, Fiber& parent, bool copy) {
  parent.push_locals(L);
  if (copy) {
    lua_newtable(L);
    lua_pushnil(L);
    while (lua_next(L, -3) != 0) {
      lua_pushvalue(L, -2);
      lua_insert(L, -2);
      lua_rawset(L, -4);
    }
    lua_remove(L, -2);
  }
  store(L, &kLocals, root_ref_);
  has_locals_ = true;
}

/// Each level ends in the one below: of those without an end the process would run out of stack.
void Fiber::defer(lua_State* L) {
  if (deferred_depth_ >= kDeferredDepthMax) luaL_error(L, "deferred calls nested too deeply");
  const int count = lua_gettop(L);
  lua_createtable(L, count, 1);
  lua_insert(L, 1);
  lua_pushinteger(L, count);
  lua_setfield(L, 1, "n");
  for (int i = count; i >= 1; --i) lua_rawseti(L, 1, i);
  push_own_table(L, &kDeferred, root_ref_);
  lua_insert(L, 1);
  lua_rawseti(L, 1, static_cast<lua_Integer>(lua_rawlen(L, 1)) + 1);
  has_deferred_ = true;
}

void Fiber::drop_belongings() noexcept {
  lua_State* L = vm_.state_;
  if (std::exchange(has_locals_, false)) {
    lua_pushnil(L);
    store(L, &kLocals, root_ref_);
  }
  if (std::exchange(has_deferred_, false)) {
    lua_pushnil(L);
    store(L, &kDeferred, root_ref_);
  }
}

// -- deferred calls ---------------------------------------------------------------------------------------------------

Deferred::Deferred(Fiber& of, Fiber::Outcome how) : fiber_(of), outcome_(how) {
  ended = [](Fiber::Owner& owner, Fiber& fiber, Fiber::Outcome outcome) {
    auto& deferred = static_cast<Deferred&>(owner);
    if (outcome == Fiber::Outcome::failed) {
      TaskError error;
      error.trace = fiber.failure_text();
      fiber.vm().task_errors().dropped(error);
    }
    deferred.call_ = nullptr;
    if (fiber.doom() != nullptr && deferred.until_ == kNever) deferred.limit(monotonic_now() + kGrace);
    deferred.next();
  };
}

void Deferred::begin(Fiber& fiber, Fiber::Outcome outcome) {
  auto* deferred = new Deferred(fiber, outcome);
  if (outcome == Fiber::Outcome::failed) deferred->trail_ = fiber.vm().trail_of(fiber.root(), -1);
  fiber.vm().began_inner_wait();
  const Instant grace = monotonic_now() + kGrace;
  if (fiber.deferred_depth_ > 0) {
    deferred->limit(fiber.time_limit_);
  } else if (fiber.doom() != nullptr) {
    deferred->limit(grace);
  } else if (fiber.time_limit_ != kNever) {
    deferred->limit(std::max(fiber.time_limit_, grace));
  }
  deferred->next();
}

void Deferred::limit(Instant until) noexcept {
  until_ = until;
  over_ = until <= monotonic_now();
  if (over_ || until == kNever) return;
  timer_.deadline = until;
  timer_.home = &fiber_.vm().strand();
  timer_.run = [](Runnable& self) noexcept {
    auto& timer = static_cast<Timer&>(self);
    timer.started = false;
    timer.deferred.time_is_over();
  };
  timer_.started = true;
  fiber_.vm().ended_inner_wait();  // as long as that can end it
  Worker& worker = Worker::current();
  worker.prepare(timer_);
  worker.submit(timer_);
}

void Deferred::time_is_over() noexcept {
  if (finished_) return end();
  fiber_.vm().began_inner_wait();
  over_ = true;
  if (call_ != nullptr) call_->doom(kTimeOver, OpStop::deadline);
}

void Deferred::next() {
  call_ = make_fiber();
  if (call_ != nullptr) {
    call_->must_run_ = true;
    call_->start(lua_gettop(call_->root()) - 1, this);
  } else {
    finish();
  }
}

void Deferred::finish() {
  finished_ = true;
  if (timer_.started) return Worker::cancel(timer_);
  fiber_.vm().ended_inner_wait();
  end();
}

void Deferred::end() {
  Fiber& fiber = fiber_;
  const Fiber::Outcome outcome = outcome_;
  if (!trail_.empty()) fiber.vm().set_trail(fiber.root(), -1, trail_);
  delete this;
  fiber.end(outcome);
}

/// What is deferred must not be lost as long as garbage could make room for it. Null: it is, and that is told.
Fiber* Deferred::take_fiber(lua_Integer calls_left) {
  Vm& vm = fiber_.vm();
  Fiber* taken = vm.take_fiber();
  if (taken != nullptr) return taken;
  vm.collect_garbage();
  taken = vm.take_fiber();
  if (taken != nullptr) return taken;
  TaskError error;
  error.trace = "not enough memory for deferred calls: " + std::to_string(calls_left) + " not made";
  vm.task_errors().dropped(error);
  return nullptr;
}

/// With the last of the calls on its root; null when there is none, or no memory.
Fiber* Deferred::make_fiber() {
  Vm& vm = fiber_.vm();
  lua_State* L = vm.main_state();
  const int top = lua_gettop(L);
  push_own_table(L, &kDeferred, fiber_.root_ref_);
  const auto last = static_cast<lua_Integer>(lua_rawlen(L, -1));
  Fiber* made = last > 0 ? take_fiber(last) : nullptr;
  if (made != nullptr) {
    lua_rawgeti(L, -1, last);
    lua_pushnil(L);
    lua_rawseti(L, -3, last);
    lua_getfield(L, -1, "n");
    const int count = static_cast<int>(lua_tointeger(L, -1));
    lua_pop(L, 1);
    lua_State* root = made->root();
    EVLUA_CHECK(lua_checkstack(root, count + 1) != 0);  // as many have been on a stack before
    for (int i = 1; i <= count; ++i) {
      lua_rawgeti(L, -1, i);
      lua_xmove(L, root, 1);
    }
    made->task_number_ = fiber_.task_number_;
    made->label_ = "deferred";
    made->deferred_depth_ = fiber_.deferred_depth_ + 1;
    made->site_ = fiber_.site_;
    if (made->site_ != nullptr) ++made->site_->references;
    made->share_limits(fiber_);
    made->time_limit_ = until_;
    if (over_) {
      made->doom(kTimeOver, OpStop::deadline);
      made->strike(kTimeOver);
    }
    if (fiber_.has_locals_) made->take_locals(L, fiber_, false);
  }
  lua_settop(L, top);
  return made;
}

// -- for Lua ----------------------------------------------------------------------------------------------------------

int task_locals(lua_State* L) {
  check_running(L).push_locals(L);
  return 1;
}

int defer(lua_State* L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  luaL_checkstack(L, 4, "too many arguments");
  check_running(L).defer(L);
  return 0;
}

}  // namespace evlua::lua
