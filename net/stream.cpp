#include "net/stream.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "core/check.h"
#include "core/io_await.h"
#include "core/worker.h"

namespace evlua::net {

namespace {

constexpr std::uint32_t kWritePiece = 1U << 30;
constexpr std::uint32_t kPipePiece = 65536;  // what a pipe holds

}  // namespace

std::string_view Stream::pending() const noexcept {
  if (buffer_ == nullptr) return {};
  return std::string_view(buffer_->bytes).substr(buffer_->begin);
}

/// The next `size` bytes, and `drop` more that nobody sees. The view lives until the next read.
std::string_view Stream::consume(std::size_t size, std::size_t drop) {
  const std::string_view taken = pending().substr(0, size);
  if (buffer_ != nullptr) {
    buffer_->begin += size + drop;
    buffer_->searched = 0;
  }
  return taken;
}

/// Called before the next read looks at the buffer: views handed out before are dead now.
void Stream::drop_consumed() noexcept {
  if (buffer_ == nullptr) return;
  if (buffer_->begin == buffer_->bytes.size()) {
    buffer_.reset();
  } else if (buffer_->begin > 65536 && buffer_->begin > buffer_->bytes.size() / 2) {
    buffer_->bytes.erase(0, buffer_->begin);
    buffer_->begin = 0;
  }
}

bool Stream::satisfy_delimited(const ReadRequest& request, std::string_view delimiter, Result<std::string_view>& out) {
  const std::string_view have = pending();
  const std::size_t from = buffer_ == nullptr ? 0 : std::min(buffer_->searched, have.size());
  const std::size_t at = have.find(delimiter, from);
  const std::size_t needed = at == std::string_view::npos ? have.size() : at + delimiter.size();
  if (at != std::string_view::npos && needed <= request.count) {
    out = request.keep_delimiter ? consume(needed) : consume(at, delimiter.size());
    return true;
  }
  if (needed > request.count || have.size() >= request.count) {
    out = fail(Errc::too_large, OpCode::recv);
    return true;
  }
  if (ended_) {
    const bool last_line = request.kind == ReadRequest::Kind::line && !have.empty();
    if (last_line) {
      out = consume(have.size());
    } else {
      out = fail(Errc::end_of_file, OpCode::recv);
    }
    return true;
  }
  if (buffer_ != nullptr) buffer_->searched = have.size() - std::min(have.size(), delimiter.size() - 1);
  return false;
}

bool Stream::satisfy(const ReadRequest& request, Result<std::string_view>& out) {
  const std::size_t have = buffered();
  switch (request.kind) {
    case ReadRequest::Kind::some:
      if (have == 0) break;
      out = consume(std::min(have, request.count));
      return true;
    case ReadRequest::Kind::exactly:
      if (have < request.count) break;
      out = consume(request.count);
      return true;
    case ReadRequest::Kind::until: return satisfy_delimited(request, request.delimiter, out);
    case ReadRequest::Kind::line: return satisfy_delimited(request, "\n", out);
    case ReadRequest::Kind::all:
      if (have > request.count) {
        out = fail(Errc::too_large, OpCode::recv);
        return true;
      }
      if (!ended_) return false;
      out = consume(have);
      return true;
  }
  if (!ended_) return false;
  out = fail(Errc::end_of_file, OpCode::recv);
  return true;
}

bool Stream::try_read(const ReadRequest& request, Result<std::string_view>& out) {
  if (!is_open()) {
    out = fail(EBADF, OpCode::recv);
    return true;
  }
  if (reader_busy_) {
    out = fail(EBUSY, OpCode::recv);
    return true;
  }
  drop_consumed();
  if (buffer_ != nullptr) buffer_->searched = 0;  // an earlier read may have looked for something else
  return satisfy(request, out);
}

void Stream::leave(bool& busy) noexcept {
  busy = false;
  if (all_left_ != nullptr && !reader_busy_ && !writer_busy_) all_left_->set();
}

void Stream::begin_read(Op& op) {
  EVLUA_DCHECK(!reader_busy_);
  reader_busy_ = true;
  reading_ = &op;
  prepare_receive(op);
}

void Stream::prepare_receive(Op& op) {
  if (kind_ == Kind::socket) {
    op.args.recv = {nullptr, 0, 0, false};
    return;
  }
  if (piece_ == nullptr) piece_.reset(new char[kPipePiece]);
  op.code = OpCode::read;
  op.args.read = {piece_.get(), kPipePiece, -1};
}

Result<void> Stream::take_received(Op& op) {
  if (kind_ == Kind::pipe) {
    const std::int32_t got = op.outcome();
    if (closing_) return fail(ECANCELED, OpCode::read);
    if (got < 0) return fail(-got, OpCode::read);
    keep({piece_.get(), static_cast<std::size_t>(got)});
    return {};
  }
  const Result<Lease> received = received_by(op);
  if (closing_) return fail(ECANCELED, OpCode::recv);
  if (!received) return fail(received.error());
  keep({received->chars(), received->size()});
  return {};
}

/// Nothing is the end.
void Stream::keep(std::string_view received) {
  if (received.empty()) {
    ended_ = true;
    return;
  }
  if (buffer_ == nullptr) buffer_ = std::make_unique<Buffer>();
  buffer_->bytes.append(received);
}

bool Stream::advance_read(Op& op, const ReadRequest& request, Result<std::string_view>& out) {
  bool answered = true;
  if (const Result<void> received = take_received(op); !received) {
    out = fail(received.error());
  } else {
    answered = satisfy(request, out);
  }
  if (answered) {
    reading_ = nullptr;
    piece_.reset();
    leave(reader_busy_);
  } else {
    prepare_receive(op);
  }
  return answered;
}

Task<Result<std::string_view>> Stream::read(ReadRequest request, Instant deadline) {
  Result<std::string_view> out = std::string_view();
  if (try_read(request, out)) co_return out;
  IoAwait op(OpCode::recv, socket_.fd(), deadline);
  begin_read(op);
  bool ended = false;
  while (!ended) {
    (void)co_await op;
    ended = advance_read(op, request, out);
  }
  co_return out;
}

Result<void> Stream::begin_write(Op& op, std::string_view bytes) noexcept {
  if (!is_open()) return fail(EBADF, OpCode::send);
  if (writer_busy_) return fail(EBUSY, OpCode::send);
  writer_busy_ = true;
  writing_ = &op;
  prepare_send(op, bytes);
  return {};
}

void Stream::prepare_send(Op& op, std::string_view bytes) noexcept {
  const auto piece = static_cast<std::uint32_t>(std::min<std::size_t>(bytes.size(), kWritePiece));
  if (kind_ == Kind::socket) {
    op.args.send = {bytes.data(), piece, 0};
    return;
  }
  op.code = OpCode::write;
  op.args.write = {bytes.data(), piece, -1};
}

bool Stream::advance_write(Op& op, std::string_view& bytes, Result<void>& out) noexcept {
  const std::int32_t sent = op.outcome();
  if (closing_) {
    out = fail(ECANCELED, op.code);
  } else if (sent < 0) {
    out = fail(-sent, op.code);
  } else {
    bytes.remove_prefix(static_cast<std::size_t>(sent));
    if (!bytes.empty()) {
      prepare_send(op, bytes);
      return false;
    }
    out = {};
  }
  writing_ = nullptr;
  leave(writer_busy_);
  return true;
}

Task<Result<void>> Stream::write(std::string_view bytes, Instant deadline) {
  IoAwait op(OpCode::send, socket_.fd(), deadline);
  Result<void> out = begin_write(op, bytes);
  bool ended = !out.has_value();
  while (!ended) {
    (void)co_await op;
    ended = advance_write(op, bytes, out);
  }
  co_return out;
}

Result<void> Stream::hold_reading(Op& op) noexcept {
  if (!is_open()) return fail(EBADF, OpCode::recv);
  if (reader_busy_) return fail(EBUSY, OpCode::recv);
  reader_busy_ = true;
  reading_ = &op;
  return {};
}

void Stream::release_reading() noexcept {
  reading_ = nullptr;
  leave(reader_busy_);
}

Result<void> Stream::hold_writing(Op& op) noexcept {
  if (!is_open()) return fail(EBADF, OpCode::send);
  if (writer_busy_) return fail(EBUSY, OpCode::send);
  writer_busy_ = true;
  writing_ = &op;
  return {};
}

void Stream::release_writing() noexcept {
  writing_ = nullptr;
  leave(writer_busy_);
}

void Stream::drop_buffered(std::size_t size) {
  (void)consume(size);
  drop_consumed();
}

void Stream::put_back(std::string_view bytes) {
  if (bytes.empty()) return;
  if (buffer_ == nullptr) buffer_ = std::make_unique<Buffer>();
  buffer_->bytes.replace(0, buffer_->begin, bytes);
  buffer_->begin = 0;
  buffer_->searched = 0;
}

bool Stream::has_direction(int how) const noexcept {
  const int mode = ::fcntl(socket_.fd(), F_GETFL) & O_ACCMODE;
  return how == SHUT_RDWR || (how == SHUT_WR ? mode == O_WRONLY : mode == O_RDONLY);
}

Task<Result<void>> Stream::shutdown(int how) {
  if (!is_open()) co_return fail(EBADF, OpCode::shutdown);
  if (kind_ == Kind::pipe) {
    if (!has_direction(how)) co_return fail(EBADF, OpCode::shutdown);
    TaskContext& context = co_await current_context();
    context.cancel = nullptr;  // a close cannot be refused
    context.deadline = kNever;
    co_await close();
    co_return Result<void>();
  }
  const Result<std::int32_t> done = co_await io::shutdown(socket_.fd(), how);
  if (!done) co_return fail(done.error());
  co_return Result<void>();
}

Task<void> Stream::close() {
  if (!is_open()) co_return;
  closing_ = true;
  if (reader_busy_ || writer_busy_) {
    Event left;
    all_left_ = &left;
    if (reading_ != nullptr) Worker::cancel(*reading_);
    if (writing_ != nullptr) Worker::cancel(*writing_);
    (void)co_await left.wait();
    all_left_ = nullptr;
  }
  buffer_.reset();
  piece_.reset();
  const int fd = socket_.release();
  (void)co_await io::close(fd);
}

}  // namespace evlua::net
