#include "lua/vm.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <mutex>

#include "core/lockfree/futex_mutex.h"
#include "core/refusal.h"
#include "lua/compat.h"
#include "lua/fiber.h"
#include "lua/finalizers.h"
#include "lua/io_file.h"
#include "lua/modules.h"
#include "lua/slice.h"

namespace evlua::lua {

namespace {

// Registry keys: the address is the key.
const char kTrailValue = 0;

constexpr std::size_t kTrailMax = 16384;

struct AllVms {
  FutexMutex lock;
  std::vector<Vm*> vms;
  Vm::Totals ended;  // with `made` and `most` of all
};

/// Never destroyed: threads may end after main.
AllVms& all_vms() {
  static auto& all = *new AllVms;
  return all;
}

}  // namespace

Vm::Vm(Scheduler& scheduler, const Options& options)
    : scheduler_(scheduler),
      options_(options),
      strand_(scheduler),
      gc_pace_(options.memory_max),
      messages_(std::make_shared<MessageAccount>(options.memory_max)),
      task_errors_(*this),
      io_(std::make_unique<IoFiles>(*this)) {}

void* Vm::allocate(void* self, void* block, std::size_t old_size, std::size_t new_size) noexcept {
  Vm& vm = *static_cast<Vm*>(self);
  if (block == nullptr) old_size = 0;  // then it is a type tag
  void* resized = vm.memory_.resize(block, old_size, new_size);
  if (resized != nullptr || new_size == 0) {
    vm.memory_used_.add(new_size - old_size);  // wraps as it should
  } else {
    vm.ran_short_ = true;
  }
  return resized;
}

std::unique_ptr<Vm> Vm::create(Scheduler& scheduler, const Options& options) {
  watch_finalizers();
  Slice::install();
  std::unique_ptr<Vm> vm(new Vm(scheduler, options));
  lua_State* L = lua_newstate(&Vm::allocate, vm.get());
  if (L == nullptr) return nullptr;
  vm->state_ = L;
  count_.fetch_add(1, std::memory_order_relaxed);
  *static_cast<Vm**>(lua_getextraspace(L)) = vm.get();
  lua_pushcfunction(L, [](lua_State* state) {
    luaL_openlibs(state);
    Fiber::open(state);
    open_modules(state);
    use_compat(state, Vm::of(state).options_.compat);
    return 0;
  });
  if (lua_pcall(L, 0, 0, 0) != LUA_OK) {
    std::fprintf(stderr, "evlua: cannot open the library: %s\n", lua_tostring(L, -1));
    return nullptr;
  }
  vm->idle_.set();
  AllVms& all = all_vms();
  const std::lock_guard guard(all.lock);
  vm->number_ = ++all.ended.made;
  all.vms.push_back(vm.get());
  all.ended.most = std::max<std::uint64_t>(all.ended.most, all.vms.size());
  return vm;
}

namespace {

std::string package_field(lua_State* L, const char* name) {
  std::string text;
  lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  if (lua_getfield(L, -1, "package") == LUA_TTABLE) {
    if (lua_getfield(L, -1, name) == LUA_TSTRING) text = lua_tostring(L, -1);
    lua_pop(L, 1);
  }
  lua_pop(L, 2);
  return text;
}

void set_package_field(lua_State* L, const char* name, const std::string& text) {
  lua_getglobal(L, "package");
  lua_pushlstring(L, text.data(), text.size());
  lua_setfield(L, -2, name);
  lua_pop(L, 1);
}

}  // namespace

Vm::Seed Vm::seed() {
  return {&scheduler_, options_, on_exit, package_field(state_, "path"), package_field(state_, "cpath")};
}

std::unique_ptr<Vm> Vm::create(const Seed& seed) {
  if (memory_refused()) return nullptr;
  std::unique_ptr<Vm> vm = create(*seed.scheduler, seed.options);
  if (vm == nullptr) return nullptr;
  vm->on_exit = seed.on_exit;
  set_package_field(vm->state_, "path", seed.path);
  set_package_field(vm->state_, "cpath", seed.cpath);
  return vm;
}

Vm::~Vm() { close(); }

void Vm::close() {
  if (state_ == nullptr) return;
  {
    const std::lock_guard guard(all_vms().lock);
    if (std::erase(all_vms().vms, this) != 0) add_to(all_vms().ended);
  }
  strand_.wait_until_left();
  EVLUA_CHECK(live_count_.value() == 0);
  while (Fiber* fiber = spare_.pop_front()) delete fiber;
  if (last_spawn_site_ != nullptr) std::exchange(last_spawn_site_, nullptr)->release();
  io_->block();
  closing_ = true;
  const Brief::Limit limit(kSecond);
  lua_close(state_);
  state_ = nullptr;
  io_->write_now();
  count_.fetch_sub(1, std::memory_order_relaxed);
}

void Vm::finalize_at_exit() {
  io_->block_here();
  closing_ = true;
  keep_limit(false);
  set_current_state(nullptr);  // it is freed, and nothing may interrupt it any more
  lua_close(state_);
  io_->write_now();
}

void Vm::write_all_out() noexcept {
  io_->write_now();
  const Instant until = monotonic_now() + kSecond;
  const std::lock_guard guard(all_vms().lock);  // none of them ends meanwhile
  for (Vm* other : all_vms().vms) {
    if (other == this) continue;
    while (!other->strand_.try_run([other] { other->io_->write_now(); }) && monotonic_now() < until) {
      Worker::current().offer_work();
      const timespec moment{0, kMillisecond};
      ::nanosleep(&moment, nullptr);
    }
  }
}

std::vector<Vm::Figures> Vm::all_figures() {
  std::vector<Figures> figures;
  const std::lock_guard guard(all_vms().lock);
  for (const Vm* vm : all_vms().vms) figures.push_back({vm->number_, vm->memory_used(), vm->live_fibers()});
  return figures;
}

void Vm::add_to(Totals& totals) const noexcept {
  totals.tasks += task_count_.value();
  totals.most_tasks = std::max(totals.most_tasks, most_tasks_.value());
  totals.most_memory = std::max<std::uint64_t>(totals.most_memory, memory_.most_held());
}

Vm::Totals Vm::totals() {
  const std::lock_guard guard(all_vms().lock);
  Totals totals = all_vms().ended;
  for (const Vm* vm : all_vms().vms) vm->add_to(totals);
  return totals;
}

/// The collection for want of memory runs no finalizers, and so leaves what only they free, as a buffer of string.pack:
/// the next task must not find that there.
void Vm::collect_what_ran_short() {
  if (running_ == nullptr && std::exchange(ran_short_, false)) collect_garbage();
}

void Vm::collect_garbage() {
  lua_pushcfunction(state_, [](lua_State* L) { return lua_gc(L, LUA_GCCOLLECT, 0); });
  if (lua_pcall(state_, 0, 0, 0) != LUA_OK) lua_pop(state_, 1);
}

Fiber* Vm::take_fiber() {
  if (memory_refused()) return nullptr;
  collect_what_ran_short();
  Fiber* fiber = spare_.pop_front();
  if (fiber != nullptr) {
    --spare_count_;
  } else {
    fiber = new Fiber(*this);
  }
  if (fiber->root_ == nullptr && !fiber->make_root()) {
    delete fiber;
    return nullptr;
  }
  task_count_.add();
  fiber->task_number_ = task_count_.value();
  fiber->began_ = Worker::current().now();
  live_.push_back(*fiber);
  if (live_count_.value() == 0) idle_.reset();
  live_count_.add();
  most_tasks_.note(live_count_.value());
  return fiber;
}

void Vm::add_trail(lua_State* L, lua_State* died, const char* heading) {
  if (trail_of(L, -1).empty()) trail_.clear();
  if (trail_.size() > kTrailMax) return;  // an equal message of another error, again and again
  luaL_traceback(L, died, heading, 0);
  if (!trail_.empty()) trail_ += '\n';
  trail_ += lua_tostring(L, -1);
  lua_pop(L, 1);
  rename_trail(L);
}

void Vm::rename_trail(lua_State* L) {
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &kTrailValue);
}

void Vm::set_trail(lua_State* L, int index, std::string_view text) {
  trail_ = text;
  lua_pushvalue(L, index);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &kTrailValue);
}

std::string Vm::trail_of(lua_State* L, int index) {
  if (trail_.empty()) return {};
  index = lua_absindex(L, index);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &kTrailValue);
  const bool same = lua_rawequal(L, index, -1) != 0;
  lua_pop(L, 1);
  return same ? trail_ : std::string();
}

/// Behind whatever is queued; what has been woken meanwhile counts no more.
void Vm::suspect_deadlock() noexcept {
  if (deadlock_watch_ == nullptr || std::exchange(deadlock_look_.queued, true)) return;
  deadlock_look_.vm = this;
  deadlock_look_.run = [](Runnable& self) noexcept {
    Vm& vm = *static_cast<DeadlockLook&>(self).vm;
    vm.deadlock_look_.queued = false;
    const bool stuck = vm.all_wait_inside() && vm.io_->quiet();
    if (stuck && vm.deadlock_watch_ != nullptr) vm.deadlock_watch_->found(*vm.deadlock_watch_, vm);
  };
  strand_.enqueue(deadlock_look_);
}

void Vm::became_idle() {
  collect_what_ran_short();
  task_errors_.tell_all();
  io_->start_writing();
  look_whether_idle();
}

void Vm::look_whether_idle() {
  if (all_wait_inside()) suspect_deadlock();  // what was being written is
  if (live_count_.value() == 0 && io_->quiet() && task_errors_.stop()) idle_.set();
}

}  // namespace evlua::lua
