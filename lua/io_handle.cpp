#include "lua/io_handle.h"

#include <cerrno>
#include <cstring>

namespace evlua::lua {

namespace {

const char kTag = 0;

/// In a handle that is open; C modules look whether there is one, nobody calls it.
int close_from_c(lua_State* L) { return luaL_error(L, "this file is closed by its method 'close'"); }

}  // namespace

IoHandle* check_handle(lua_State* L, int index) {
  auto* handle = static_cast<IoHandle*>(luaL_checkudata(L, index, LUA_FILEHANDLE));
  if (lua_rawlen(L, index) != sizeof(IoHandle) || handle->tag != &kTag) return nullptr;
  return handle;
}

IoFile& open_file_of(lua_State* L, const IoHandle& handle) {
  if (handle.stream.closef == nullptr) luaL_error(L, "attempt to use a closed file");
  return *handle.file;
}

void push_closed_handle(lua_State* L) {
  *static_cast<IoHandle*>(lua_newuserdata(L, sizeof(IoHandle))) = {{nullptr, nullptr}, &kTag, nullptr};
  luaL_setmetatable(L, LUA_FILEHANDLE);
}

IoFile& open_handle(lua_State* L, int fd, const char* mode) {
  IoHandle& handle = handle_at(L, -1);
  const bool update = std::strchr(mode, '+') != nullptr;
  handle.file = new IoFile(Vm::of(L).io(), fd, update || *mode == 'r', update || *mode != 'r');
  handle.stream.closef = close_from_c;
  return *handle.file;
}

void open_stream(lua_State* L, IoFile& file, const char* mode) {
  file.stream = ::fdopen(file.fd, mode);
  handle_at(L, -1).stream.f = file.stream;
}

int push_errno(lua_State* L, int error, const char* name) {
  errno = error;
  return luaL_fileresult(L, 0, name);
}

int push_wait_errno(lua_State* L, int error, const char* name) {
  const Fiber* fiber = Vm::of(L).running();
  if (error == ECANCELED && fiber != nullptr && fiber->cancelled() != OpStop::none && !fiber->shielded()) {
    return push_wait_failure(L, Error{ECANCELED, ErrorDomain::system, OpCode::task}, name);
  }
  return push_errno(L, error, name);
}

FlushWait::FlushWait(IoFile& file, std::uint64_t bytes) : Park(kNever) {
  target = bytes;
  settled = [](OutputWaiter& self) noexcept { static_cast<FlushWait&>(self).wake(); };
  finish = [](Suspension& self, lua_State*) {
    auto& wait = static_cast<FlushWait&>(self);
    if (wait.linked()) List<OutputWaiter>::erase(wait);
    return wait.woken() ? 0 : -ECANCELED;
  };
  file.output_waiters.push_back(*this);
}

FlushWait::~FlushWait() {
  if (linked()) List<OutputWaiter>::erase(*this);
}

}  // namespace evlua::lua
