#include "net/splice_pipe.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

namespace evlua::net {

namespace {

// As much as anybody may ask for. Where that is refused the usual 64 KiB have to do.
constexpr int kPipeBytes = 1 << 20;

struct Ends {
  int read_end;
  int write_end;
};

void close_ends(Ends ends) noexcept {
  ::close(ends.read_end);
  ::close(ends.write_end);
}

/// Empty pipes of one thread.
class Spares {
 public:
  ~Spares() {
    while (count_ > 0) close_ends(ends_[--count_]);
  }
  bool take(Ends& ends) noexcept {
    if (count_ == 0) return false;
    ends = ends_[--count_];
    return true;
  }
  bool keep(Ends ends) noexcept {
    if (count_ == ends_.size()) return false;
    ends_[count_++] = ends;
    return true;
  }

 private:
  std::array<Ends, 8> ends_{};
  std::size_t count_ = 0;
};

/// Never inlined: a coroutine may go on with another thread.
[[gnu::noinline]] Spares& spares() noexcept {
  static thread_local Spares here;
  return here;
}

/// Makes a descriptor non-blocking for one call. Sockets block where the backend wants it so.
class NonBlocking {
 public:
  explicit NonBlocking(int fd) noexcept : fd_(fd), flags_(::fcntl(fd, F_GETFL)) {
    if (changes()) ::fcntl(fd_, F_SETFL, flags_ | O_NONBLOCK);
  }
  NonBlocking(const NonBlocking&) = delete;
  NonBlocking& operator=(const NonBlocking&) = delete;
  ~NonBlocking() {
    const int error = errno;
    if (changes()) ::fcntl(fd_, F_SETFL, flags_);
    errno = error;
  }

 private:
  bool changes() const noexcept { return flags_ >= 0 && (flags_ & O_NONBLOCK) == 0; }

  int fd_;
  int flags_;
};

template <class Call>
Result<std::size_t> result_of(OpCode code, Call call) noexcept {
  while (true) {
    const ssize_t moved = call();
    if (moved >= 0) return static_cast<std::size_t>(moved);
    if (errno != EINTR) return fail(errno, code);
  }
}

}  // namespace

void SplicePipe::close() noexcept {
  if (is_open()) close_ends({std::exchange(read_end_, -1), std::exchange(write_end_, -1)});
}

Result<void> SplicePipe::take() noexcept {
  Ends ends{};
  if (!spares().take(ends)) {
    int made[2];
    if (::pipe2(made, O_CLOEXEC | O_NONBLOCK) != 0) return fail(errno, OpCode::splice);
    ends = {made[0], made[1]};
    (void)::fcntl(ends.write_end, F_SETPIPE_SZ, kPipeBytes);
  }
  read_end_ = ends.read_end;
  write_end_ = ends.write_end;
  return {};
}

void SplicePipe::give_back() noexcept {
  const Ends ends{std::exchange(read_end_, -1), std::exchange(write_end_, -1)};
  if (!spares().keep(ends)) close_ends(ends);
}

Result<std::size_t> SplicePipe::fill_from(int fd, std::size_t size) const noexcept {
  const NonBlocking now(fd);
  return result_of(OpCode::recv,
                   [&] { return ::splice(fd, nullptr, write_end_, nullptr, size, SPLICE_F_NONBLOCK | SPLICE_F_MOVE); });
}

Result<std::size_t> SplicePipe::drain_to(int fd, std::size_t size) const noexcept {
  const NonBlocking now(fd);
  return result_of(OpCode::send,
                   [&] { return ::splice(read_end_, nullptr, fd, nullptr, size, SPLICE_F_NONBLOCK | SPLICE_F_MOVE); });
}

Result<std::size_t> SplicePipe::read(char* to, std::size_t size) const noexcept {
  return result_of(OpCode::read, [&] { return ::read(read_end_, to, size); });
}

}  // namespace evlua::net
