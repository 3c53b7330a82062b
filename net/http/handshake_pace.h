// TLS handshakes take long, and many may come at once: a few of them, then everything else that is ready has its turn.
//
// For its worker only.
#pragma once

#include <coroutine>
#include <cstdint>

#include "core/event.h"
#include "core/intrusive.h"
#include "core/task.h"
#include "core/time.h"
#include "core/worker.h"

namespace evlua::http {

class HandshakePace {
 public:
  static constexpr std::uint32_t kInARow = 4;

  explicit HandshakePace(Worker& worker) noexcept : worker_(worker) {}
  HandshakePace(const HandshakePace&) = delete;
  HandshakePace& operator=(const HandshakePace&) = delete;

  class Turn;
  /// `co_await` returns when it is the caller's turn to work on a handshake: at once, or in the order of asking.
  Turn turn() noexcept;
  /// Lets those go on who wait, until it is cancelled. Nobody must wait any more then.
  Task<void> run();

 private:
  bool may_go_on() noexcept;

  Worker& worker_;
  Event some_wait_;
  List<Turn> waiting_;
  Instant since_ = 0;           // the loop's turn that is counted
  std::uint32_t in_a_row_ = 0;  // in it
};

class HandshakePace::Turn : public ListNode {
 public:
  explicit Turn(HandshakePace& pace) noexcept : pace_(pace) {}
  bool await_ready() const noexcept { return pace_.waiting_.empty() && pace_.may_go_on(); }
  void await_suspend(std::coroutine_handle<> waiting) noexcept {
    handle_ = waiting;
    pace_.waiting_.push_back(*this);
    pace_.some_wait_.set();
  }
  void await_resume() const noexcept {}

 private:
  friend class HandshakePace;
  HandshakePace& pace_;
  std::coroutine_handle<> handle_;
};

inline HandshakePace::Turn HandshakePace::turn() noexcept { return Turn(*this); }

}  // namespace evlua::http
