// The userdata behind io.open and its like, and how functions of the io library wait.
//
// A handle begins with a luaL_Stream, so that C modules that take files find a FILE* of the same descriptor: for
// fileno, lfs.lock and such. What such a module reads or writes through it passes our buffers by: file:flush() before,
// and file:seek("cur") where it reads on.
//
// Handles of the same type that C modules have made are theirs: for these, everything is stock and blocks.
#pragma once

#include <lua.hpp>

#include <string_view>

#include "lua/bridge.h"
#include "lua/io_file.h"

namespace evlua::lua {

struct IoHandle {
  luaL_Stream stream;
  const void* tag;
  IoFile* file;
};

// The default files' registry keys are those of stock Lua.
inline constexpr const char* kInputKey = "_IO_input";
inline constexpr const char* kOutputKey = "_IO_output";

/// The handle at `index`, or null for one that a C module has made. Raises for other values.
IoHandle* check_handle(lua_State* L, int index);
/// Our handle at `index`. REQUIRES: it is one.
inline IoHandle& handle_at(lua_State* L, int index) { return *static_cast<IoHandle*>(lua_touserdata(L, index)); }
/// The open file of a handle; raises for a closed one.
IoFile& open_file_of(lua_State* L, const IoHandle& handle);
/// Pushes a closed handle. To be done before there is a descriptor, which a lack of memory would leave open.
void push_closed_handle(lua_State* L);
/// The handle on top becomes that of a file that is open in `mode`; it closes the descriptor.
IoFile& open_handle(lua_State* L, int fd, const char* mode);
/// Gives the handle on top its FILE*.
void open_stream(lua_State* L, IoFile& file, const char* mode);

/// Reads what the `count` formats from index `first` on ask for. `first` is 2, and the handle at 1; or it is 1, and the
/// handle behind the formats.
/// For `lines` the results go through return_line.
int read_formats(lua_State* L, int first, int count, bool lines = false);
/// Waits until the read in flight of the file has ended. REQUIRES: can_wait.
int wait_for_reader(lua_State* L, lua_KFunction next, lua_KContext context, IoFile& file);
/// What the iterator of `lines` makes of the results on top.
int return_line(lua_State* L, int results);

/// Writes the values from index `first` on to the handle on top. Waits for what has to be written before.
int write_values(lua_State* L, int first);
/// Writes what the handle at index 1 has buffered.
int flush_handle(lua_State* L);
/// Closes the handle at index 1.
int close_handle(lua_State* L);

/// Pushes nil, "name: message", errno; returns 3.
int push_errno(lua_State* L, int error, const char* name = nullptr);

// -- waiting --------------------------------------------------------------------------------------------------------

/// Whether the running function can be suspended. Otherwise the functions of io and os block, as in stock Lua.
inline bool can_wait(lua_State* L) {
  Fiber* fiber = Vm::of(L).running();
  return fiber != nullptr && fiber->may_wait(L);
}

/// As suspend, but goes on with `next`, which begins with wait_result. REQUIRES: can_wait.
template <class S, class... Arguments>
int wait_and(lua_State* L, lua_KFunction next, lua_KContext context, Arguments&&... arguments) {
  Fiber& fiber = *Vm::of(L).running();
  if (fiber.cancelled() != OpStop::none && !fiber.shielded()) return refuse_wait(L, fiber);
  fiber.emplace<S>(std::forward<Arguments>(arguments)...);
  return lua_yieldk(L, 0, context, next);
}

/// What the wait has returned: >= 0, or a negated errno.
inline int wait_result(lua_State* L) { return Vm::of(L).running()->finish_wait(L); }

/// Pushes the failure of a wait.
int push_wait_errno(lua_State* L, int error, const char* name = nullptr);

/// One operation; its result is the wait's.
struct ResultWait : OpWait {
  ResultWait(OpCode op_code, int descriptor, const OpArgs& arguments) : OpWait(op_code, descriptor, kNever) {
    args = arguments;
    finish = [](Suspension& self, lua_State*) { return static_cast<int>(static_cast<ResultWait&>(self).outcome()); };
  }
};

/// Waits until `target` bytes of the file have been written.
struct FlushWait : Park, OutputWaiter {
  FlushWait(IoFile& file, std::uint64_t bytes);
  ~FlushWait();
};

// -- output before another program's --------------------------------------------------------------------------------

inline int after_writing(lua_State* L, IoFile& file, lua_KFunction next) {
  if (file.writing()) return wait_and<FlushWait>(L, next, 0, file, file.appended_total());
  return next(L, LUA_OK, 0);
}

template <lua_KFunction next>
int after_errors(lua_State* L, int status, lua_KContext) {
  if (status == LUA_YIELD) (void)wait_result(L);
  return after_writing(L, *Vm::of(L).io().err, next);
}

/// What the program has written so far comes first, also where another program's output goes to the same place. Calls
/// `next` then, which begins with wait_result if it was waited for. REQUIRES: can_wait.
template <lua_KFunction next>
int after_output(lua_State* L) {
  IoFiles& files = Vm::of(L).io();
  files.start_writing();
  return after_writing(L, *files.out, after_errors<next>);
}

}  // namespace evlua::lua
