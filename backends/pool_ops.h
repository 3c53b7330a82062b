// Operations that a backend cannot give to the kernel asynchronously: carried out on the blocking pool.
//
// Owner thread only. The end of a call comes home as a message through BackendHost::post and is delivered by `collect`.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/backend.h"
#include "core/blocking_pool.h"

namespace evlua {

class PoolOps {
 public:
  PoolOps();
  /// As stop.
  ~PoolOps();

  void start(BackendHost& host) noexcept { host_ = &host; }

  /// For good: cancels what runs and waits until its threads have left, which may still wake the backend; closes what
  /// was to be closed. When nothing is in flight the pool may be gone already.
  void stop() noexcept;

  /// Takes `op`; until it is delivered `op.backend_data` is ours. Opens of FIFOs, and what else `may_hang`, are of the
  /// pool's slow class.
  void submit(Op& op, bool may_hang = false) noexcept;

  /// A queued call ends with ECANCELED; one that runs is interrupted, again and again (see keep_interrupting). A close
  /// is not to be stopped: it runs on.
  void cancel(Op& op) noexcept;

  /// Moves what has ended to `ready`.
  void collect(ReadyList& ready) noexcept { ready.append(std::move(done_)); }
  bool has_done() const noexcept { return !done_.empty(); }

  /// An interrupt may miss a system call that has not begun yet. While this says true, call keep_interrupting every few
  /// milliseconds; it does nothing when called more often.
  bool interrupting() const noexcept { return interrupting_ != 0; }
  void keep_interrupting() noexcept;
  static constexpr Duration kInterruptEvery = 2 * kMillisecond;

  std::size_t in_flight() const noexcept { return in_flight_; }

 private:
  struct Record;

  Record& take_record();
  void give_to_pool(Record& record) noexcept;
  void end(Record& record) noexcept;

  BackendHost* host_ = nullptr;
  std::vector<std::unique_ptr<Record>> records_;
  std::vector<std::uint16_t> spare_;
  Queue<Op> backlog_;  // more operations than records can be numbered
  ReadyList done_;
  std::size_t in_flight_ = 0;
  std::size_t interrupting_ = 0;
  Instant interrupted_at_ = 0;
};

}  // namespace evlua
