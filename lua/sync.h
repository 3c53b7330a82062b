// What evlua.sync is made of: tasks of one Vm that wait for each other. Everything here is on the Vm's strand.
//
// Whoever makes a wait come true calls `wake`, which is true for one caller only, and gives what was waited for in the
// same breath. A wait that a deadline or a cancellation ends stays in its line until its task runs again, and is passed
// over there; so nothing is given to somebody who does not take it. Objects stay alive while a task waits for them,
// being arguments of the call that waits.
#pragma once

#include <lua.hpp>

#include "core/intrusive.h"
#include "lua/bridge.h"

namespace evlua::lua {

/// The first in line that can still be woken, or null; those before it are dropped.
template <class Node>
Node* first_in(List<Node>& line) noexcept {
  while (Node* node = line.front()) {
    if (!node->is_over()) return node;
    List<Node>::erase(*node);
  }
  return nullptr;
}

// -- lines: of those who wait for their turn --------------------------------------------------------------------------

struct LineWait : Park, ListNode {
  using Line = List<LineWait>;

  /// `object` is told when the wait ends without having been woken: what stood behind may go on then.
  LineWait(Line& where, Instant until, void* waited, void (*when_left)(void*) noexcept, lua_Integer wanted = 1)
      : Park(until), amount(wanted), line_(where), object_(waited), left_(when_left) {
    start = [](Suspension& self, Fiber& waiter) {
      auto& wait = static_cast<LineWait&>(self);
      wait.line_.push_back(wait);
      wait.begin_park(waiter);
    };
    finish = [](Suspension& self, lua_State* L) { return static_cast<LineWait&>(self).finish_line(L); };
  }

  bool is_over() const noexcept { return over(); }
  /// REQUIRES: it is in line, and not over.
  void grant() noexcept {
    Line::erase(*this);
    EVLUA_CHECK(wake());
  }

  const lua_Integer amount;

 private:
  int finish_line(lua_State* L);

  Line& line_;
  void* object_;
  void (*left_)(void*) noexcept;
};

// -- cases: of those who wait for one of several things ---------------------------------------------------------------

struct CaseWait;

/// One thing that a task waits for.
struct CaseNode : ListNode {
  CaseWait* wait = nullptr;
  List<CaseNode>* line = nullptr;
  int index = 0;          ///< of the case in a select
  int value = LUA_NOREF;  ///< registry reference: what is to be sent; or what was received

  inline bool is_over() const noexcept;
};

struct CaseWait : Park {
  using Park::Park;

  /// How a case has come true.
  enum class Ending : unsigned char { none, done, received, closed, end, failed };

  /// REQUIRES: the node's wait is not over.
  void choose(CaseNode& node, Ending how) noexcept {
    chosen = &node;
    ending = how;
    EVLUA_CHECK(wake());
  }
  /// Pushes what the chosen case gives: what was received, or true, or nil, message, code.
  int push_chosen(lua_State* L);

  CaseNode* chosen = nullptr;
  Ending ending = Ending::none;
  Error failure;
};

bool CaseNode::is_over() const noexcept { return wait->over(); }

/// Lets the running task wait in `line`; with `value` on top of the stack if that is to be sent.
int wait_in(lua_State* L, List<CaseNode>& line, Instant until, bool sends);

// -- the objects ------------------------------------------------------------------------------------------------------

struct SyncChannel {
  lua_Integer capacity = 0;
  // The queue is a ring in a table, which is the user value of the channel.
  lua_Integer size = 0;
  lua_Integer first = 0;
  lua_Integer room = 0;
  bool closed = false;
  List<CaseNode> senders;
  List<CaseNode> receivers;
};

struct SyncEvent {
  bool set = false;
  List<CaseNode> waiters;
};

/// Null when the value is none.
SyncChannel* to_sync_channel(lua_State* L, int index);
SyncEvent* to_sync_event(lua_State* L, int index);

/// Sends the value on top of the stack, and pops it; or receives one, and pushes it: if that is possible at once. The
/// channel is at `index`. Else nothing happens: Ending::none.
CaseWait::Ending try_send(lua_State* L, int index, SyncChannel& channel);
CaseWait::Ending try_receive(lua_State* L, int index, SyncChannel& channel);
/// For a case that has come true at once: as CaseWait::push_chosen, a value that was received being on the stack.
int push_ending(lua_State* L, CaseWait::Ending ending);

int make_sync_channel(lua_State* L);
int make_sync_event(lua_State* L);
int make_wait_group(lua_State* L);
int make_mutex(lua_State* L);
int make_rwlock(lua_State* L);
int make_semaphore(lua_State* L);
int sync_held(lua_State* L);
int make_limiter(lua_State* L);
int sync_select(lua_State* L);
void define_sync_channel(lua_State* L);
void define_sync_events(lua_State* L);
void define_sync_locks(lua_State* L);
void define_limiter(lua_State* L);

}  // namespace evlua::lua
