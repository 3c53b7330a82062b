// evlua.thread: functions that run in other Vms, and channels between Vms. The rest is lua/lib/thread.lua.
#include <lua.hpp>

#include <cerrno>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#include "lua/bridge.h"
#include "lua/channel_cycles.h"
#include "lua/iterate.h"
#include "lua/message.h"
#include "lua/modules.h"
#include "lua/remote.h"
#include "lua/stack.h"
#include "lua/sync.h"
#include "lua/type_label.h"

namespace evlua::lua {

namespace {

constexpr const char* kChannelType = "evlua.channel";
constexpr const char* kStateType = "evlua.lua_state";

// -- calls ----------------------------------------------------------------------------------------------------------

using SharedVm = std::shared_ptr<Vm>;

/// state() -> a Vm that is kept from call to call
int make_state(lua_State* L) {
  auto* state = new (lua_newuserdata(L, sizeof(SharedVm))) SharedVm;
  luaL_setmetatable(L, kStateType);
  *state = Vm::create(Vm::of(L).seed());
  if (*state == nullptr) return luaL_error(L, "not enough memory for a Lua state");
  return 1;
}

int collect_state(lua_State* L) {
  static_cast<SharedVm*>(lua_touserdata(L, 1))->~SharedVm();
  return 0;
}

/// pack(...) -> the values as one
int pack(lua_State* L) {
  pack_message(L, 1);
  return 1;
}

/// Stack: the trace, the error value.
int raise_remote(lua_State* L, int, lua_KContext) {
  std::size_t size = 0;
  const char* trace = lua_tolstring(L, -2, &size);
  Vm::of(L).set_trail(L, -1, {trace, size});
  return lua_error(L);
}

struct PushRemote {
  static const char* subject() { return nullptr; }
  int operator()(lua_State* L, RemoteResult& result) const {
    if (!result.failed) return result.values != nullptr ? unpack_message(L, result.values) : 0;
    lua_pushlstring(L, result.trace.data(), result.trace.size());
    if (result.values == nullptr) return lua_error(L);
    lua_pushcfunction(L, unpack_packed);
    push_packed(L) = std::move(result.values);
    lua_callk(L, 1, 1, 0, raise_remote);
    return raise_remote(L, LUA_OK, 0);
  }
};

/// call(state | nil, packed function and arguments) -> what the function returns
int call(lua_State* L) {
  auto* state = lua_isnil(L, 1) ? nullptr : static_cast<SharedVm*>(check_object(L, 1, kStateType));
  lua_settop(L, 2);
  luaL_argcheck(L, packed_message(L, 2) != nullptr, 2, "used already");
  Vm& caller = Vm::of(L);
  return suspend_task<RemoteResult>(
      L,
      [=, &caller] {
        return call_remotely(state != nullptr ? *state : nullptr, caller, std::move(packed_message(L, 2)));
      },
      PushRemote());
}

/// give_back(place, places): into a channel of evlua.sync that has room for it, or is closed.
int give_back(lua_State* L) {
  lua_settop(L, 2);
  lua_insert(L, 1);
  (void)try_send(L, 1, *to_sync_channel(L, 1));
  return 0;
}

int workers(lua_State* L) {
  lua_pushinteger(L, Vm::of(L).scheduler().worker_count());
  return 1;
}

// -- channels -------------------------------------------------------------------------------------------------------

using Case = MessageChannel::Case;
using Chosen = MessageChannel::Chosen;
using ChannelPtr = std::shared_ptr<MessageChannel>;

ChannelPtr& check_channel(lua_State* L, int index) {
  return *static_cast<ChannelPtr*>(check_object(L, index, kChannelType));
}

/// channel([capacity = 0])
int make_channel(lua_State* L) {
  const lua_Integer capacity = lua_isnoneornil(L, 1) ? 0 : check_range(L, 1, 0, 1 << 24);
  auto* made = new (lua_newuserdata(L, sizeof(ChannelPtr))) ChannelPtr;
  luaL_setmetatable(L, kChannelType);
  *made = make_message_channel(static_cast<std::size_t>(capacity));
  if (*made == nullptr) return luaL_error(L, "not enough memory");
  return 1;
}

/// What became of a select.
struct Selected {
  Chosen chosen;
  bool sent = false;
  std::unique_ptr<Message> received;
};

Task<Result<Selected>> select_case(std::vector<Case> cases, std::size_t first, Instant deadline) {
  Result<Chosen> chosen = co_await MessageChannel::select(cases, first, deadline);
  if (!chosen) co_return fail(chosen.error());
  Case& happened = cases[chosen->index];
  Selected selected{*chosen, happened.sends, std::move(happened.value)};
  co_return selected;
}

Task<Result<Selected>> do_case(ChannelPtr channel, bool sends, std::unique_ptr<Message> value, Instant deadline) {
  std::vector<Case> cases;
  cases.push_back({std::move(channel), sends, std::move(value)});
  Result<Selected> selected = co_await select_case(std::move(cases), 0, deadline);
  co_return selected;
}

/// Sends `value`, or receives into it, if that is possible at once.
bool try_case(const ChannelPtr& channel, bool sends, std::unique_ptr<Message>& value, Error& error) {
  Case now{channel, sends, std::move(value)};
  Chosen chosen;
  const bool happened = MessageChannel::try_now(now, chosen);
  value = std::move(now.value);
  error = chosen.error;
  return happened;
}

int push_case_failure(lua_State* L, const Error& error) {
  if (error.is(EPIPE)) return push_failure(L, "the channel is closed", "EPIPE");
  return push_failure(L, error);
}

/// Of one channel: the value, or true.
struct PushOne {
  static const char* subject() { return nullptr; }
  int operator()(lua_State* L, Selected& selected) const {
    if (selected.chosen.error.code != 0) return push_case_failure(L, selected.chosen.error);
    if (!selected.sent) return unpack_message(L, selected.received);
    lua_pushboolean(L, 1);
    return 1;
  }
};

/// Packs the value on top for `channel`.
void pack_for(lua_State* L, const ChannelPtr& channel) {
  pack_message(L, -1);
  const Message& message = *packed_message(L, -1);
  if (message.channels() == nullptr) return;
  note_carrier(*channel);
  if (!message.mentions(channel.get())) return;
  packed_message(L, -1) = nullptr;
  luaL_error(L, "a channel cannot be sent over itself");
}

/// send(value[, {timeout}])
int send(lua_State* L) {
  const ChannelPtr& channel = check_channel(L, 1);
  luaL_argcheck(L, !lua_isnoneornil(L, 2), 2, "a value expected: nil stands for the end of a channel");
  const Instant deadline = check_options(L, 3, {"timeout"}) ? option_deadline(L, 3) : kNever;
  lua_settop(L, 2);
  pack_for(L, channel);
  std::unique_ptr<Message>& message = packed_message(L, 2);
  Error error;
  if (try_case(channel, true, message, error)) {
    message = nullptr;
    if (error.code != 0) return push_case_failure(L, error);
    lua_pushboolean(L, 1);
    return 1;
  }
  return suspend_task<Selected>(
      L, [&] { return do_case(channel, true, std::move(message), deadline); }, PushOne());
}

/// receive([{timeout}])
int receive(lua_State* L) {
  const ChannelPtr& channel = check_channel(L, 1);
  const Instant deadline = check_options(L, 2, {"timeout"}) ? option_deadline(L, 2) : kNever;
  lua_settop(L, 1);
  std::unique_ptr<Message>& message = push_packed(L);
  Error error;
  if (try_case(channel, false, message, error)) {
    return error.code != 0 ? push_case_failure(L, error) : unpack_packed(L);
  }
  return suspend_task<Selected>(
      L, [&] { return do_case(channel, false, nullptr, deadline); }, PushOne());
}

/// for value in channel do ... end
int next_value(lua_State* L) {
  (void)check_channel(L, 1);
  lua_settop(L, 1);
  return iterate(L, receive);
}

/// Of a select: its index, then what one channel gives.
struct PushSelected {
  static const char* subject() { return nullptr; }
  int operator()(lua_State* L, Selected& selected) const {
    lua_pushinteger(L, static_cast<lua_Integer>(selected.chosen.index) + 1);
    if (selected.chosen.error.code != 0) return 1 + push_case_failure(L, selected.chosen.error);
    if (selected.sent) {
      lua_pushboolean(L, 1);
      return 2;
    }
    lua_pushcfunction(L, unpack_packed);
    push_packed(L) = std::move(selected.received);
    lua_callk(L, 1, 1, 0, [](lua_State*, int, lua_KContext) { return 2; });
    return 2;
  }
};

/// Stack: the list at 1; packed messages from 3 on, one for each case that sends. Nothing here raises.
std::vector<Case> cases_of(lua_State* L, std::size_t count) {
  std::vector<Case> cases;
  int packed = 3;
  for (std::size_t i = 1; i <= count; ++i) {
    const bool sends = lua_rawgeti(L, 1, static_cast<lua_Integer>(i)) == LUA_TTABLE;
    if (sends) lua_rawgeti(L, -1, 1);
    cases.push_back({*to_channel(L, -1), sends, sends ? std::move(packed_message(L, packed++)) : nullptr});
    lua_pop(L, sends ? 2 : 1);
  }
  return cases;
}

/// select({channel | {channel, value}, ...}[, {timeout}]) -> index, value
int select(lua_State* L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  const std::size_t count = lua_rawlen(L, 1);
  luaL_argcheck(L, count > 0 && count <= 10000, 1, "a list of channels expected");
  const Instant deadline = check_options(L, 2, {"timeout"}) ? option_deadline(L, 2) : kNever;
  lua_settop(L, 2);
  luaL_checkstack(L, static_cast<int>(count) + 8, "too many channels");
  for (std::size_t i = 1; i <= count; ++i) {
    bool good = true;
    if (lua_rawgeti(L, 1, static_cast<lua_Integer>(i)) == LUA_TTABLE) {
      lua_rawgeti(L, -1, 1);
      const ChannelPtr* channel = to_channel(L, -1);
      good = channel != nullptr && lua_rawgeti(L, -2, 2) != LUA_TNIL;
      if (good) {
        pack_for(L, *channel);
        lua_insert(L, -3);
        lua_pop(L, 2);
      }
    } else {
      good = to_channel(L, -1) != nullptr;
      lua_pop(L, 1);
    }
    if (!good) {
      luaL_argerror(L, 1, lua_pushfstring(L, "element %d: a channel, or {channel, value}, expected", int(i)));
    }
  }
  const std::size_t first = Vm::of(L).draw(static_cast<unsigned>(count));
  return suspend_task<Selected>(
      L, [=] { return select_case(cases_of(L, count), first, deadline); }, PushSelected());
}

int close(lua_State* L) {
  check_channel(L, 1)->close();
  return 0;
}

int closed(lua_State* L) {
  lua_pushboolean(L, check_channel(L, 1)->closed() ? 1 : 0);
  return 1;
}

int size(lua_State* L) {
  lua_pushinteger(L, static_cast<lua_Integer>(check_channel(L, 1)->size()));
  return 1;
}

int collect_channel(lua_State* L) {
  auto* channel = static_cast<ChannelPtr*>(lua_touserdata(L, 1));
  drop_channel(*channel);
  channel->~ChannelPtr();
  return 0;
}

int channel_to_string(lua_State* L) {
  const ChannelPtr& shown = check_channel(L, 1);
  lua_pushfstring(L, "channel (%s%d of %d): %p", shown->closed() ? "closed, " : "", static_cast<int>(shown->size()),
                  static_cast<int>(shown->capacity()), shown.get());
  return 1;
}

int same_channel(lua_State* L) {
  const ChannelPtr* a = to_channel(L, 1);
  const ChannelPtr* b = to_channel(L, 2);
  lua_pushboolean(L, a != nullptr && b != nullptr && *a == *b ? 1 : 0);
  return 1;
}

}  // namespace

/// Channels are values of messages: every Vm knows them from the start.
void define_channel_type(lua_State* L) {
  const luaL_Reg methods[] = {{"send", send},     {"receive", receive}, {"close", close},
                              {"closed", closed}, {"size", size},       {nullptr, nullptr}};
  const luaL_Reg meta[] = {{"__gc", collect_channel},
                           {"__tostring", channel_to_string},
                           {"__eq", same_channel},
                           {"__call", next_value},
                           {nullptr, nullptr}};
  define_type(L, kChannelType, methods, meta);
}

int open_thread(lua_State* L) {
  const luaL_Reg state_meta[] = {{"__gc", collect_state}, {nullptr, nullptr}};
  define_type(L, kStateType, nullptr, state_meta);
  const luaL_Reg functions[] = {{"state", make_state},    {"pack", pack},     {"call", call},
                                {"workers", workers},     {"select", select}, {"channel", make_channel},
                                {"give_back", give_back}, {nullptr, nullptr}};
  luaL_newlib(L, functions);
  return 1;
}

}  // namespace evlua::lua
