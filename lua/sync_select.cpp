// select: a task waits for the first of several things, and does just that one.
//
// Channels and events have it in their lines, once for each case. Sockets get an operation that takes nothing: a stream
// receives into its buffer, the others are polled. The time of a timer is the deadline of the wait.
#include <cmath>
#include <memory>
#include <vector>

#include "lua/net_values.h"
#include "lua/stack.h"
#include "lua/sync.h"

namespace evlua::lua {

namespace {

using Ending = CaseWait::Ending;

constexpr lua_Integer kCasesMax = 10000;
constexpr int kFirstObject = 3;  // stack: the cases, the options, then what each case is about

struct SelectWait;

/// A case that is a stream, a listener or a socket for datagrams.
struct SocketCase : Op {
  SelectWait* select = nullptr;
  CaseNode node;
  net::Stream* stream = nullptr;
  net::Listener* listener = nullptr;
  net::DatagramSocket* datagram = nullptr;
  net::DatagramSocket::Waiter waiter;  // of that
  bool waits = false;

  bool is_open() const noexcept;
  Result<void> begin() noexcept;
  Result<void> end();
};

struct SelectWait : CaseWait {
  SelectWait(Instant until, std::size_t count) : CaseWait(until), nodes(count) {
    start = [](Suspension& self, Fiber& waiter) { static_cast<SelectWait&>(self).begin_select(waiter); };
    finish = [](Suspension& self, lua_State* L) { return static_cast<SelectWait&>(self).finish_select(L); };
  }

  void begin_select(Fiber& waiter);
  void socket_ended(SocketCase& socket);
  /// The wait is over; the operations of sockets are not, perhaps.
  void settle();
  int finish_select(lua_State* L);

  std::vector<CaseNode> nodes;
  std::vector<std::unique_ptr<SocketCase>> sockets;
  std::size_t in_flight = 0;
  int timer = 0;  // the case that comes true at the deadline; 0: none, then it is the timeout
  bool settled = false;
};

bool SocketCase::is_open() const noexcept {
  if (listener != nullptr) return listener->is_open();
  return datagram != nullptr ? datagram->is_open() : stream->is_open();
}

Result<void> SocketCase::begin() noexcept {
  if (listener != nullptr) return listener->begin_watch(*this);
  if (datagram != nullptr) return datagram->begin_watch(*this, waiter);
  code = OpCode::recv;
  fd = stream->socket().fd();
  if (stream->readable()) return fail(EBUSY, OpCode::recv);  // since another case of this select reads from it
  stream->begin_read(*this);
  return {};
}

Result<void> SocketCase::end() {
  if (listener != nullptr) {
    const int outcome = Op::outcome();
    listener->end_watch();
    if (outcome < 0) return fail(-outcome, OpCode::accept);
    return {};
  }
  if (datagram != nullptr) {
    const int outcome = datagram->is_open() ? Op::outcome() : -ECANCELED;
    datagram->end_watch(waiter);
    if (outcome < 0) return fail(-outcome, OpCode::recv);
    return {};
  }
  net::ReadRequest nothing;  // what is received stays in the stream's buffer
  nothing.kind = net::ReadRequest::Kind::exactly;
  Result<std::string_view> received;
  EVLUA_CHECK(stream->advance_read(*this, nothing, received));
  if (!received) return fail(received.error());
  return {};
}

void SelectWait::begin_select(Fiber& waiter) {
  for (CaseNode& node : nodes) {
    if (node.line != nullptr) node.line->push_back(node);
  }
  awaits_others = !sockets.empty();
  begin_park(waiter);
  run = [](Runnable& self) noexcept { static_cast<SelectWait&>(self).settle(); };
  for (const auto& socket : sockets) {
    if (const Result<void> begun = socket->begin(); !begun) {
      if (!over()) failure = begun.error();
      if (!over()) choose(socket->node, Ending::failed);
      continue;
    }
    socket->select = this;
    socket->home = home;
    socket->run = [](Runnable& self) noexcept {
      auto& ended = static_cast<SocketCase&>(self);
      ended.select->socket_ended(ended);
    };
    socket->waits = true;
    ++in_flight;
    Worker& worker = Worker::current();
    worker.prepare(*socket);
    worker.submit(*socket);
  }
}

void SelectWait::socket_ended(SocketCase& socket) {
  socket.waits = false;
  --in_flight;
  const Result<void> ended = socket.end();
  if (!over()) {
    const bool ready = ended || !socket.is_open();  // what is closed lets nobody wait
    if (!ready) failure = ended.error();
    choose(socket.node, ready ? Ending::done : Ending::failed);
  }
  if (settled && in_flight == 0) fiber->complete();
}

void SelectWait::settle() {
  settled = true;
  // From here on a socket changes nothing, nor does anybody else.
  if (!over()) (void)end(End::expired);
  for (const auto& socket : sockets) {
    if (socket->waits) Worker::cancel(*socket);
  }
  if (in_flight == 0) fiber->complete();
}

int SelectWait::finish_select(lua_State* L) {
  for (CaseNode& node : nodes) {
    if (node.linked()) List<CaseNode>::erase(node);
    if (&node != chosen) luaL_unref(L, LUA_REGISTRYINDEX, std::exchange(node.value, LUA_NOREF));
  }
  if (chosen != nullptr) {
    lua_pushinteger(L, chosen->index);
    const int results = push_chosen(L);
    luaL_unref(L, LUA_REGISTRYINDEX, std::exchange(chosen->value, LUA_NOREF));
    return 1 + results;
  }
  if (cancelled() || timer == 0) return push_wait_failure(L, error());
  lua_pushinteger(L, timer);
  lua_pushboolean(L, 1);
  return 2;
}

// -- reading the cases ------------------------------------------------------------------------------------------------

/// Pushes what case `index` is about, a case that sends being the table of a channel and a value.
void push_object(lua_State* L, int index) {
  if (lua_rawgeti(L, 1, index) == LUA_TTABLE) {
    lua_rawgeti(L, -1, 1);
    if (to_sync_channel(L, -1) == nullptr || lua_rawgeti(L, -2, 2) == LUA_TNIL) {
      luaL_argerror(L, 1, lua_pushfstring(L, "element %d: {channel, value} expected", index));
    }
    lua_pop(L, 1);
    lua_remove(L, -2);
    return;
  }
  const bool good = (lua_type(L, -1) == LUA_TNUMBER && !std::isnan(lua_tonumber(L, -1))) ||
                    to_sync_channel(L, -1) != nullptr || to_sync_event(L, -1) != nullptr ||
                    to_stream(L, -1) != nullptr || to_listener(L, -1) != nullptr || to_datagram(L, -1) != nullptr;
  if (!good) {
    luaL_argerror(L, 1,
                  lua_pushfstring(L,
                                  "element %d: a channel, {channel, value}, an event, seconds, a stream, a "
                                  "listener or a datagram socket expected",
                                  index));
  }
}

/// Pushes the value that case `index` sends; false, and nothing pushed, if it does not send.
bool push_value(lua_State* L, int index) {
  const bool sends = lua_rawgeti(L, 1, index) == LUA_TTABLE;
  if (sends) lua_rawgeti(L, -1, 2);
  if (sends) lua_remove(L, -2);
  if (!sends) lua_pop(L, 1);
  return sends;
}

/// Does case `index` if that is possible at once.
Ending try_case(lua_State* L, int index) {
  const int object = kFirstObject + index - 1;
  if (SyncChannel* channel = to_sync_channel(L, object)) {
    if (!push_value(L, index)) return try_receive(L, object, *channel);
    const int top = lua_gettop(L);
    const Ending sent = try_send(L, object, *channel);
    lua_settop(L, top - 1);
    return sent;
  }
  if (const SyncEvent* event = to_sync_event(L, object)) return event->set ? Ending::done : Ending::none;
  if (const net::Stream* stream = to_stream(L, object)) return stream->readable() ? Ending::done : Ending::none;
  if (const net::DatagramSocket* socket = to_datagram(L, object)) {
    return socket->readable() ? Ending::done : Ending::none;
  }
  if (const net::Listener* listener = to_listener(L, object)) return listener->is_open() ? Ending::none : Ending::done;
  return Ending::none;
}

/// Makes the nodes of the wait. Nothing here raises while memory is not limited.
void add_case(lua_State* L, SelectWait& wait, int index) {
  const int object = kFirstObject + index - 1;
  CaseNode& node = wait.nodes[static_cast<std::size_t>(index - 1)];
  node.wait = &wait;
  node.index = index;
  if (SyncChannel* channel = to_sync_channel(L, object)) {
    const bool sends = push_value(L, index);
    node.line = sends ? &channel->senders : &channel->receivers;
    if (sends) node.value = luaL_ref(L, LUA_REGISTRYINDEX);
  } else if (SyncEvent* event = to_sync_event(L, object)) {
    node.line = &event->waiters;
  } else if (lua_type(L, object) != LUA_TNUMBER) {
    auto socket = std::make_unique<SocketCase>();
    socket->stream = to_stream(L, object);
    socket->listener = to_listener(L, object);
    socket->datagram = to_datagram(L, object);
    socket->node.wait = &wait;
    socket->node.index = index;
    wait.sockets.push_back(std::move(socket));
  }
}

/// The earliest timer among the cases, if it is before `deadline`, which becomes its time; or 0.
int find_timer(lua_State* L, int count, Instant& deadline) {
  int timer = 0;
  const Instant now = Worker::current().backend().now();
  for (int index = 1; index <= count; ++index) {
    if (lua_type(L, kFirstObject + index - 1) != LUA_TNUMBER) continue;
    const Instant due = deadline_after(now, duration_from_seconds(lua_tonumber(L, kFirstObject + index - 1)));
    if (due > deadline || (due == deadline && due == kNever)) continue;
    if (due == deadline && timer != 0) continue;
    deadline = due;
    timer = index;
  }
  return timer;
}

int wait_for_cases(lua_State* L, int count, Instant deadline) {
  Fiber& fiber = fiber_to_wait(L);
  if (fiber.cancelled() != OpStop::none && !fiber.shielded()) return refuse_wait(L, fiber);
  const int timer = find_timer(L, count, deadline);
  Vm& vm = Vm::of(L);
  vm.keep_limit(false);  // what is referred to already would be lost
  auto& wait = fiber.emplace<SelectWait>(deadline, static_cast<std::size_t>(count));
  wait.timer = timer;
  for (int index = 1; index <= count; ++index) add_case(L, wait, index);
  vm.keep_limit(true);
  return lua_yieldk(L, 0, 0, &continue_wait);
}

}  // namespace

/// select({case, ...}[, {timeout}]) -> index, what it gives
int sync_select(lua_State* L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  const auto length = static_cast<lua_Integer>(lua_rawlen(L, 1));
  luaL_argcheck(L, length > 0 && length <= kCasesMax, 1, "a list of cases expected");
  const int count = static_cast<int>(length);
  const Instant deadline = check_options(L, 2, {"timeout"}) ? option_deadline(L, 2) : kNever;
  lua_settop(L, 2);
  luaL_checkstack(L, count + 8, "too many cases");
  for (int index = 1; index <= count; ++index) push_object(L, index);
  const int first = static_cast<int>(Vm::of(L).draw(static_cast<unsigned>(count)));
  for (int i = 0; i < count; ++i) {
    const int index = (first + i) % count + 1;
    const Ending ending = try_case(L, index);
    if (ending == Ending::none) continue;
    lua_pushinteger(L, index);
    if (ending == Ending::received) {
      lua_insert(L, -2);
      return 2;
    }
    return 1 + push_ending(L, ending);
  }
  return wait_for_cases(L, count, deadline);
}

}  // namespace evlua::lua
