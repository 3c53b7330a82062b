// The door to the kernel. One backend per worker; the scheduler knows only this interface.
#pragma once

#include <sys/socket.h>

#include <functional>
#include <memory>
#include <string>

#include "core/buffer.h"
#include "core/error.h"
#include "core/intrusive.h"
#include "core/op.h"
#include "core/time.h"

namespace evlua {

class BlockingPool;

/// Operations whose result is in. The worker delivers them after the backend call returned.
using ReadyList = Queue<Op>;

struct Capabilities {
  const char* name = "";             ///< "io_uring", "libev", "sim"
  bool nonblocking_sockets = false;  ///< sockets must be made with SOCK_NONBLOCK
};

/// How a backend reaches back into its worker. [any thread]
class BackendHost {
 public:
  /// Runs `message` on the worker's thread, waking it if it sleeps.
  virtual void post(Runnable& message) noexcept = 0;
  /// Where blocking system calls go.
  virtual BlockingPool& pool() noexcept = 0;

 protected:
  ~BackendHost() = default;
};

/// Every method but `wake` is for the owner thread, the one that called `start`.
///
/// Contract: each submitted op appears exactly once in a ReadyList, with `res` set; never inside `submit` or
/// `cancel`. Ops on one descriptor and direction start in submission order; but when several must wait, any of them may
/// go on first (io_uring wakes the latest), so keep one in flight where order matters. A descriptor that the backend
/// has seen is closed by an op, with no other op in flight on it.
///
/// A `recv` with `ahead` says that the next one on that descriptor will come from here, too. The backend may then
/// receive before it is asked, and hands out in order. Until a `recv_rest` has ended (it waits for nothing, cannot be
/// cancelled, and brings what was received and not handed out, or 0), only such a recv may receive from there.
///
/// When the backend is full, ops wait in its backlog:
/// that is back-pressure, not an error.
class Backend {
 public:
  virtual ~Backend() = default;

  /// Called once on the worker's own thread, before anything else.
  virtual Result<void> start(BackendHost& host) = 0;

  /// Takes `op`. REQUIRES: it is not in flight here, and it and what it points to stay put until it is ready.
  virtual void submit(Op& op) noexcept = 0;

  /// Asks that `op` end soon; it still becomes ready exactly once, with -ECANCELED or with a result that won.
  /// REQUIRES: op was submitted here and is not ready yet. Asking twice is harmless.
  virtual void cancel(Op& op) noexcept = 0;

  /// Hands queued work to the kernel and reaps without waiting.
  virtual void poll(ReadyList& ready) noexcept = 0;

  /// As poll, but sleeps until something is ready, `deadline` passes, or wake is called.
  virtual void wait(ReadyList& ready, Instant deadline) noexcept = 0;

  /// Ends the owner's current or next wait. `from` is the calling worker's backend, or null. [any thread]
  virtual void wake(Backend* from) noexcept = 0;

  /// Cheap hint: is there something that poll would hand over or reap?
  virtual bool has_work() const noexcept = 0;

  /// Operations submitted and not yet ready.
  virtual std::size_t in_flight() const noexcept = 0;

  virtual BufferSource& buffers() noexcept = 0;
  virtual Capabilities capabilities() const noexcept = 0;

  /// shutdown(2), at once: what waits on the descriptor, here or elsewhere, ends. [any thread]
  virtual void shut_down(int fd, int how) noexcept { (void)::shutdown(fd, how); }

  /// The clock deadlines are measured on.
  virtual Instant now() noexcept { return monotonic_now(); }
};

/// Makes one backend per worker. Called on the thread that starts the scheduler.
using BackendFactory = std::function<std::unique_ptr<Backend>()>;

}  // namespace evlua
