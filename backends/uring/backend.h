// The io_uring backend: one ring per worker, operations as submission entries, the operation's address as user_data.
//
// Owner thread only (the one that called `start`), except `wake`. An operation in flight is in one place, and its
// backend_state says which: in the kernel (or in an entry the kernel takes at the next entering), waiting in the
// kernel for readiness before another try, in the backlog, in the blocking pool, or done and not yet delivered.
//
// The destructor cancels what is in flight, waits for the kernel to let go of it and closes descriptors nobody will
// take; it must run on the owner thread unless nothing is in flight.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>

#include "backends/pool_ops.h"
#include "backends/uring/ahead.h"
#include "backends/uring/buf_ring.h"
#include "backends/uring/drained.h"
#include "backends/uring/features.h"
#include "backends/uring/ring.h"
#include "core/backend.h"

namespace evlua {

class UringBackend final : public Backend {
 public:
  struct Options {
    Ring::Sizes ring;
    UringFeatures allowed;  ///< what may be used of what the kernel has
    std::uint16_t buffers_max = BufferSource::kBufferCount;
  };

  /// For tests and statistics. [owner]
  struct Counters {
    std::uint64_t enters = 0;         ///< system calls that handed over, reaped or slept
    std::uint64_t heap_receives = 0;  ///< receives that found no buffer and got one from the heap
    std::uint64_t retries = 0;        ///< operations handed to the kernel again (EINTR, EAGAIN, no buffer, FIFO)
    std::uint64_t backlogged = 0;     ///< operations that found the submission queue full
  };

  UringBackend() noexcept : UringBackend(Options()) {}
  explicit UringBackend(const Options& options) noexcept;
  ~UringBackend() override;

  Result<void> start(BackendHost& host) override;
  void submit(Op& op) noexcept override;
  void cancel(Op& op) noexcept override;
  void poll(ReadyList& ready) noexcept override;
  void wait(ReadyList& ready, Instant deadline) noexcept override;
  void wake(Backend* from) noexcept override;
  bool has_work() const noexcept override;
  std::size_t in_flight() const noexcept override { return in_flight_; }
  BufferSource& buffers() noexcept override { return buffers_; }
  Capabilities capabilities() const noexcept override { return {"io_uring", false}; }

  Counters counters() const noexcept;
  const UringFeatures& features() const noexcept { return features_; }

 private:
  // backend.cpp
  void enter_or_queue(Op& op) noexcept;
  bool fill_entry(Op& op) noexcept;
  bool fill_cancel(const Op& op) noexcept;
  void ask_kernel_to_cancel(Op& op) noexcept;
  void start_again(Op& op) noexcept;
  bool has_waiting() const noexcept;
  void hand_over_waiting() noexcept;
  void finish_later(Op& op, std::int32_t result) noexcept;
  void take_done(ReadyList& ready) noexcept;
  void before_entering(ReadyList& ready) noexcept;
  void reap(ReadyList& ready) noexcept;
  void deliver(Op& op, std::int32_t result, ReadyList& ready) noexcept;
  void hand_out(Op& op, std::int32_t result, ReadyList& ready) noexcept;
  void take_buffer(Op& op, std::int32_t result, std::uint32_t flags) noexcept;
  void drain() noexcept;

  // settle.cpp: false means that the op goes on and has no result yet
  bool settle(Op& op, std::int32_t& result) noexcept;
  bool settle_failure(Op& op, std::int32_t& result) noexcept;
  bool settle_readiness(Op& op, std::int32_t& result) noexcept;
  bool is_stopped(const Op& op) const noexcept;
  bool prepare_buffer(Op& op) noexcept;
  bool use_heap(Op& op) noexcept;
  bool may_wait_first(const Op& op) const noexcept;

  // fifo.cpp: likewise
  bool settle_open(Op& op, std::int32_t& result) noexcept;
  void await_other_end(Op& op) noexcept;
  void other_end_ended() noexcept;
  void leave_fifo_queue(Op& op) noexcept;
  bool fill_fifo_entries(Op& op) noexcept;
  bool settle_fifo(Op& op, unsigned ended, std::int32_t& result) noexcept;

  // ahead.cpp
  void submit_ahead(Op& op) noexcept;
  void submit_rest(Op& op) noexcept;
  bool arm_ahead(Op& op) noexcept;
  void stop_ahead(uring::AheadReceiver& receiver) noexcept;
  void cancel_ahead(Op& op) noexcept;
  void give_up_ahead(int fd) noexcept;
  void end_ahead(uring::AheadReceiver& receiver) noexcept;
  void on_ahead(uring::AheadReceiver& receiver, const io_uring_cqe& cqe, ReadyList& ready) noexcept;
  void receive_once(Op& op, std::int32_t result, ReadyList& ready) noexcept;
  void store_ahead(uring::AheadReceiver& receiver, std::uint16_t buffer, std::uint32_t size) noexcept;
  void hand_over_stored(uring::AheadReceiver& receiver, Op& op) noexcept;
  static bool holds_result(const uring::AheadReceiver& receiver) noexcept;

  // wake.cpp
  bool send_wake(int peer_fd) noexcept;
  void on_message(std::uint64_t user_data, std::int32_t result, ReadyList& ready) noexcept;
  void arm_event_fd() noexcept;

  // Hot: submit and reap touch these.
  Ring ring_;
  std::size_t in_flight_ = 0;
  Queue<Op> backlog_;  // found the submission queue full; oldest first
  Queue<Op> cancels_;  // in the kernel, and the ask to cancel found the submission queue full
  Queue<Op> done_;     // ended without a completion: cancelled in the backlog
  Queue<Op> fifo_queue_;
  uring::AheadTable ahead_;
  List<uring::AheadReceiver> ahead_stops_;  // the ask to end found the submission queue full
  std::size_t ahead_armed_ = 0;
  unsigned fifo_threads_ = 0;  // kernel threads that wait for other ends of FIFOs
  bool woken_ = false;
  bool closing_ = false;
  bool event_fd_disarmed_ = false;

  BufRing buffers_;
  uring::DrainedSockets drained_;
  PoolOps pool_;  // what this kernel's io_uring lacks
  UringFeatures features_;
  Options options_;
  Counters counters_;
  int event_fd_ = -1;
  std::thread::id owner_;

  // Written by other threads.
  alignas(64) std::atomic<bool> wake_pending_{false};
  std::atomic<int> ring_fd_{-1};
};

/// A backend for a worker to start. Made on any thread.
std::unique_ptr<Backend> make_uring_backend();

}  // namespace evlua
