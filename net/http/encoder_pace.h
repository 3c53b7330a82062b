// To compress a piece takes long, and many responses may be compressed at once: one piece, then everything else that is
// ready has its turn.
//
// A station's. Whoever compresses may be on any thread; run() is the worker's.
#pragma once

#include <coroutine>

#include "core/event.h"
#include "core/intrusive.h"
#include "core/lockfree/futex_mutex.h"
#include "core/runnable.h"
#include "core/task.h"
#include "core/worker.h"

namespace evlua::http {

class EncoderPace {
 public:
  explicit EncoderPace(Worker& worker) noexcept : worker_(worker) {}
  EncoderPace(const EncoderPace&) = delete;
  EncoderPace& operator=(const EncoderPace&) = delete;

  class Turn;
  /// Name it, then `co_await` it: the caller goes on, by its own executor, when it may compress a piece, in the order
  /// of asking. [any thread]
  Turn turn() noexcept;
  /// Lets those go on who wait, until it is cancelled. Nobody must wait any more then.
  Task<void> run();

 private:
  Turn* next() noexcept;

  Worker& worker_;
  Event some_wait_;
  FutexMutex lock_;
  List<Turn> waiting_;  // under lock_
};

class [[nodiscard]] EncoderPace::Turn : public ListNode, private Runnable {
 public:
  explicit Turn(EncoderPace& pace) noexcept : pace_(pace) {}
  bool await_ready() const noexcept { return false; }
  template <class Awaiting>
  void await_suspend(std::coroutine_handle<Awaiting> awaiting) noexcept {
    handle_ = awaiting;
    home_ = awaiting.promise().context.home;
    run = [](Runnable& self) noexcept { static_cast<Turn&>(self).handle_.resume(); };
    wait();
  }
  void await_resume() const noexcept {}

 private:
  friend class EncoderPace;
  void wait() noexcept;

  EncoderPace& pace_;
  std::coroutine_handle<> handle_;
  Executor* home_ = nullptr;
};

inline EncoderPace::Turn EncoderPace::turn() noexcept { return Turn(*this); }

}  // namespace evlua::http
