// An open file as evlua.fs gives it to Lua.
#pragma once

#include <lua.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "fs/file.h"

namespace evlua::lua {

/// Bytes read from the system and not yet handed out. Taking is from the front and moves nothing.
class ReadAhead {
 public:
  std::string_view view() const noexcept { return {bytes_.data() + taken_, kept_ - taken_}; }
  void take(std::size_t size) noexcept { taken_ += size; }
  void clear() noexcept {
    bytes_.clear();
    taken_ = kept_ = 0;
  }

  /// In front of what is to be taken next.
  void put_back(std::string_view bytes) {
    bytes_.replace(0, taken_, bytes);
    kept_ = kept_ - taken_ + bytes.size();
    taken_ = 0;
  }

  /// Room for `size` more, valid until the next call of anything but `view`; then `keep` says how many came.
  char* grow(std::size_t size) {
    bytes_.erase(0, taken_);
    kept_ -= taken_;
    taken_ = 0;
    bytes_.resize(kept_ + size);
    return bytes_.data() + kept_;
  }
  void keep(std::size_t size) {
    kept_ += size;
    bytes_.resize(kept_);
  }

 private:
  std::string bytes_;
  std::size_t taken_ = 0;  // from the front
  std::size_t kept_ = 0;   // the end of what came
};

/// An open file as Lua sees it: a position, and what was read ahead for lines.
struct FileHandle {
  fs::File file;
  std::int64_t position = 0;  // of the next byte to read from the system; -1: cannot seek
  ReadAhead ahead;            // bytes before `position`
  int in_use = 0;             // operations in flight; the descriptor stays open until they have ended
  bool in_sequence = false;   // one of them moves the position; a second one would find it anywhere
  bool closed = false;

  FileHandle() = default;
  FileHandle(const FileHandle&) = delete;
  FileHandle& operator=(const FileHandle&) = delete;

  std::int64_t tell() const noexcept { return position - static_cast<std::int64_t>(ahead.view().size()); }
  /// What was read ahead may have changed. What came from a pipe cannot be read again, and stays.
  void drop_ahead() noexcept {
    if (position < 0) return;
    position = tell();
    ahead.clear();
  }
};

enum class FileUse : std::uint8_t { anywhere, in_sequence };

/// Keeps the descriptor open while an operation runs, and the position to one operation.
class FileInUse {
 public:
  explicit FileInUse(FileHandle& handle, FileUse use = FileUse::anywhere) noexcept : handle_(handle), use_(use) {
    ++handle_.in_use;
    if (use_ == FileUse::in_sequence) handle_.in_sequence = true;
  }
  FileInUse(const FileInUse&) = delete;
  FileInUse& operator=(const FileInUse&) = delete;
  ~FileInUse() {
    if (use_ == FileUse::in_sequence) handle_.in_sequence = false;
    if (--handle_.in_use == 0 && handle_.closed) handle_.file = fs::File();
  }

 private:
  FileHandle& handle_;
  FileUse use_;
};

/// Pushes the failure of a write that is no multiple of what a `direct` file takes; returns 3.
int push_unaligned(lua_State* L, const FileHandle& handle, std::size_t size, std::int64_t offset);

/// Pushes the failure of a file that is closed, or whose position another task is using; the caller returns 3.
bool refuse_file(lua_State* L, const FileHandle& handle, FileUse use);

/// The file at index 1, open or closed; raises for other values.
FileHandle& check_file_handle(lua_State* L);
/// The file at `index`, open or closed; null when it is none.
FileHandle* to_file_handle(lua_State* L, int index);

// Methods, see lib_file.cpp.
int file_read(lua_State* L);
int file_read_at(lua_State* L);
int file_lines(lua_State* L);
int file_chunks(lua_State* L);
int file_lock(lua_State* L);
int file_unlock(lua_State* L);
int file_allocate(lua_State* L);

}  // namespace evlua::lua
