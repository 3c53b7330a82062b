// A pipe of the kernel through which bytes go from one descriptor to another without being copied.
//
// It is taken when there are bytes to move and given back when they have gone on: who waits for bytes holds none.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "core/error.h"

namespace evlua::net {

class SplicePipe {
 public:
  SplicePipe() = default;
  SplicePipe(const SplicePipe&) = delete;
  SplicePipe& operator=(const SplicePipe&) = delete;
  ~SplicePipe() { close(); }

  /// An empty pipe: one of this thread's spare ones, or a new one.
  Result<void> take() noexcept;
  /// To the spare ones of this thread. REQUIRES: it is empty.
  void give_back() noexcept;
  /// For good, with what is in it.
  void close() noexcept;
  bool is_open() const noexcept { return read_end_ >= 0; }

  int read_end() const noexcept { return read_end_; }
  int write_end() const noexcept { return write_end_; }

  /// From or to a socket or another pipe, without waiting: EAGAIN. Not for files, which may make the thread wait.
  Result<std::size_t> fill_from(int fd, std::size_t size) const noexcept;
  Result<std::size_t> drain_to(int fd, std::size_t size) const noexcept;
  /// Takes bytes out of it.
  Result<std::size_t> read(char* to, std::size_t size) const noexcept;

 private:
  int read_end_ = -1;
  int write_end_ = -1;
};

}  // namespace evlua::net
