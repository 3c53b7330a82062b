#include "lua/transfer.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "core/worker.h"

namespace evlua::lua {

namespace {

constexpr std::size_t kSplicePiece = std::size_t{1} << 20;
constexpr std::size_t kCopyPiece = 65536;

bool is_regular(int fd) noexcept {
  struct stat info {};
  return ::fstat(fd, &info) == 0 && S_ISREG(info.st_mode);
}

/// Whether the kernel may be asked.
bool can_splice(const TransferEnd& end, bool is_target) noexcept {
  if (end.stream != nullptr) return true;
  if (end.file->file.is_direct() || (is_target && end.file->file.appends())) return false;
  return end.file->position >= 0 && is_regular(end.fd());
}

bool cannot_splice(const Error& error) noexcept { return error.is(EINVAL) || error.is(EOPNOTSUPP) || error.is(ENOSYS); }

}  // namespace

// -- the course of it -----------------------------------------------------------------------------------------------

Result<void> Transfer::hold() {
  if (from_.stream != nullptr) {
    const Result<void> held = from_.stream->hold_reading(op_);
    if (!held) return held;
  } else {
    from_in_use_.emplace(*from_.file, FileUse::in_sequence);
  }
  if (to_.stream != nullptr) {
    const Result<void> held = to_.stream->hold_writing(op_);
    if (!held && from_.stream != nullptr) from_.stream->release_reading();
    return held;
  }
  to_in_use_.emplace(*to_.file, to_.file->position < 0 ? FileUse::anywhere : FileUse::in_sequence);
  to_.file->drop_ahead();
  if (block() > 1 && from_.file != nullptr) from_.file->drop_ahead();
  return {};
}

Task<Transferred> Transfer::run() {
  Transferred outcome;
  const Result<void> held = hold();
  if (!held) {
    outcome.error = held.error();
    co_return outcome;
  }
  splices_ = can_splice(from_, false) && can_splice(to_, true);
  const Result<void> worked = co_await work();
  if (pipe_.is_open()) pipe_.give_back();
  if (from_.stream != nullptr) from_.stream->release_reading();
  if (to_.stream != nullptr) to_.stream->release_writing();
  outcome.bytes = moved_;
  outcome.unaligned = unaligned_;
  if (!worked) outcome.error = worked.error();
  co_return outcome;
}

Task<Result<void>> Transfer::work() {
  Result<void> outcome;
  if (block() == 1) outcome = co_await write_buffered();
  while (outcome && left_ > 0 && !ended_) {
    if (from_.stream != nullptr && from_.stream->at_end()) break;
    if (splices_) {
      outcome = co_await splice_piece();
    } else {
      outcome = co_await copy_piece();
    }
    // Where both ends are always ready, no operation ever waits for its deadline.
    const bool goes_on = outcome && left_ > 0 && !ended_;
    if (goes_on && Worker::current().now() >= deadline_) {
      outcome = fail(ETIMEDOUT, from_.stream != nullptr ? OpCode::recv : OpCode::read);
    }
  }
  co_return outcome;
}

/// What has been received or read ahead goes first.
Task<Result<void>> Transfer::write_buffered() {
  while (left_ > 0) {
    const std::string_view there = buffered(next_size(kCopyPiece));
    if (there.empty()) break;
    std::size_t written = 0;
    const Result<void> wrote = co_await write_all(there, written);
    drop_buffered(written);
    if (!wrote) co_return wrote;
  }
  co_return Result<void>();
}

std::string_view Transfer::buffered(std::size_t most) const noexcept {
  return from_.stream != nullptr ? from_.stream->peek_buffered(most) : from_.file->ahead.view().substr(0, most);
}

void Transfer::drop_buffered(std::size_t size) {
  if (from_.stream != nullptr) {
    from_.stream->drop_buffered(size);
  } else {
    from_.file->ahead.take(size);
  }
}

std::size_t Transfer::next_size(std::size_t most) const noexcept {
  return static_cast<std::size_t>(std::min<std::uint64_t>(most, left_));
}

void Transfer::note_written(std::size_t size) noexcept {
  moved_ += size;
  left_ -= size;
  if (to_.file == nullptr || to_.file->position < 0) return;
  if (to_.file->file.appends()) {
    to_.file->position = ::lseek(to_.fd(), 0, SEEK_CUR);
  } else {
    to_.file->position += static_cast<std::int64_t>(size);
  }
}

/// What was read from a stream, or from a file that cannot be read twice.
void Transfer::put_back(std::string_view bytes) {
  if (from_.stream != nullptr) {
    from_.stream->put_back(bytes);
  } else if (from_.file->position < 0) {
    from_.file->ahead.put_back(bytes);
  }
}

// -- operations -----------------------------------------------------------------------------------------------------

/// One operation in `op_`, so that whoever closes one of the ends finds it.
Task<Result<std::size_t>> Transfer::carry_out(OpCode code, int fd, OpArgs args, OpCode what) {
  if (is_interrupted()) co_return fail(ECANCELED, what);
  op_.code = code;
  op_.fd = fd;
  op_.args = args;
  op_.deadline = deadline_;
  const Result<std::int32_t> got = co_await op_;
  // What has been done counts, also when an end is being closed.
  if (!got) co_return fail(is_interrupted() ? ECANCELED : got.error().code, what);
  co_return static_cast<std::size_t>(*got);
}

Task<Result<void>> Transfer::wait_until(std::uint32_t events, const TransferEnd& end, OpCode what) {
  const OpArgs args{.poll = {events}};
  const Result<std::size_t> ready = co_await carry_out(OpCode::poll, end.fd(), args, what);
  if (!ready) co_return fail(ready.error());
  co_return Result<void>();
}

// -- through the kernel ---------------------------------------------------------------------------------------------

Task<Result<void>> Transfer::splice_piece() {
  if (from_.stream != nullptr) {
    const Result<void> ready = co_await wait_until(POLLIN, from_, OpCode::recv);
    if (!ready) co_return ready;
  }
  if (!pipe_.is_open() && !pipe_.take()) {
    splices_ = false;  // no descriptors are left, or no memory for pipes
    co_return Result<void>();
  }
  const Result<std::size_t> got = co_await fill_pipe(next_size(kSplicePiece));
  if (!got) {
    pipe_.close();
    if (got.error().is(EAGAIN)) co_return Result<void>();  // somebody else was quicker
    if (!cannot_splice(got.error())) co_return fail(got.error());
    splices_ = false;
    co_return Result<void>();
  }
  if (*got == 0) {
    ended_ = true;
    if (from_.stream != nullptr) from_.stream->note_end();
    co_return Result<void>();
  }
  const Result<void> emptied = co_await empty_pipe(*got);
  if (pipe_.is_open()) pipe_.give_back();
  co_return emptied;
}

Task<Result<std::size_t>> Transfer::fill_pipe(std::size_t most) {
  if (from_.stream != nullptr) co_return pipe_.fill_from(from_.fd(), most);
  OpArgs args{};
  args.splice = {pipe_.write_end(), static_cast<std::uint32_t>(most), from_.file->position, false};
  const Result<std::size_t> got = co_await carry_out(OpCode::splice, from_.fd(), args, OpCode::read);
  co_return got;
}

/// Writes the `size` bytes that are in the pipe; after a failure they are where they came from.
Task<Result<void>> Transfer::empty_pipe(std::size_t size) {
  while (size > 0) {
    const Result<std::size_t> sent = co_await drain_pipe(size);
    if (!sent && cannot_splice(sent.error())) {
      splices_ = false;
      const Result<void> copied = co_await copy_out_of_pipe(size);
      co_return copied;
    }
    if (!sent || *sent == 0) {
      take_back(size);
      co_return fail(sent ? Error{EIO, ErrorDomain::system, OpCode::write} : sent.error());
    }
    size -= *sent;
    note_written(*sent);
    if (from_.file != nullptr) from_.file->position += static_cast<std::int64_t>(*sent);
  }
  co_return Result<void>();
}

/// Some of what is in the pipe; waits until `to` takes it.
Task<Result<std::size_t>> Transfer::drain_pipe(std::size_t most) {
  if (to_.stream == nullptr) {
    OpArgs args{};
    args.splice = {pipe_.read_end(), static_cast<std::uint32_t>(most), to_.file->position, true};
    const Result<std::size_t> wrote = co_await carry_out(OpCode::splice, to_.fd(), args, OpCode::write);
    co_return wrote;
  }
  while (true) {
    const Result<std::size_t> sent = pipe_.drain_to(to_.fd(), most);
    if (sent || !sent.error().is(EAGAIN)) co_return sent;
    const Result<void> ready = co_await wait_until(POLLOUT, to_, OpCode::send);
    if (!ready) co_return fail(ready.error());
  }
}

/// The bytes of a pipe that `to` cannot be given by the kernel.
Task<Result<void>> Transfer::copy_out_of_pipe(std::size_t size) {
  std::vector<char> bytes(size);
  const Result<std::size_t> got = pipe_.read(bytes.data(), size);
  if (!got) {
    pipe_.close();
    co_return fail(got.error());
  }
  const std::string_view all(bytes.data(), *got);
  std::size_t written = 0;
  const Result<void> wrote = co_await write_all(all, written);
  if (from_.file != nullptr) from_.file->position += static_cast<std::int64_t>(written);
  put_back(all.substr(written));
  co_return wrote;
}

void Transfer::take_back(std::size_t size) {
  std::vector<char> bytes(size);
  std::size_t taken = 0;
  while (taken < size) {
    const Result<std::size_t> got = pipe_.read(bytes.data() + taken, size - taken);
    if (!got || *got == 0) break;
    taken += *got;
  }
  if (taken < size) pipe_.close();
  put_back({bytes.data(), taken});
}

// -- through a buffer -----------------------------------------------------------------------------------------------

Task<Result<void>> Transfer::copy_piece() {
  buffer_.resize(kCopyPiece);
  const Result<std::size_t> got = co_await gather();
  if (!got) co_return fail(got.error());
  const std::string_view piece(buffer_.data(), *got);
  const auto unit = static_cast<std::int64_t>(block());
  const bool fits = unit == 1 || to_.file->position % unit == 0;
  const std::size_t whole = fits ? piece.size() / block() * block() : 0;
  std::size_t written = 0;
  const Result<void> wrote = co_await write_all(piece.substr(0, whole), written);
  if (from_.file != nullptr && from_.file->position >= 0) {
    from_.file->position += static_cast<std::int64_t>(written);
  }
  put_back(piece.substr(written));
  if (!wrote || whole == piece.size()) co_return wrote;
  unaligned_ = piece.size() - whole;
  co_return fail(EINVAL, OpCode::write);
}

/// Some bytes into `buffer_`: whole blocks, unless `from` ends before. None: it has ended.
Task<Result<std::size_t>> Transfer::gather() {
  const std::size_t most = next_size(kCopyPiece);
  std::size_t there = 0;
  do {
    const Result<std::size_t> got = co_await read_piece(there, most - there);
    if (!got) {
      put_back({buffer_.data(), there});
      co_return fail(got.error());
    }
    ended_ = *got == 0;
    if (ended_) break;
    there += *got;
  } while (there < most && there % block() != 0);
  if (ended_ && from_.stream != nullptr) from_.stream->note_end();
  co_return there;
}

/// To `at` in the buffer.
Task<Result<std::size_t>> Transfer::read_piece(std::size_t at, std::size_t most) {
  char* const data = buffer_.data() + at;
  if (const std::string_view there = buffered(most); !there.empty()) {
    const std::size_t size = there.size();
    std::copy(there.begin(), there.end(), data);
    drop_buffered(size);
    co_return size;
  }
  const bool has_position = from_.file != nullptr && from_.file->position >= 0;
  const std::int64_t offset = has_position ? from_.file->position + static_cast<std::int64_t>(at) : -1;
  if (from_.file != nullptr && from_.file->file.is_direct()) {
    const Result<std::size_t> read = co_await from_.file->file.read_at(data, most, offset, deadline_);
    co_return read;
  }
  const bool is_socket = from_.stream != nullptr && !from_.stream->is_pipe();
  OpArgs args{};
  if (is_socket) {
    args.recv = {data, static_cast<std::uint32_t>(most), 0, false};
  } else {
    args.read = {data, static_cast<std::uint32_t>(most), offset};
  }
  const OpCode code = is_socket ? OpCode::recv : OpCode::read;
  const Result<std::size_t> got = co_await carry_out(code, from_.fd(), args, code);
  co_return got;
}

/// Adds to `written` as it goes.
Task<Result<void>> Transfer::write_all(std::string_view bytes, std::size_t& written) {
  while (!bytes.empty()) {
    const Result<std::size_t> wrote = co_await write_some(bytes);
    if (!wrote) co_return fail(wrote.error());
    if (*wrote == 0) co_return fail(EIO, OpCode::write);
    written += *wrote;
    note_written(*wrote);
    bytes.remove_prefix(*wrote);
  }
  co_return Result<void>();
}

Task<Result<std::size_t>> Transfer::write_some(std::string_view bytes) {
  if (to_.file != nullptr && to_.file->file.is_direct()) {
    const Result<void> written = co_await to_.file->file.write_at(bytes, to_.file->position, deadline_);
    if (!written) co_return fail(written.error());
    co_return bytes.size();
  }
  const auto size = static_cast<std::uint32_t>(bytes.size());
  const bool is_socket = to_.stream != nullptr && !to_.stream->is_pipe();
  OpArgs args{};
  if (is_socket) {
    args.send = {bytes.data(), size, 0};
  } else {
    const bool has_position = to_.file != nullptr && !to_.file->file.appends();
    args.write = {bytes.data(), size, has_position ? to_.file->position : -1};
  }
  const OpCode code = is_socket ? OpCode::send : OpCode::write;
  const Result<std::size_t> wrote = co_await carry_out(code, to_.fd(), args, code);
  co_return wrote;
}

}  // namespace evlua::lua
