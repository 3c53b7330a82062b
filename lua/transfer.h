// Moving bytes from one stream or file to another, for evlua.pipe.
//
// What the kernel can move goes through a pipe of it and is never copied: from a socket, a pipe or a regular file to
// another one of these. The rest (a FIFO or a terminal that was opened as a file, a file that is appended to, a file
// system that cannot) goes through a buffer.
//
// Nothing is lost: what was taken from a stream and could not be written is put back, in front of what comes next; the
// position of a file moves only past what was written.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string_view>
#include <vector>

#include "core/io_await.h"
#include "core/task.h"
#include "lua/file_handle.h"
#include "net/splice_pipe.h"
#include "net/stream.h"

namespace evlua::lua {

/// A stream or a file.
struct TransferEnd {
  net::Stream* stream = nullptr;
  FileHandle* file = nullptr;

  int fd() const noexcept { return stream != nullptr ? stream->socket().fd() : file->file.fd(); }
  bool is_open() const noexcept { return stream != nullptr ? stream->is_open() : !file->closed; }
};

struct Transferred {
  std::uint64_t bytes = 0;
  std::optional<Error> error;  ///< why it has ended before the end
  std::size_t unaligned = 0;   ///< EINVAL: so many bytes make no whole blocks for a `direct` file, and are put back
};

class Transfer {
 public:
  static constexpr std::uint64_t kNoLimit = std::numeric_limits<std::uint64_t>::max();

  Transfer(TransferEnd from, TransferEnd to, std::uint64_t count, Instant deadline)
      : from_(from), to_(to), left_(count), op_(OpCode::nop, -1, deadline), deadline_(deadline) {}

  /// Until the end of `from`, or `count` bytes. Meanwhile nobody else reads `from` or writes `to`; closing either ends
  /// it with ECANCELED. The ends must live until the task has ended.
  Task<Transferred> run();

 private:
  Result<void> hold();
  Task<Result<void>> work();
  Task<Result<void>> write_buffered();

  // Through the kernel.
  Task<Result<void>> splice_piece();
  Task<Result<std::size_t>> fill_pipe(std::size_t most);
  Task<Result<void>> empty_pipe(std::size_t size);
  Task<Result<std::size_t>> drain_pipe(std::size_t most);
  Task<Result<void>> copy_out_of_pipe(std::size_t size);
  void take_back(std::size_t size);

  // Through a buffer.
  Task<Result<void>> copy_piece();
  Task<Result<std::size_t>> gather();
  Task<Result<std::size_t>> read_piece(std::size_t at, std::size_t most);
  Task<Result<void>> write_all(std::string_view bytes, std::size_t& written);
  Task<Result<std::size_t>> write_some(std::string_view bytes);

  Task<Result<std::size_t>> carry_out(OpCode code, int fd, OpArgs args, OpCode what);
  Task<Result<void>> wait_until(std::uint32_t events, const TransferEnd& end, OpCode what);
  void note_written(std::size_t size) noexcept;
  void put_back(std::string_view bytes);
  std::string_view buffered(std::size_t most) const noexcept;
  void drop_buffered(std::size_t size);
  /// What `to` takes multiples of only.
  std::size_t block() const noexcept { return to_.file != nullptr ? to_.file->file.alignment() : 1; }
  /// Somebody is closing one of the ends, and waits for us.
  bool is_interrupted() const noexcept { return !from_.is_open() || !to_.is_open(); }
  std::size_t next_size(std::size_t most) const noexcept;

  const TransferEnd from_;
  const TransferEnd to_;
  std::uint64_t left_;
  std::uint64_t moved_ = 0;
  bool ended_ = false;
  std::size_t unaligned_ = 0;
  bool splices_ = true;
  IoAwait op_;  // whatever is in flight: what closing one of the streams ends
  const Instant deadline_;
  net::SplicePipe pipe_;
  std::vector<char> buffer_;
  std::optional<FileInUse> from_in_use_;
  std::optional<FileInUse> to_in_use_;
};

}  // namespace evlua::lua
