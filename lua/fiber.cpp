#include "lua/fiber.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "core/trace.h"
#include "lua/slice.h"
#include "lua/stack.h"
#include "lua/task_local.h"

namespace evlua::lua {

namespace {

// Registry key of the table: reference of a fiber's root -> the value it keeps alive. (Not the bottom of the root's
// stack: when a coroutine has failed, the API sees only the frame that failed.)
const char kAnchors = 0;

}  // namespace

void Fiber::open(lua_State* L) {
  lua_newtable(L);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &kAnchors);
  open_belongings(L);
}

void SpawnSite::release() noexcept {
  SpawnSite* site = this;
  while (site != nullptr && --site->references == 0) {
    SpawnSite* above = site->parent;
    delete site;
    site = above;
  }
}

void CpuBudget::release() noexcept {
  CpuBudget* budget = this;
  while (budget != nullptr && --budget->references == 0) {
    CpuBudget* around = budget->parent;
    delete budget;
    budget = around;
  }
}

Fiber::~Fiber() {
  clear_slot();
  if (root_ref_ != LUA_NOREF) luaL_unref(vm_.state_, LUA_REGISTRYINDEX, root_ref_);
}

// -- life -----------------------------------------------------------------------------------------------------------

bool Fiber::make_root() {
  lua_State* L = vm_.state_;
  lua_pushcfunction(L, [](lua_State* state) {
    lua_newthread(state);
    lua_pushinteger(state, luaL_ref(state, LUA_REGISTRYINDEX));
    return 1;
  });
  if (lua_pcall(L, 0, 1, 0) != LUA_OK) {
    lua_pop(L, 1);
    return false;
  }
  root_ref_ = static_cast<int>(lua_tointeger(L, -1));
  lua_rawgeti(L, LUA_REGISTRYINDEX, root_ref_);
  root_ = lua_tothread(L, -1);
  lua_pop(L, 2);
  Vm::set_held(root_, true);  // nobody but its fiber may resume it
  return true;
}

void Fiber::start(int arguments, Owner* owner) noexcept {
  owner_ = owner;
  start_arguments_ = arguments;
  run = [](Runnable& self) noexcept {
    auto& fiber = static_cast<Fiber&>(self);
    if (fiber.cancelled_ != OpStop::none && !fiber.must_run_) {
      fiber.cancel_noticed_ = true;
      lua_settop(fiber.root_, 0);
      fiber.end(Outcome::returned);
      return;
    }
    fiber.drive(fiber.start_arguments_);
  };
  vm_.strand_.enqueue(*this);
}

void Fiber::start_now(int arguments, Owner* owner) {
  owner_ = owner;
  drive(arguments);
}

void Fiber::end(Outcome outcome) {
  vm_.running_ = nullptr;
  clear_slot();
  if (has_deferred_ && !ending_) {
    ending_ = true;
    Deferred::begin(*this, outcome);  // which ends us later
    return;
  }
  if (owner_ != nullptr) owner_->ended(*owner_, *this, outcome);
  recycle(outcome == Outcome::returned && !identity_seen_);
}

void Fiber::recycle(bool reusable) {
  List<Fiber>::erase(*this);
  if (site_ != nullptr) std::exchange(site_, nullptr)->release();
  if (std::exchange(anchored_, false)) {
    lua_pushnil(vm_.state_);
    anchor(vm_.state_);
    anchored_ = false;
  }
  drop_belongings();
  cancelled_ = OpStop::none;
  cuts_ = 0;
  label_ = "task";
  ending_ = must_run_ = false;
  deferred_depth_ = 0;
  doom_ = struck_ = nullptr;
  time_limit_ = kNever;
  if (cpu_budget_ != nullptr) std::exchange(cpu_budget_, nullptr)->release();
  cancel_noticed_ = cancel_raised_ = identity_seen_ = spared_ = false;
  shield_ = 0;
  owner_ = nullptr;
  EVLUA_DCHECK(chain_.empty() && unyieldable_ == 0);
  if (reusable) {
    lua_settop(root_, 0);
    if (lua_gethook(root_) != nullptr) lua_sethook(root_, nullptr, 0, 0);
  } else {
    luaL_unref(vm_.state_, LUA_REGISTRYINDEX, root_ref_);
    root_ = nullptr;
    root_ref_ = LUA_NOREF;
  }
  Vm& vm = vm_;
  if (vm.spare_count_ < Vm::kSpareFibersMax) {
    vm.spare_.push_back(*this);
    ++vm.spare_count_;
  } else {
    delete this;
  }
  vm.live_count_.add(static_cast<std::uint64_t>(-1));
  if (vm.live_count_.value() == 0) {
    vm.became_idle();
  } else if (vm.live_count_.value() == vm.inner_waits_) {
    vm.suspect_deadlock();
  }
}

void Fiber::anchor(lua_State* L) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &kAnchors);
  lua_insert(L, -2);
  lua_rawseti(L, -2, root_ref_);
  lua_pop(L, 1);
  anchored_ = true;
}

void Fiber::push_anchored(lua_State* L) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &kAnchors);
  lua_rawgeti(L, -1, root_ref_);
  lua_remove(L, -2);
}

// -- running --------------------------------------------------------------------------------------------------------

namespace {

/// "app.lua:12", where a coroutine is about to go on.
void describe_place(lua_State* L, int arguments, Trace::Span& span) {
  lua_Debug where{};
  bool found = false;
  for (int level = 0; !found && lua_getstack(L, level, &where) != 0; ++level) {
    lua_getinfo(L, "Sl", &where);
    found = where.currentline > 0;
  }
  if (!found && lua_isfunction(L, -arguments - 1)) {
    lua_pushvalue(L, -arguments - 1);
    lua_getinfo(L, ">S", &where);
    where.currentline = where.linedefined;
    found = true;
  }
  // What has paused before the first instruction has no line: Lua reads one from before its table.
  const bool strange = where.lastlinedefined > 0 && where.currentline > where.lastlinedefined;
  if (found && strange) where.currentline = where.linedefined;
  if (found && where.currentline > 0) {
    std::snprintf(span.detail(), Trace::Span::kDetailBytes, "%.50s:%d", where.short_src, where.currentline);
  } else if (found) {
    std::snprintf(span.detail(), Trace::Span::kDetailBytes, "%s", where.short_src);
  }
}

}  // namespace

void Fiber::drive(int arguments) {
  Trace::Span span("lua");
  if (span.recorded()) describe_place(chain_.empty() ? root_ : chain_.back(), arguments, span);
  const Slice slice(vm_);
  if (has_cpu_limit()) cpu_mark_ = thread_cpu_time();
  vm_.running_ = this;
  int status = resume(chain_.empty() ? root_ : chain_.back(), arguments);
  while (true) {
    if (!vm_.unwinding_.empty()) settle_held();
    if (has_cpu_limit()) charge_cpu();
    if (status == LUA_YIELD && pending_ != nullptr) {
      if (!begin_wait()) {
        vm_.running_ = nullptr;
        return;
      }
      status = resume(chain_.empty() ? root_ : chain_.back(), 0);
    } else if (!chain_.empty()) {
      status = unwind(status);
    } else if (status == LUA_OK) {
      end(Outcome::returned);
      return;
    } else {
      if (status == LUA_YIELD) lua_pushliteral(root_, "attempt to yield from outside a coroutine");
      end(Outcome::failed);
      return;
    }
  }
}

int Fiber::resume(lua_State* L, int arguments) {
  vm_.set_current_state(L);
  vm_.keep_limit(true);
  vm_.pace_collector();
  if (struck_ != nullptr) Slice::interrupt(L);
  Slice::began(L);
  const int status = lua_resume(L, nullptr, arguments);
  vm_.keep_limit(false);
  vm_.set_current_state(nullptr);
  (void)Slice::left(L);
  return status;
}

/// True: the wait was over before it began.
bool Fiber::begin_wait() {
  waiting_ = std::exchange(pending_, nullptr);
  starting_ = Starting::yes;
  waiting_->start(*waiting_, *this);
  // Its limits may have ended it since the call that waits looked.
  if (waiting_ != nullptr && cancelled_ != OpStop::none && !shielded()) waiting_->cancel(*waiting_);
  return std::exchange(starting_, Starting::no) == Starting::completed;
}

void Fiber::complete() noexcept {
  EVLUA_DCHECK(waiting_ != nullptr);
  waiting_ = nullptr;
  if (starting_ == Starting::yes) {
    starting_ = Starting::completed;
    return;
  }
  drive(0);
}

int Fiber::finish_wait(lua_State* L) {
  Suspension& suspension = *slot_used_;
  const int results = suspension.finish(suspension, L);
  clear_slot();
  return results;
}

void Fiber::clear_slot() noexcept {
  if (slot_used_ == nullptr) return;
  Suspension* used = std::exchange(slot_used_, nullptr);
  used->destroy(*used);
}

void Fiber::cancel(OpStop why) noexcept {
  if (cancelled_ != OpStop::none) return;
  cancelled_ = why;
  if (waiting_ != nullptr && !shielded()) waiting_->cancel(*waiting_);
}

void Fiber::limit_cpu(Duration amount) { cpu_budget_ = new CpuBudget{amount, cpu_budget_}; }

void Fiber::share_limits(const Fiber& other) noexcept {
  limit_time(other.time_limit_);
  if (cpu_budget_ == nullptr && other.cpu_budget_ != nullptr) {
    cpu_budget_ = other.cpu_budget_;
    ++cpu_budget_->references;
  }
}

void Fiber::charge_cpu() noexcept {
  const Instant now = thread_cpu_time();
  const Duration used = now - std::exchange(cpu_mark_, now);
  for (CpuBudget* budget = cpu_budget_; budget != nullptr; budget = budget->parent) {
    budget->left -= used;
    if (budget->left <= 0) doom("CPU time limit exceeded");
  }
}

const char* Fiber::check_limits() noexcept {
  if (has_cpu_limit()) charge_cpu();
  if (time_limit_ != kNever && monotonic_now() >= time_limit_) doom("time limit exceeded", OpStop::deadline);
  if (doom_ == nullptr && vm_.condemned() != nullptr) {
    cancel_raised_ = true;
    return vm_.condemned();
  }
  return doom_ != nullptr ? doom_ : struck_;
}

const char* Fiber::check_limits_when_stuck() noexcept {
  if (const char* ends = check_limits()) return ends;
  if (vm_.stuck_condemned() == nullptr || (spared_ && may_wait(vm_.current_state()))) return nullptr;
  cancel_raised_ = !spared_;
  return vm_.stuck_condemned();
}

void Fiber::doom(const char* message, OpStop why) noexcept {
  if (doom_ != nullptr) return;
  doom_ = message;
  cancel(why);
}

// -- coroutines -----------------------------------------------------------------------------------------------------

void Fiber::hold(lua_State* inner) {
  Vm::set_held(inner, true);
  vm_.unwinding_.push_back(inner);
}

void Fiber::settle_held() {
  chain_.insert(chain_.end(), vm_.unwinding_.rbegin(), vm_.unwinding_.rend());
  vm_.unwinding_.clear();
}

/// The innermost held coroutine has yielded to its resumer, ended, or failed: hands its values to the next level.
int Fiber::unwind(int status) {
  lua_State* inner = chain_.back();
  chain_.pop_back();
  Vm::set_held(inner, false);
  lua_State* outer = chain_.empty() ? root_ : chain_.back();
  nested_status_ = status;
  int values = status == LUA_OK || status == LUA_YIELD ? lua_gettop(inner) : 1;
  if (lua_checkstack(outer, values + 2) == 0) {
    lua_settop(inner, 0);
    nested_status_ = LUA_ERRRUN;
    lua_pushliteral(outer, "too many results to resume");
    values = 1;
  } else {
    lua_xmove(inner, outer, values);
  }
  return resume(outer, values);
}

// -- tracebacks -----------------------------------------------------------------------------------------------------

void Fiber::set_spawn_site(lua_State* L) {
  lua_Debug where;
  where.currentline = 0;
  where.short_src[0] = '\0';
  if (lua_getstack(L, 1, &where) != 0) lua_getinfo(L, "Sl", &where);
  SpawnSite* parent = vm_.running_ != nullptr ? vm_.running_->site_ : nullptr;
  if (parent != nullptr && parent->depth == SpawnSite::kDepthMax) parent = nullptr;
  SpawnSite* last = vm_.last_spawn_site_;
  if (last == nullptr || last->line != where.currentline || last->parent != parent ||
      std::strcmp(last->source, where.short_src) != 0) {
    if (last != nullptr) last->release();
    last = vm_.last_spawn_site_ = new SpawnSite;
    last->line = where.currentline;
    std::memcpy(last->source, where.short_src, sizeof last->source);
    last->parent = parent;
    if (parent != nullptr) {
      ++parent->references;
      last->depth = parent->depth + 1;
    }
  }
  ++last->references;
  site_ = last;
}

std::string Fiber::spawn_trace() const {
  std::string text;
  for (const SpawnSite* site = site_; site != nullptr; site = site->parent) {
    text += "\n\t[spawned at ";
    text += site->source;
    text += ':' + std::to_string(site->line) + ']';
  }
  return text;
}

std::string Fiber::failure_text() {
  lua_State* L = vm_.state_;
  const std::string trail = vm_.trail_of(root_, -1);
  lua_pushcfunction(L, [](lua_State* state) {  // as lua.c's message handler; __tostring may raise
    if (lua_type(state, 1) == LUA_TSTRING || luaL_getmetafield(state, 1, "__tostring") != LUA_TNIL) {
      luaL_tolstring(state, 1, nullptr);
    } else {
      lua_pushfstring(state, "(error object is a %s value)", luaL_typename(state, 1));
    }
    return 1;
  });
  lua_pushvalue(root_, -1);
  lua_xmove(root_, L, 1);
  (void)pcall_briefly(L, 1, 1);
  const char* words = lua_tostring(L, -1);
  const std::string message = words != nullptr ? words : "(error in error handling)";
  lua_pop(L, 1);
  if (trail.empty()) return traceback(message.c_str());
  const bool told = trail.compare(0, message.size(), message) == 0;
  return (told ? trail : message + "\n" + trail) + "\n" + traceback("in task:");
}

namespace {

/// Of one thread. Protected: there may be no memory for it.
std::string traceback_of(lua_State* thread, const char* message, lua_State* L) {
  lua_pushcfunction(L, [](lua_State* state) {
    luaL_traceback(state, static_cast<lua_State*>(lua_touserdata(state, 1)),
                   static_cast<const char*>(lua_touserdata(state, 2)), 0);
    return 1;
  });
  lua_pushlightuserdata(L, thread);
  lua_pushlightuserdata(L, const_cast<char*>(message));
  std::string text;
  if (lua_pcall(L, 2, 1, 0) == LUA_OK) {
    text = lua_tostring(L, -1);
  } else {
    text = (message != nullptr ? std::string(message) + "\n" : std::string()) + "(no memory for a traceback)";
  }
  lua_pop(L, 1);
  return text;
}

}  // namespace

std::string Fiber::traceback(const char* message) {
  std::string text;
  for (auto inner = chain_.rbegin(); inner != chain_.rend(); ++inner) {
    text += traceback_of(*inner, message, vm_.state_) + "\n";
    message = "in coroutine resumed by:";
  }
  return text + traceback_of(root_, message, vm_.state_) + spawn_trace();
}

}  // namespace evlua::lua
