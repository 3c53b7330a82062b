// Work that takes long, and that many may have to do at once, as TLS handshakes and compressing are: a few of them,
// then everything else that is ready has its turn.
//
// A station's, whose worker calls run().
#pragma once

#include <coroutine>
#include <cstdint>

#include "core/event.h"
#include "core/intrusive.h"
#include "core/lockfree/futex_mutex.h"
#include "core/runnable.h"
#include "core/task.h"
#include "core/time.h"
#include "core/worker.h"

namespace evlua::http {

class Pace {
 public:
  /// Whose work it is.
  enum class Of : std::uint8_t {
    worker,      ///< its own tasks': they go on right there, and at once when it is their turn already
    any_thread,  ///< they wait in any case, and go on by their own executors
  };

  /// `in_a_row`: so many in a turn of the worker's loop.
  Pace(Worker& worker, Of of, std::uint32_t in_a_row) noexcept : worker_(worker), of_(of), in_a_row_(in_a_row) {}
  Pace(const Pace&) = delete;
  Pace& operator=(const Pace&) = delete;

  class Turn;
  /// Lets those go on who wait, until it is cancelled. Nobody must wait any more then.
  Task<void> run();

 private:
  bool may_go_on() noexcept;
  Turn* next() noexcept;

  Worker& worker_;
  const Of of_;
  const std::uint32_t in_a_row_;
  Instant since_ = 0;        // the loop's turn that is counted
  std::uint32_t count_ = 0;  // in it
  Event some_wait_;
  FutexMutex lock_;
  List<Turn> waiting_;  // under lock_
};

/// Name it, then `co_await` it: the caller goes on when it is its turn, in the order of asking.
class Pace::Turn : public ListNode, private Runnable {
 public:
  explicit Turn(Pace& pace) noexcept : pace_(pace) {}
  bool await_ready() const noexcept { return pace_.of_ == Of::worker && pace_.waiting_.empty() && pace_.may_go_on(); }
  template <class Awaiting>
  void await_suspend(std::coroutine_handle<Awaiting> awaiting) noexcept {
    handle_ = awaiting;
    home_ = awaiting.promise().context.home;
    run = [](Runnable& self) noexcept { static_cast<Turn&>(self).handle_.resume(); };
    wait();
  }
  void await_resume() const noexcept {}

 private:
  friend class Pace;
  void wait() noexcept;

  Pace& pace_;
  std::coroutine_handle<> handle_;
  Executor* home_ = nullptr;
};

}  // namespace evlua::http
