// Channels between the tasks of one Vm: any value, by reference. Those of evlua.thread are between Vms, and copy.
//
// A value that is to be sent waits in the registry together with its sender, or lies in the queue; a value that is
// handed to a waiting receiver lies in the registry until its task runs. Those references belong to the waits.
#include <algorithm>
#include <new>

#include "lua/iterate.h"
#include "lua/stack.h"
#include "lua/sync.h"
#include "lua/type_label.h"

namespace evlua::lua {

namespace {

using Ending = CaseWait::Ending;

constexpr const char* kType = "evlua.sync_channel";
constexpr lua_Integer kCapacityMax = lua_Integer{1} << 24;

SyncChannel& check_channel(lua_State* L) { return *static_cast<SyncChannel*>(check_object(L, 1, kType)); }

// -- the ring: positions from 0, keys of the table from 1 -------------------------------------------------------------

/// Makes room in a ring that is full, and whose table is on top. What lies up to its end moves to the new end.
void grow(lua_State* L, SyncChannel& channel) {
  const lua_Integer room = std::min(channel.capacity, std::max<lua_Integer>(4, 2 * channel.room));
  const lua_Integer added = room - std::exchange(channel.room, room);
  if (channel.first == 0) return;
  for (lua_Integer at = room - added; at > channel.first; --at) {
    lua_rawgeti(L, -1, at);
    lua_rawseti(L, -2, at + added);
    lua_pushnil(L);
    lua_rawseti(L, -2, at);
  }
  channel.first += added;
}

/// Queues the value on top, and pops it. REQUIRES: there is room, or may be made.
void push_back(lua_State* L, int index, SyncChannel& channel) {
  lua_getuservalue(L, index);
  if (channel.size == channel.room) grow(L, channel);
  lua_insert(L, -2);
  lua_rawseti(L, -2, (channel.first + channel.size) % channel.room + 1);
  ++channel.size;
  lua_pop(L, 1);
}

/// Pushes the oldest value. REQUIRES: there is one.
void pop_front(lua_State* L, int index, SyncChannel& channel) {
  lua_getuservalue(L, index);
  lua_rawgeti(L, -1, channel.first + 1);
  lua_pushnil(L);
  lua_rawseti(L, -3, channel.first + 1);
  lua_remove(L, -2);
  channel.first = (channel.first + 1) % channel.room;
  --channel.size;
}

/// Pushes what the sender wants to send, which is sent now.
void take_from(lua_State* L, CaseNode& sender) {
  List<CaseNode>::erase(sender);
  lua_rawgeti(L, LUA_REGISTRYINDEX, sender.value);
  luaL_unref(L, LUA_REGISTRYINDEX, std::exchange(sender.value, LUA_NOREF));
  sender.wait->choose(sender, Ending::done);
}

}  // namespace

Ending try_send(lua_State* L, int index, SyncChannel& channel) {
  if (channel.closed) {
    lua_pop(L, 1);
    return Ending::closed;
  }
  if (CaseNode* receiver = first_in(channel.receivers)) {
    const int value = luaL_ref(L, LUA_REGISTRYINDEX);  // may raise: nothing has changed yet
    List<CaseNode>::erase(*receiver);
    receiver->value = value;
    receiver->wait->choose(*receiver, Ending::received);
    return Ending::done;
  }
  if (channel.size == channel.capacity) return Ending::none;
  push_back(L, index, channel);
  return Ending::done;
}

Ending try_receive(lua_State* L, int index, SyncChannel& channel) {
  CaseNode* sender = first_in(channel.senders);
  if (channel.size > 0) {
    pop_front(L, index, channel);
    if (sender != nullptr) {
      take_from(L, *sender);
      push_back(L, index, channel);
    }
    return Ending::received;
  }
  if (sender != nullptr) {
    take_from(L, *sender);
    return Ending::received;
  }
  return channel.closed ? Ending::end : Ending::none;
}

SyncChannel* to_sync_channel(lua_State* L, int index) {
  return static_cast<SyncChannel*>(luaL_testudata(L, index, kType));
}

/// channel([capacity = 0])
int make_sync_channel(lua_State* L) {
  const lua_Integer capacity = lua_isnoneornil(L, 1) ? 0 : check_range(L, 1, 0, kCapacityMax);
  auto* channel = new (lua_newuserdata(L, sizeof(SyncChannel))) SyncChannel;
  channel->capacity = capacity;
  luaL_setmetatable(L, kType);
  if (capacity > 0) {
    lua_newtable(L);
    lua_setuservalue(L, -2);
  }
  return 1;
}

namespace {

/// send(value[, {timeout}])
int send(lua_State* L) {
  SyncChannel& channel = check_channel(L);
  luaL_argcheck(L, !lua_isnoneornil(L, 2), 2, "a value expected: nil stands for the end of a channel");
  const Instant deadline = check_options(L, 3, {"timeout"}) ? option_deadline(L, 3) : kNever;
  lua_settop(L, 2);
  const Ending ending = try_send(L, 1, channel);
  return ending != Ending::none ? push_ending(L, ending) : wait_in(L, channel.senders, deadline, true);
}

/// receive([{timeout}])
int receive(lua_State* L) {
  SyncChannel& channel = check_channel(L);
  const Instant deadline = check_options(L, 2, {"timeout"}) ? option_deadline(L, 2) : kNever;
  const Ending ending = try_receive(L, 1, channel);
  return ending != Ending::none ? push_ending(L, ending) : wait_in(L, channel.receivers, deadline, false);
}

/// for value in channel do ... end
int next_value(lua_State* L) {
  (void)check_channel(L);
  lua_settop(L, 1);
  return iterate(L, receive);
}

int close(lua_State* L) {
  SyncChannel& channel = check_channel(L);
  channel.closed = true;
  while (CaseNode* sender = first_in(channel.senders)) {
    List<CaseNode>::erase(*sender);
    sender->wait->choose(*sender, Ending::closed);
  }
  while (CaseNode* receiver = first_in(channel.receivers)) {  // they wait only where nothing is queued
    List<CaseNode>::erase(*receiver);
    receiver->wait->choose(*receiver, Ending::end);
  }
  return 0;
}

int closed(lua_State* L) {
  lua_pushboolean(L, check_channel(L).closed ? 1 : 0);
  return 1;
}

int size(lua_State* L) {
  lua_pushinteger(L, check_channel(L).size);
  return 1;
}

int to_string(lua_State* L) {
  const SyncChannel& channel = check_channel(L);
  lua_pushfstring(L, "channel (%s%I of %I): %p", channel.closed ? "closed, " : "", channel.size, channel.capacity,
                  lua_topointer(L, 1));
  return 1;
}

}  // namespace

void define_sync_channel(lua_State* L) {
  const luaL_Reg methods[] = {{"send", send},     {"receive", receive}, {"close", close},
                              {"closed", closed}, {"size", size},       {nullptr, nullptr}};
  const luaL_Reg meta[] = {{"__tostring", to_string}, {"__call", next_value}, {nullptr, nullptr}};
  define_type(L, kType, methods, meta);
}

}  // namespace evlua::lua
