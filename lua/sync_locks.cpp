// Mutexes, read-write locks and semaphores: tasks that wait for their turn, first come, first served.
#include <new>

#include "lua/bracket.h"
#include "lua/stack.h"
#include "lua/sync.h"
#include "lua/type_label.h"

namespace evlua::lua {

namespace {

constexpr const char* kMutexType = "evlua.mutex";
constexpr const char* kRwlockType = "evlua.rwlock";
constexpr const char* kSemaphoreType = "evlua.semaphore";
constexpr lua_Integer kPermitsMax = lua_Integer{1} << 31;

Instant deadline_at(lua_State* L, int index) {
  return check_options(L, index, {"timeout"}) ? option_deadline(L, index) : kNever;
}

int push_true(lua_State* L) {
  lua_pushboolean(L, 1);
  return 1;
}

/// The number of the task that runs.
std::uint64_t running_task(lua_State* L) {
  const Fiber* fiber = Vm::of(L).running();
  if (fiber == nullptr) luaL_error(L, "only tasks can have a lock");
  return fiber->task_number();
}

// -- mutex ------------------------------------------------------------------------------------------------------------

struct Mutex {
  std::uint64_t holder = 0;  // number of the task; 0: nobody
  LineWait::Line line;

  void hand_on() noexcept {
    LineWait* next = first_in(line);
    holder = next != nullptr ? next->fiber->task_number() : 0;
    if (next != nullptr) next->grant();
  }
};

Mutex& check_mutex(lua_State* L, int index) { return *static_cast<Mutex*>(check_object(L, index, kMutexType)); }

/// lock([{timeout}])
int lock(lua_State* L) {
  Mutex& mutex = check_mutex(L, 1);
  const Instant deadline = deadline_at(L, 2);
  const std::uint64_t task = running_task(L);
  if (mutex.holder == task) return luaL_error(L, "this task has the mutex already");
  if (mutex.holder != 0) return suspend<LineWait>(L, mutex.line, deadline, &mutex, [](void*) noexcept {});
  mutex.holder = task;
  return push_true(L);
}

int try_lock(lua_State* L) {
  Mutex& mutex = check_mutex(L, 1);
  const std::uint64_t task = running_task(L);
  const bool free = mutex.holder == 0;
  if (free) mutex.holder = task;
  lua_pushboolean(L, free ? 1 : 0);
  return 1;
}

int unlock(lua_State* L) {
  Mutex& mutex = check_mutex(L, 1);
  if (mutex.holder != running_task(L)) {
    return luaL_error(L, mutex.holder == 0 ? "the mutex is not locked" : "another task has the mutex");
  }
  mutex.hand_on();
  return 0;
}

/// release(token, mutex), for bracket: f may have unlocked it itself.
int release_mutex(lua_State* L) {
  Mutex& mutex = check_mutex(L, 2);
  if (mutex.holder == running_task(L)) mutex.hand_on();
  return 0;
}

/// with(f, ...)
int with_mutex(lua_State* L) {
  (void)check_mutex(L, 1);
  return bracket_with(L, lock, release_mutex);
}

int locked(lua_State* L) {
  lua_pushboolean(L, check_mutex(L, 1).holder != 0 ? 1 : 0);
  return 1;
}

int mutex_to_string(lua_State* L) {
  lua_pushfstring(L, "mutex (%s): %p", check_mutex(L, 1).holder != 0 ? "locked" : "free", lua_topointer(L, 1));
  return 1;
}

// -- read-write lock --------------------------------------------------------------------------------------------------

/// Whoever comes waits behind those who wait: readers do not overtake a writer, so that neither kind starves.
struct Rwlock {
  enum Want : lua_Integer { kRead, kWrite };

  lua_Integer readers = 0;
  std::uint64_t writer = 0;  // number of the task; 0: nobody
  LineWait::Line line;

  bool may_read() noexcept { return writer == 0 && first_in(line) == nullptr; }
  bool may_write() noexcept { return writer == 0 && readers == 0 && first_in(line) == nullptr; }

  void let_in() noexcept {
    while (LineWait* next = first_in(line)) {
      const bool writes = next->amount == kWrite;
      if (writer != 0 || (writes && readers != 0)) return;
      if (writes) {
        writer = next->fiber->task_number();
      } else {
        ++readers;
      }
      next->grant();
    }
  }
  static void left(void* self) noexcept { static_cast<Rwlock*>(self)->let_in(); }
};

Rwlock& check_rwlock(lua_State* L, int index) { return *static_cast<Rwlock*>(check_object(L, index, kRwlockType)); }

/// lock_read([{timeout}])
int lock_read(lua_State* L) {
  Rwlock& rwlock = check_rwlock(L, 1);
  const Instant deadline = deadline_at(L, 2);
  if (rwlock.writer == running_task(L)) return luaL_error(L, "this task writes already");
  if (!rwlock.may_read()) return suspend<LineWait>(L, rwlock.line, deadline, &rwlock, &Rwlock::left, Rwlock::kRead);
  ++rwlock.readers;
  return push_true(L);
}

/// lock_write([{timeout}])
int lock_write(lua_State* L) {
  Rwlock& rwlock = check_rwlock(L, 1);
  const Instant deadline = deadline_at(L, 2);
  const std::uint64_t task = running_task(L);
  if (rwlock.writer == task) return luaL_error(L, "this task writes already");
  if (!rwlock.may_write()) return suspend<LineWait>(L, rwlock.line, deadline, &rwlock, &Rwlock::left, Rwlock::kWrite);
  rwlock.writer = task;
  return push_true(L);
}

int try_lock_read(lua_State* L) {
  Rwlock& rwlock = check_rwlock(L, 1);
  const bool free = rwlock.may_read();
  if (free) ++rwlock.readers;
  lua_pushboolean(L, free ? 1 : 0);
  return 1;
}

int try_lock_write(lua_State* L) {
  Rwlock& rwlock = check_rwlock(L, 1);
  const std::uint64_t task = running_task(L);
  const bool free = rwlock.may_write();
  if (free) rwlock.writer = task;
  lua_pushboolean(L, free ? 1 : 0);
  return 1;
}

int unlock_read(lua_State* L) {
  Rwlock& rwlock = check_rwlock(L, 1);
  if (rwlock.readers == 0) return luaL_error(L, "nobody reads");
  if (--rwlock.readers == 0) rwlock.let_in();
  return 0;
}

int unlock_write(lua_State* L) {
  Rwlock& rwlock = check_rwlock(L, 1);
  if (rwlock.writer != running_task(L)) {
    return luaL_error(L, rwlock.writer == 0 ? "nobody writes" : "another task writes");
  }
  rwlock.writer = 0;
  rwlock.let_in();
  return 0;
}

int release_read(lua_State* L) {
  Rwlock& rwlock = check_rwlock(L, 2);
  if (rwlock.readers > 0 && --rwlock.readers == 0) rwlock.let_in();
  return 0;
}

int release_write(lua_State* L) {
  Rwlock& rwlock = check_rwlock(L, 2);
  if (rwlock.writer != running_task(L)) return 0;
  rwlock.writer = 0;
  rwlock.let_in();
  return 0;
}

/// with_read(f, ...)
int with_read(lua_State* L) {
  (void)check_rwlock(L, 1);
  return bracket_with(L, lock_read, release_read);
}

/// with_write(f, ...)
int with_write(lua_State* L) {
  (void)check_rwlock(L, 1);
  return bracket_with(L, lock_write, release_write);
}

int rwlock_to_string(lua_State* L) {
  const Rwlock& rwlock = check_rwlock(L, 1);
  if (rwlock.writer != 0) {
    lua_pushfstring(L, "rwlock (written): %p", lua_topointer(L, 1));
  } else {
    lua_pushfstring(L, "rwlock (%I readers): %p", rwlock.readers, lua_topointer(L, 1));
  }
  return 1;
}

// -- semaphore --------------------------------------------------------------------------------------------------------

struct Semaphore {
  lua_Integer permits = 0;
  lua_Integer available = 0;
  LineWait::Line line;

  bool take(lua_Integer amount) noexcept {
    if (available < amount || first_in(line) != nullptr) return false;
    available -= amount;
    return true;
  }
  void let_in() noexcept {
    while (LineWait* next = first_in(line)) {
      if (available < next->amount) return;
      available -= next->amount;
      next->grant();
    }
  }
  static void left(void* self) noexcept { static_cast<Semaphore*>(self)->let_in(); }
};

Semaphore& check_semaphore(lua_State* L, int index) {
  return *static_cast<Semaphore*>(check_object(L, index, kSemaphoreType));
}

lua_Integer check_amount(lua_State* L, const Semaphore& semaphore) {
  return lua_isnoneornil(L, 2) ? 1 : check_range(L, 2, 1, semaphore.permits);
}

/// acquire([n = 1][, {timeout}])
int acquire(lua_State* L) {
  Semaphore& semaphore = check_semaphore(L, 1);
  if (lua_istable(L, 2)) {
    lua_pushnil(L);
    lua_insert(L, 2);
  }
  const lua_Integer amount = check_amount(L, semaphore);
  const Instant deadline = deadline_at(L, 3);
  if (semaphore.take(amount)) return push_true(L);
  return suspend<LineWait>(L, semaphore.line, deadline, &semaphore, &Semaphore::left, amount);
}

/// try([n = 1])
int try_acquire(lua_State* L) {
  Semaphore& semaphore = check_semaphore(L, 1);
  lua_pushboolean(L, semaphore.take(check_amount(L, semaphore)) ? 1 : 0);
  return 1;
}

/// release([n = 1])
int release(lua_State* L) {
  Semaphore& semaphore = check_semaphore(L, 1);
  const lua_Integer amount = check_amount(L, semaphore);
  if (semaphore.available + amount > semaphore.permits) return luaL_error(L, "more is released than was acquired");
  semaphore.available += amount;
  semaphore.let_in();
  return 0;
}

int release_one(lua_State* L) {
  Semaphore& semaphore = check_semaphore(L, 2);
  if (semaphore.available < semaphore.permits) ++semaphore.available;
  semaphore.let_in();
  return 0;
}

/// with(f, ...)
int with_semaphore(lua_State* L) {
  (void)check_semaphore(L, 1);
  return bracket_with(L, acquire, release_one);
}

int available(lua_State* L) {
  lua_pushinteger(L, check_semaphore(L, 1).available);
  return 1;
}

int semaphore_to_string(lua_State* L) {
  const Semaphore& semaphore = check_semaphore(L, 1);
  lua_pushfstring(L, "semaphore (%I of %I): %p", semaphore.available, semaphore.permits, lua_topointer(L, 1));
  return 1;
}

}  // namespace

int make_mutex(lua_State* L) {
  new (lua_newuserdata(L, sizeof(Mutex))) Mutex;
  luaL_setmetatable(L, kMutexType);
  return 1;
}

int make_rwlock(lua_State* L) {
  new (lua_newuserdata(L, sizeof(Rwlock))) Rwlock;
  luaL_setmetatable(L, kRwlockType);
  return 1;
}

/// semaphore(permits)
int make_semaphore(lua_State* L) {
  const lua_Integer permits = check_range(L, 1, 1, kPermitsMax);
  auto* semaphore = new (lua_newuserdata(L, sizeof(Semaphore))) Semaphore;
  semaphore->permits = semaphore->available = permits;
  luaL_setmetatable(L, kSemaphoreType);
  return 1;
}

/// held(mutex) -> whether the task that runs has it
int sync_held(lua_State* L) {
  lua_pushboolean(L, check_mutex(L, 1).holder == running_task(L) ? 1 : 0);
  return 1;
}

void define_sync_locks(lua_State* L) {
  const luaL_Reg mutex[] = {{"lock", lock},       {"try_lock", try_lock}, {"unlock", unlock},
                            {"with", with_mutex}, {"locked", locked},     {nullptr, nullptr}};
  const luaL_Reg mutex_meta[] = {{"__tostring", mutex_to_string}, {nullptr, nullptr}};
  define_type(L, kMutexType, mutex, mutex_meta);
  const luaL_Reg rwlock[] = {
      {"lock_read", lock_read},           {"lock_write", lock_write},   {"try_lock_read", try_lock_read},
      {"try_lock_write", try_lock_write}, {"unlock_read", unlock_read}, {"unlock_write", unlock_write},
      {"with_read", with_read},           {"with_write", with_write},   {nullptr, nullptr}};
  const luaL_Reg rwlock_meta[] = {{"__tostring", rwlock_to_string}, {nullptr, nullptr}};
  define_type(L, kRwlockType, rwlock, rwlock_meta);
  const luaL_Reg semaphore[] = {{"acquire", acquire},     {"try", try_acquire},     {"release", release},
                                {"with", with_semaphore}, {"available", available}, {nullptr, nullptr}};
  const luaL_Reg semaphore_meta[] = {{"__tostring", semaphore_to_string}, {nullptr, nullptr}};
  define_type(L, kSemaphoreType, semaphore, semaphore_meta);
}

}  // namespace evlua::lua
