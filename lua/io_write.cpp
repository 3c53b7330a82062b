// Writing and flushing of the io library.
#include <unistd.h>

#include <cstdio>
#include <string_view>

#include "lua/io_handle.h"
#include "lua/stack.h"

namespace evlua::lua {

namespace {

int continue_write(lua_State* L, int, lua_KContext handle);

/// After the values are in the buffer: waits while the program is far ahead. The handle is on top.
int settle_write(lua_State* L, IoFile& file) {
  if (const int error = file.take_error(); error != 0) return push_errno(L, error);
  const std::uint64_t behind = file.appended_total() - file.written_total();
  // Others may read at once what was written to a file that is not buffered.
  const bool at_once = !file.standard && (file.buffering == IoFile::Buffering::none ||
                                          (file.buffering == IoFile::Buffering::line && file.writing()));
  const std::uint64_t allowed = at_once ? 0 : IoFile::kBehindMax;
  if (behind <= allowed) return 1;
  if (can_wait(L) && file.writing()) {
    return wait_and<FlushWait>(L, continue_write, lua_gettop(L), file, file.appended_total() - allowed / 2);
  }
  if (file.writing()) return 1;  // goes on when we have returned
  file.write_now();
  if (const int error = file.take_error(); error != 0) return push_errno(L, error);
  return 1;
}

int continue_write(lua_State* L, int, lua_KContext handle) {
  const int error = wait_result(L);
  if (error < 0) return push_wait_errno(L, -error);
  lua_settop(L, static_cast<int>(handle));
  const IoHandle& written = handle_at(L, -1);
  if (written.stream.closef == nullptr) return 1;
  return settle_write(L, *written.file);
}

struct Appended {
  std::size_t bytes = 0;
  bool has_newline = false;
};

void append_value(lua_State* L, int index, IoFile& file, Appended& sum) {
  if (lua_type(L, index) == LUA_TNUMBER) {
    char text[64];
    const int size = lua_isinteger(L, index) != 0
                         ? std::snprintf(text, sizeof text, LUA_INTEGER_FMT, lua_tointeger(L, index))
                         : std::snprintf(text, sizeof text, LUA_NUMBER_FMT, lua_tonumber(L, index));
    file.append({text, static_cast<std::size_t>(size)});
    sum.bytes += static_cast<std::size_t>(size);
    return;
  }
  const std::string_view bytes = check_bytes(L, index);
  file.append(bytes);
  sum.bytes += bytes.size();
  if (file.buffering == IoFile::Buffering::line && bytes.find('\n') != std::string_view::npos) sum.has_newline = true;
}

/// Writes the values from `first` to `last`. The handle is on top.
int append_values(lua_State* L, IoFile& file, int first, int last) {
  Appended sum;
  for (int index = first; index <= last; ++index) append_value(L, index, file, sum);
  file.appended(sum.bytes, sum.has_newline);
  return settle_write(L, file);
}

int continue_in_turn(lua_State* L, int, lua_KContext first) {
  const int error = wait_result(L);
  if (error < 0) return push_wait_errno(L, -error);
  return write_values(L, static_cast<int>(first));
}

int finish_flush(lua_State* L, IoFile& file) {
  const int error = file.take_error();
  if (error != 0) return push_errno(L, error);
  lua_pushboolean(L, 1);
  return 1;
}

int continue_flush(lua_State* L, int, lua_KContext) {
  const int error = wait_result(L);
  if (error < 0) return push_wait_errno(L, -error);
  const IoHandle& handle = handle_at(L, 1);
  if (handle.stream.closef == nullptr) {
    lua_pushboolean(L, 1);
    return 1;
  }
  return finish_flush(L, *handle.file);
}

}  // namespace

int write_values(lua_State* L, int first) {
  IoFile& file = open_file_of(L, handle_at(L, -1));
  if (!file.writable) {
    if (lua_gettop(L) == first) return 1;  // nothing to write
    return push_errno(L, EBADF);
  }
  IoFile* out = file.files.out;
  if (&file == file.files.err && out != nullptr && out->has_output()) {  // output and errors keep their order
    out->start_writing();
    if (out->writing() && can_wait(L)) {
      return wait_and<FlushWait>(L, continue_in_turn, first, *out, out->appended_total());
    }
  }
  if (!file.input.view().empty() && file.seekable && file.filling == nullptr) {  // where the program thinks it is
    (void)::lseek(file.fd, -static_cast<off_t>(file.input.view().size()), SEEK_CUR);
    file.input.clear();
  }
  return append_values(L, file, first, lua_gettop(L) - 1);
}

int flush_handle(lua_State* L) {
  IoFile& file = open_file_of(L, handle_at(L, 1));
  lua_settop(L, 1);
  if (file.stream != nullptr) (void)std::fflush(file.stream);
  file.start_writing();
  if (can_wait(L) && file.writing()) {
    return wait_and<FlushWait>(L, continue_flush, 0, file, file.appended_total());
  }
  file.write_now();
  return finish_flush(L, file);
}

}  // namespace evlua::lua
