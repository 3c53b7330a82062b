// Opening a FIFO waits for the other side. The kernel's first try is non-blocking, though, and takes what it gets (seen
// on 6.18): a reader is opened at once, and then reads an end of file that is none; a writer fails with ENXIO. Having
// every open made by a kernel thread would cost 27 us instead of 3, so we look at what came out.
//
// A writer is simply opened again by a kernel thread, which blocks.
//
// A reader keeps the descriptor it got: a writer that comes meanwhile must not lose its reader and get EPIPE. A kernel
// thread opens the FIFO once more, blocking, which ends when a writer is there; and since a writer may have come and
// gone before that thread began, the first descriptor is polled as well: it tells of bytes, and of a writer that has
// left. Whichever comes first, the first descriptor is the result. The op has its result when both requests are over.
//
// Such threads are taken from those that serve files, so they get at most half of them: the others wait in a queue.
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "backends/uring/backend.h"
#include "backends/uring/op_state.h"
#include "backends/uring/prep.h"

namespace evlua {

using namespace uring;

namespace {

bool is_fifo(int fd) noexcept {
  // Asked cheaply first; files that can seek are by far the most.
  if (::lseek(fd, 0, SEEK_CUR) >= 0 || errno != ESPIPE) return false;
  struct stat status {};
  return ::fstat(fd, &status) == 0 && S_ISFIFO(status.st_mode);
}

}  // namespace

bool UringBackend::settle_open(Op& op, std::int32_t& result) noexcept {
  clear_special(op, kCheckOpened);
  const int flags = op.args.open.flags;
  if ((flags & (O_NONBLOCK | O_DIRECTORY | O_PATH)) != 0) return true;
  const bool reader = result >= 0 && (flags & O_ACCMODE) == O_RDONLY && is_fifo(result);
  const bool writer = result == -ENXIO && (flags & O_ACCMODE) == O_WRONLY;
  if (!reader && !writer) return true;
  if (is_stopped(op)) {
    if (reader) ::close(result);
    result = -ECANCELED;
    return true;
  }
  if (reader) {
    op.res = result;
    set_special(op, kFifoReader);
  } else {
    set_special(op, kForceThread);
  }
  await_other_end(op);
  return false;
}

void UringBackend::await_other_end(Op& op) noexcept {
  if (fifo_threads_ < kFileThreadsMax / 2) {
    ++fifo_threads_;
    start_again(op);
  } else {
    set_place(op, kInFifoQueue);
    fifo_queue_.push_back(op);
  }
}

void UringBackend::other_end_ended() noexcept {
  --fifo_threads_;
  if (closing_) return;
  if (Op* next = fifo_queue_.pop_front()) await_other_end(*next);
}

void UringBackend::leave_fifo_queue(Op& op) noexcept {
  fifo_queue_.remove(op);
  if ((special(op) & kFifoReader) != 0) ::close(op.res);
  clear_special(op, kFifoReader | kForceThread);
  finish_later(op, -ECANCELED);
}

bool UringBackend::fill_fifo_entries(Op& op) noexcept {
  if (ring_.room() < 2) return false;
  io_uring_sqe* open = ring_.next_sqe();
  prepare(*open, op);
  open->flags |= IOSQE_ASYNC;
  open->user_data = user_data_of(op, kTagOp);
  io_uring_sqe* poll = ring_.next_sqe();
  prepare_poll(*poll, op.res, POLLIN);
  poll->user_data = user_data_of(op, kTagReady);
  set_special(op, kThreadOpens | kHeldPolled);
  return true;
}

bool UringBackend::settle_fifo(Op& op, unsigned ended, std::int32_t& result) noexcept {
  clear_special(op, ended);
  if (result >= 0) {
    if (ended == kThreadOpens) ::close(result);
    set_special(op, kWriterCame);
  }
  const bool came = (special(op) & kWriterCame) != 0;
  if ((special(op) & (kThreadOpens | kHeldPolled)) != 0) {
    // Should the open fail by itself (somebody unlinked the path), the poll goes on alone.
    if (came && !is_stopped(op)) {
      op.backend_state |= kCancelAsked;
      ask_kernel_to_cancel(op);
    }
    return false;
  }
  other_end_ended();
  if (came) {
    result = op.res;
  } else {
    ::close(op.res);
    if (is_stopped(op)) result = -ECANCELED;
  }
  return true;
}

}  // namespace evlua
