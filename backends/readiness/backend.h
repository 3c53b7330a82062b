// Completions over readiness: a system call is tried when an operation comes, and again when its descriptor is ready.
//
// Each descriptor has a queue of waiting operations per direction. A result found at once is delivered by the next
// poll, never inside submit. Partial results are results. What may block goes to the blocking pool: paths by the traits
// in core/opcode.h, reads and writes by the kind of descriptor; that is decided here and nowhere else. Only a read that
// the page cache can answer at once is made here even on a regular file.
//
// Watching is level-triggered, and a read direction stays watched between operations, since on a connection the next
// receive is sure to come: a request then costs no epoll_ctl. See descriptor_age.h for what keeps that memory true.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "backends/pool_ops.h"
#include "backends/readiness/poller.h"
#include "core/backend.h"

namespace evlua {

using PollerFactory = std::unique_ptr<Poller> (*)();

class ReadinessBackend final : public Backend, private Poller::Listener {
 public:
  ReadinessBackend(const char* name, PollerFactory make_poller);
  ~ReadinessBackend() override;

  Result<void> start(BackendHost& host) override;
  void submit(Op& op) noexcept override;
  void cancel(Op& op) noexcept override;
  void poll(ReadyList& ready) noexcept override;
  void wait(ReadyList& ready, Instant deadline) noexcept override;
  void wake(Backend* from) noexcept override;
  bool has_work() const noexcept override { return !done_.empty() || pool_.has_done(); }
  std::size_t in_flight() const noexcept override { return in_flight_; }
  BufferSource& buffers() noexcept override { return buffers_; }
  Capabilities capabilities() const noexcept override { return {name_, true}; }

 private:
  /// Where an operation is; kept in Op::backend_state.
  enum class Place : std::uint8_t { done, waiting, pool, pool_in_order };

  enum class Kind : std::uint8_t {
    unknown,
    socket,       // knows MSG_DONTWAIT
    nonblocking,  // O_NONBLOCK, and no file
    blocking,     // a pipe or terminal that we share with others and whose mode is theirs
    file,         // regular, directory, block device: always ready, and yet it blocks
  };

  struct Slot {
    Queue<Op> waiting;
    bool exhausted = false;  // the last call took less than it could: do not try again before readiness
    bool in_pool = false;    // the operation before `waiting` is on the pool
    bool resting = false;    // not watched until end_rests
    std::uint8_t false_alarms = 0;
  };

  struct Descriptor {
    std::uint32_t age = 0;
    Kind kind = Kind::unknown;
    bool nonblocking = false;  // accept and connect may be tried
    bool can_tell = true;      // knows RWF_NOWAIT, as far as we know
    Slot slots[2];
    Queue<Op> polls;  // poll operations: they take nothing, so they wait beside the queues

    Slot& slot(Direction direction) noexcept { return slots[static_cast<int>(direction)]; }
    bool is_awaited() const noexcept {
      return !polls.empty() || !slots[0].waiting.empty() || !slots[1].waiting.empty() || slots[0].in_pool ||
             slots[1].in_pool;
    }
  };

  struct Rest {
    int fd;
    Direction direction;
  };

  /// Buffers that idle receives do not hold: one is taken when the data is there.
  class Buffers final : public BufferSource {
   public:
    Buffers() { free_.reserve(kBufferCount); }
    bool take(Op& op) noexcept;
    void give_back(Op& op) noexcept;

   private:
    void recycle(std::uint16_t id) noexcept override { free_.push_back(id); }
    std::vector<std::uint16_t> free_;
    std::uint16_t untouched_ = 0;
  };

  // Submitting.
  Descriptor& descriptor(int fd);
  void look_at(Descriptor& descriptor, int fd) noexcept;
  void enter(Op& op) noexcept;
  void enter_polls(Op& op, Descriptor& descriptor) noexcept;
  void enter_slot(Op& op, Descriptor& descriptor) noexcept;
  void close(Op& op) noexcept;
  void finish(Op& op, std::int32_t result) noexcept;
  void to_pool(Op& op, Place place, bool may_hang) noexcept;

  // One attempt: a result, kMustWait, or kNeedsPool.
  std::int32_t attempt(Op& op, Descriptor& descriptor, Slot& slot) noexcept;
  std::int32_t attempt_recv(Op& op, Slot& slot) noexcept;
  std::int32_t attempt_socket_op(Op& op, Descriptor& descriptor, Slot& slot) noexcept;
  std::int32_t attempt_read_or_write(Op& op, Descriptor& descriptor) noexcept;

  // Waiting.
  static bool is_wanted(const Descriptor& descriptor, Direction direction) noexcept;
  bool advance(Descriptor& descriptor, Direction direction) noexcept;
  bool advance_queue(Descriptor& descriptor, Slot& slot) noexcept;
  bool settle_polls(Descriptor& descriptor) noexcept;
  void on_ready(int fd, Direction direction) noexcept override;
  void watch(int fd, Direction direction) noexcept;
  void unwatch_left() noexcept;
  void rest(int fd, Direction direction) noexcept;
  void end_rests() noexcept;
  void take_done(ReadyList& ready) noexcept;

  const char* const name_;
  const PollerFactory make_poller_;
  std::unique_ptr<Poller> poller_;
  std::vector<Descriptor> descriptors_;
  std::vector<int> left_;  // descriptors that an operation has stopped waiting for since the last wait
  std::vector<Rest> resting_;
  Instant rest_until_ = 0;  // of all that rest
  Buffers buffers_;
  ReadyList done_;
  std::size_t results_first_ = 0;  // handed out since the kernel was asked
  std::size_t in_flight_ = 0;
  std::atomic<bool> woken_{false};  // wake was called; a poll must not make the next wait forget it
  PoolOps pool_;                    // ends first: its threads may still call wake
};

}  // namespace evlua
