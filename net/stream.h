// A buffered stream over a socket or one end of a pipe: one way of reading, parametrised, and writing.
//
// Used from one strand or one chain of tasks at a time: no locks. One reader and one writer may wait at once; a second
// of either kind gets EBUSY. An idle stream holds no buffer: receives lease one when data is there, and what is left
// over is kept only as long as there is something left over.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "core/event.h"
#include "core/op.h"
#include "core/task.h"
#include "net/socket.h"

namespace evlua::net {

struct ReadRequest {
  enum class Kind {
    some,     ///< what is there, at least 1 and at most `count` bytes
    exactly,  ///< `count` bytes
    until,    ///< up to `delimiter`, at most `count` bytes in all
    line,     ///< up to "\n"; the last line may lack it
    all,      ///< everything to the end of the stream, at most `count` bytes
  };
  Kind kind = Kind::some;
  std::size_t count = 0;
  std::string_view delimiter;   ///< for until; stays valid until the read ends
  bool keep_delimiter = false;  ///< it is part of the result
};

class Stream {
 public:
  enum class Kind : std::uint8_t { socket, pipe };

  explicit Stream(Socket socket, Kind kind = Kind::socket) noexcept : socket_(std::move(socket)), kind_(kind) {}
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  /// Answers from what is buffered: true, with bytes or an error in `out`. The bytes stay valid until the next read.
  bool try_read(const ReadRequest& request, Result<std::string_view>& out);

  /// Waits for it. Errc::end_of_file when the stream ends before there is anything (for `exactly` and `until`: before
  /// there is enough; what has come stays readable). Errc::too_large when `count` bytes hold no delimiter. A deadline
  /// or cancellation loses nothing.
  Task<Result<std::string_view>> read(ReadRequest request, Instant deadline = kNever);

  /// Writes all of `bytes`, which must stay valid until the task ends.
  Task<Result<void>> write(std::string_view bytes, Instant deadline = kNever);

  // -- the same by steps, for a caller that runs the operations itself ----------------------------------------------

  /// A read that try_read left open begins: `op` is to be submitted. It stays where it is until the read has ended.
  void begin_read(Op& op);
  /// Takes the result of `op`. True: the read has ended, with `out`; false: submit `op` again.
  bool advance_read(Op& op, const ReadRequest& request, Result<std::string_view>& out);
  /// Likewise. With an error, no write has begun.
  Result<void> begin_write(Op& op, std::string_view bytes) noexcept;
  /// `bytes` is what is left to be written.
  bool advance_write(Op& op, std::string_view& bytes, Result<void>& out) noexcept;

  // -- for one who moves the bytes by other means -------------------------------------------------------------------

  /// The caller reads from now on: others get EBUSY, and close cancels `op`, then waits for release_reading.
  Result<void> hold_reading(Op& op) noexcept;
  void release_reading() noexcept;
  /// Likewise.
  Result<void> hold_writing(Op& op) noexcept;
  void release_writing() noexcept;
  /// What is buffered, at most `count` bytes, which are taken by `drop_buffered`.
  std::string_view peek_buffered(std::size_t count) const noexcept { return pending().substr(0, count); }
  void drop_buffered(std::size_t size);
  /// Puts bytes in front of what is to be read next.
  void put_back(std::string_view bytes);
  /// The peer has ended the stream.
  void note_end() noexcept { ended_ = true; }
  /// Somebody reads from it.
  bool is_read() const noexcept { return reader_busy_; }
  bool at_end() const noexcept { return ended_ && buffered() == 0; }

  /// SHUT_RD, SHUT_WR or SHUT_RDWR. A pipe has one direction; ending that closes it.
  Task<Result<void>> shutdown(int how);

  /// Ends reads and writes in progress with ECANCELED, waits for them, closes. Calling it again does nothing.
  Task<void> close();

  bool is_open() const noexcept { return socket_.is_open() && !closing_; }
  const Socket& socket() const noexcept { return socket_; }
  bool is_pipe() const noexcept { return kind_ == Kind::pipe; }
  /// A read would not have to wait: there are bytes, or the end, or it would fail. What the kernel has does not count.
  bool readable() const noexcept { return !is_open() || reader_busy_ || buffered() > 0 || ended_; }
  /// Bytes received and not yet read.
  std::size_t buffered() const noexcept { return buffer_ == nullptr ? 0 : buffer_->bytes.size() - buffer_->begin; }

 private:
  struct Buffer {
    std::string bytes;
    std::size_t begin = 0;     // of what has not been read
    std::size_t searched = 0;  // no delimiter begins before this offset from `begin`
  };

  std::string_view pending() const noexcept;
  std::string_view consume(std::size_t size, std::size_t drop = 0);
  void drop_consumed() noexcept;
  bool satisfy(const ReadRequest& request, Result<std::string_view>& out);
  bool satisfy_delimited(const ReadRequest& request, std::string_view delimiter, Result<std::string_view>& out);
  void prepare_receive(Op& op);
  /// The result of a receive goes into the buffer, or ends the stream.
  Result<void> take_received(Op& op);
  void keep(std::string_view received);
  void prepare_send(Op& op, std::string_view bytes) noexcept;
  bool has_direction(int how) const noexcept;
  void leave(bool& busy) noexcept;

  Socket socket_;
  const Kind kind_;
  std::unique_ptr<Buffer> buffer_;
  std::unique_ptr<char[]> piece_;  // of a pipe: what is being read into
  Op* reading_ = nullptr;
  Op* writing_ = nullptr;
  bool reader_busy_ = false;
  bool writer_busy_ = false;
  bool closing_ = false;
  bool ended_ = false;         // the peer will send nothing more
  Event* all_left_ = nullptr;  // close waits on it
};

}  // namespace evlua::net
