#include "lua/io_file.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <ctime>
#include <limits>
#include <mutex>

#include "core/blocking.h"
#include "core/io_await.h"
#include "core/worker.h"
#include "fs/write_here.h"
#include "lua/vm.h"

namespace evlua::lua {

namespace {

constexpr std::size_t kFirstRead = 4096;
constexpr std::size_t kReadMax = 1024 * 1024;
constexpr std::size_t kPipePiece = 4096;

/// Blocks until all is written; 0, or the errno.
int write_blocking(int fd, std::string_view bytes) noexcept {
  while (!bytes.empty()) {
    const ssize_t wrote = ::write(fd, bytes.data(), bytes.size());
    if (wrote >= 0) {
      bytes.remove_prefix(static_cast<std::size_t>(wrote));
    } else if (errno == EAGAIN) {
      pollfd writable{fd, POLLOUT, 0};
      (void)::poll(&writable, 1, -1);
    } else if (errno != EINTR) {
      return errno;
    }
  }
  return 0;
}

}  // namespace

void let_go(int fd) noexcept {
  Worker* worker = Worker::current_or_null();
  if (worker != nullptr) {
    worker->close_later(fd);
  } else {
    (void)::close(fd);
  }
}

void release_stream(std::FILE* stream) noexcept {
  if (stream == nullptr) return;
  (void)std::fflush(stream);
  stream->_fileno = -1;  // the descriptor is closed by an operation, which may wait
  (void)std::fclose(stream);
}

// -- input ----------------------------------------------------------------------------------------------------------

InputBuffer::~InputBuffer() { std::free(data_); }

char* InputBuffer::grow() noexcept {
  const std::size_t there = end_ - begin_;
  if (there == 0) {
    clear();
  } else if (begin_ > capacity_ / 2) {
    std::copy(data_ + begin_, data_ + end_, data_);
    begin_ = 0;
    end_ = there;
  }
  // As much again as there is, so that what is long takes few steps.
  const std::size_t wanted = std::clamp(std::max(there, capacity_), kFirstRead, kReadMax);
  if (capacity_ < IoFile::kBufferBytes || room() < std::min(wanted, IoFile::kBufferBytes)) {
    const std::size_t larger = std::max(capacity_ == 0 ? kFirstRead : std::min(capacity_ * 2, IoFile::kBufferBytes),
                                        there == 0 ? 0 : end_ + wanted);
    if (larger > capacity_) {
      void* moved = std::realloc(data_, larger);
      if (moved == nullptr) return nullptr;
      data_ = static_cast<char*>(moved);
      capacity_ = larger;
    }
  }
  return data_ + end_;
}

// -- files ----------------------------------------------------------------------------------------------------------

IoFile::IoFile(IoFiles& all, int descriptor, bool can_read, bool can_write)
    : files(all), fd(descriptor), readable(can_read), writable(can_write) {
  ended_.file = this;
  ended_.run = [](Runnable& self) noexcept { static_cast<Ended&>(self).file->writer_ended(); };
  seekable = fd >= 0 && ::lseek(fd, 0, SEEK_CUR) >= 0;
  files.files_.push_back(*this);
}

IoFile::~IoFile() {
  EVLUA_CHECK(!writing_);
  if (files.out == this) files.out = nullptr;
  if (files.err == this) files.err = nullptr;
  List<IoFile>::erase(*this);
}

// -- output ---------------------------------------------------------------------------------------------------------

void IoFile::appended(std::size_t size, bool has_newline) {
  if (size == 0) return;
  if (buffering == Buffering::full && pending_.size() < buffer_bytes) return;
  if (buffering == Buffering::line && !has_newline && pending_.size() < buffer_bytes) return;
  start_writing();
}

void IoFile::start_writing() {
  if (writing_ || pending_.empty() || fd < 0) return;
  if (files.blocks_ || Worker::current_or_null() == nullptr) return write_now();
  if (files.out == this && files.err != nullptr && files.err->writing_) {
    starts_after_ = true;
    return;
  }
  writing_ = true;
  ++files.busy_;
  writer_ = write_out();
  writer_.start(TaskContext{&files.home_, nullptr, kNever}, ended_);
}

void IoFile::look_who_shares() noexcept {
  struct stat info {};
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags >= 0 && (flags & O_APPEND) == 0 && ::fstat(fd, &info) == 0) shared_position = S_ISREG(info.st_mode);
}

Task<std::int32_t> IoFile::write_piece(std::string_view bytes) {
  if (shared_position) {
    // write(2) moves the position that others use under a lock; io_uring does not.
    const int descriptor = fd;
    auto call = blocking(Worker::current().pool(), [descriptor, bytes] {
      const ssize_t wrote = ::write(descriptor, bytes.data(), bytes.size());
      return wrote < 0 ? -errno : static_cast<std::int32_t>(wrote);
    });
    const std::optional<std::int32_t> wrote = co_await call;
    co_return wrote.value_or(-ECANCELED);
  }
  const Result<std::int32_t> wrote = co_await fs::write_here(fd, bytes);
  co_return wrote ? *wrote : -wrote.error().code;
}

/// 0, or the errno.
Task<int> IoFile::write_flight() {
  constexpr std::size_t kPieceMax = 1U << 30;
  while (flown_ < flight_.size()) {
    const std::string_view rest = std::string_view(flight_).substr(flown_, kPieceMax);
    std::int32_t wrote = co_await write_piece(rest);
    if (wrote == -EAGAIN) {  // somebody has made it non-blocking
      IoAwait ready(OpCode::poll, fd, OpArgs{.poll = {POLLOUT}});
      (void)co_await ready;
      continue;
    }
    if (wrote == -EINTR) continue;
    if (wrote == 0) wrote = -EIO;
    if (wrote < 0) co_return -wrote;
    flown_ += static_cast<std::size_t>(wrote);
  }
  co_return 0;
}

Task<int> IoFile::write_flight_to(SharedScreen& screen) {
  if (!screen.try_take()) {
    auto call = blocking(Worker::current().pool(), [&screen] {
      screen.take();
      return true;
    });
    (void)co_await call;
  }
  const int error = co_await write_flight();
  screen.give_back(flight_.back());
  co_return error;
}

Task<void> IoFile::write_out() {
  const bool is_shared = files.screen != nullptr && standard && ::isatty(fd) == 1;
  while (!pending_.empty()) {
    flight_.swap(pending_);
    pending_.clear();
    flown_ = 0;
    int error = 0;
    if (is_shared) {
      error = co_await write_flight_to(*files.screen);
    } else {
      error = co_await write_flight();
    }
    if (error != 0) {
      write_failed(error);
      co_return;
    }
    written_ += flight_.size();
    flight_.clear();
    if (flight_.capacity() > kBehindMax) flight_.shrink_to_fit();
    tell_waiters(false);
  }
}

/// As stdio: what could not be written is lost, and the next flush, write or close tells of it.
void IoFile::write_failed(int error) {
  error_ = error;
  written_ += flight_.size() + pending_.size();
  flight_.clear();
  pending_.clear();
  if (error == EPIPE && files.out == this && files.on_broken_output != nullptr) files.on_broken_output();
}

void IoFile::writer_ended() {
  writer_ = Task<void>();
  writing_ = false;
  tell_waiters(true);
  if (files.err == this && files.out != nullptr && std::exchange(files.out->starts_after_, false)) {
    files.out->start_writing();
  }
  --files.busy_;
}

void IoFile::tell_waiters(bool all) {
  output_waiters.for_each([&](OutputWaiter& waiter) {
    if (!all && written_ < waiter.target) return;
    List<OutputWaiter>::erase(waiter);
    waiter.settled(waiter);
  });
}

void IoFile::drop_output(std::size_t size) noexcept {
  written_ += size;
  pending_.erase(0, size);
}

/// A piece that fits into a pipe that is ready for writing does not block.
void IoFile::write_ready() noexcept {
  while (!pending_.empty() && error_ == 0) {
    pollfd ready{fd, POLLOUT, 0};
    if (::poll(&ready, 1, 0) <= 0) return;
    const std::size_t piece = std::min(pending_.size(), kPipePiece);
    error_ = write_blocking(fd, std::string_view(pending_).substr(0, piece));
    drop_output(piece);
  }
}

void IoFile::write_now() noexcept {
  if (starts_after_) files.err->write_now();
  while (writing_) files.look_for_ended(20 * kMicrosecond);
  if (pending_.empty() || error_ != 0 || fd < 0) return;
  error_ = write_blocking(fd, pending_);
  drop_output(pending_.size());
}

// -- all of them ----------------------------------------------------------------------------------------------------

IoFiles::IoFiles(Vm& vm) : vm_(vm), home_(*this, vm.strand()) {}

IoFiles::~IoFiles() {
  EVLUA_CHECK(busy_ == 0);
  while (IoFile* file = files_.front()) delete file;
}

IoFiles::Home::Home(IoFiles& owner, Strand& strand) noexcept
    : Runnable([](Runnable& self) noexcept {
        auto& home = static_cast<Home&>(self);
        {
          const std::lock_guard guard(home.lock_);
          home.scheduled_ = false;
        }
        (void)home.run_now();
        home.owner_.vm_.look_whether_idle();  // nothing after this: the VM may be gone
      }),
      owner_(owner),
      strand_(strand) {}

void IoFiles::Home::enqueue(Runnable& work) noexcept {
  bool first = false;
  {
    const std::lock_guard guard(lock_);
    queue_.push_back(work);
    first = !std::exchange(scheduled_, true);
  }
  if (first) strand_.enqueue(*this);
}

bool IoFiles::Home::run_now() noexcept {
  Queue<Runnable> taken;
  {
    const std::lock_guard guard(lock_);
    taken = std::move(queue_);
  }
  const bool any = !taken.empty();
  while (Runnable* work = taken.pop_front()) work->run(*work);
  return any;
}

bool IoFiles::Home::scheduled() noexcept {
  const std::lock_guard guard(lock_);
  return scheduled_;
}

void IoFiles::start_writing() {
  files_.for_each([](IoFile& file) { file.start_writing(); });
}

/// REQUIRES: no walk through the files goes on. What looks for ended writes may end files.
bool IoFiles::any_writing() noexcept {
  bool any = false;
  files_.for_each([&any](const IoFile& file) { any = any || file.writing_; });
  return any;
}

void IoFiles::write_now() noexcept {
  while (any_writing()) look_for_ended(20 * kMicrosecond);
  files_.for_each([](IoFile& file) {
    file.write_now();
    if (!file.standard || !file.seekable || file.input.view().empty()) return;
    (void)::lseek(file.fd, -static_cast<off_t>(file.input.view().size()), SEEK_CUR);
    file.input.clear();
  });
}

void IoFiles::write_briefly() noexcept {
  constexpr Duration kMoment = 200 * kMillisecond;
  const Instant until = monotonic_now() + kMoment;
  while (any_writing() && monotonic_now() < until) look_for_ended(20 * kMicrosecond);
  files_.for_each([](IoFile& file) {
    if (!file.writing_) file.write_ready();
  });
}

/// Runs what has come home; if nothing has, lets the backend look, and waits for a while.
void IoFiles::look_for_ended(Duration pause) noexcept {
  if (home_.run_now()) return;
  Worker* worker = Worker::current_or_null();
  if (worker != nullptr) worker->offer_work();
  if (home_.run_now()) return;
  const timespec time{0, static_cast<long>(pause)};
  ::nanosleep(&time, nullptr);
}

void IoFiles::block() noexcept {
  bool done = Worker::current_or_null() == nullptr;  // the scheduler has ended, and all that was in flight before
  blocks_ = done;
  while (!done) {
    const bool entered = vm_.strand().try_run([&] {
      if (!quiet()) look_for_ended(20 * kMicrosecond);
      blocks_ = done = quiet();
    });
    if (!entered) ::sched_yield();
  }
}

/// Settled when the file's writer has ended.
class IoFile::AllWritten final : private OutputWaiter, private Runnable {
 public:
  explicit AllWritten(IoFile& file) noexcept : file_(file) {
    target = std::numeric_limits<std::uint64_t>::max();
    settled = [](OutputWaiter& self) noexcept {
      auto& wait = static_cast<AllWritten&>(self);
      wait.file_.files.home().enqueue(wait);
    };
    run = [](Runnable& self) noexcept { static_cast<AllWritten&>(self).handle_.resume(); };
  }
  bool await_ready() const noexcept { return !file_.writing_; }
  void await_suspend(std::coroutine_handle<> awaiting) noexcept {
    handle_ = awaiting;
    file_.output_waiters.push_back(*this);
  }
  void await_resume() const noexcept {}

 private:
  IoFile& file_;
  std::coroutine_handle<> handle_;
};

struct IoFiles::Detached : Runnable {
  explicit Detached(IoFiles& all, Task<void> work) : files(all), task(std::move(work)) {
    run = [](Runnable& self) noexcept {
      auto* ended = static_cast<Detached*>(&self);
      --ended->files.busy_;
      delete ended;
    };
  }
  IoFiles& files;
  Task<void> task;
};

Task<void> IoFiles::end_of(IoFile& file) {
  file.start_writing();
  IoFile::AllWritten written(file);
  co_await written;
  const int fd = file.fd;
  const int child_fd = file.child_fd;
  const pid_t child = file.child;
  delete &file;
  if (fd >= 0) {
    IoAwait closing(OpCode::close, fd);
    (void)co_await closing;
  }
  if (child_fd >= 0) {
    IoAwait ended(OpCode::poll, child_fd, OpArgs{.poll = {POLLIN}});
    (void)co_await ended;
    (void)::waitpid(child, nullptr, 0);
    IoAwait closing(OpCode::close, child_fd);
    (void)co_await closing;
  }
}

void IoFiles::abandon(IoFile& file) {
  file.closed = true;
  release_stream(std::exchange(file.stream, nullptr));
  if (!blocks_ && Worker::current_or_null() != nullptr) {
    ++busy_;
    auto* job = new Detached(*this, end_of(file));
    job->task.start(TaskContext{&home_, nullptr, kNever}, *job);
    return;
  }
  file.write_now();
  if (file.fd >= 0) let_go(file.fd);
  if (file.child_fd >= 0) {
    let_go(file.child_fd);
    if (Worker* worker = Worker::current_or_null())
      worker->offer_work();  // the child may wait for the end of its input
    (void)::waitpid(file.child, nullptr, 0);
  }
  delete &file;
}

}  // namespace evlua::lua
