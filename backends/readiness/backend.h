// Completions over readiness: a system call is tried when an operation comes, or when its descriptor is ready.
//
// Each descriptor has a queue of waiting operations per direction. A result found at once is delivered by the next poll,
// never inside submit. Partial results are results. Files and paths go to the blocking pool; that is decided here, by
// the traits in core/opcode.h and the kind of descriptor, and nowhere else.
#pragma once

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
  enum class Place : std::uint8_t { done, waiting, pool };
  enum class Kind : std::uint8_t { unknown, file, pollable };

  struct Slot {
    Queue<Op> waiting;
    bool armed = false;
    bool likely_empty = false;  // the last call took less than it could: do not try again before readiness
  };
  struct Descriptor {
    Kind kind = Kind::unknown;
    bool nonblocking = false;
    Slot slots[2];
  };

  /// Buffers that idle receives do not hold: one is taken when the data is there.
  class Buffers final : public BufferSource {
   public:
    bool take(Op& op) noexcept;
    void give_back(Op& op) noexcept;

   private:
    void recycle(std::uint16_t id) noexcept override { free_.push_back(id); }
    std::vector<std::uint16_t> free_;
    std::uint16_t untouched_ = 0;
  };

  void on_ready(int fd, Direction direction) noexcept override;

  Descriptor& descriptor(int fd);
  void look_at(Descriptor& descriptor, int fd) noexcept;
  void close(Op& op) noexcept;
  void enter_slot(Op& op) noexcept;
  std::int32_t attempt(Op& op, Descriptor& descriptor, Slot& slot) noexcept;
  void finish(Op& op, std::int32_t result) noexcept;
  void to_pool(Op& op) noexcept;
  void take_done(ReadyList& ready) noexcept;
  static Direction direction_of(const Op& op) noexcept;

  const char* const name_;
  const PollerFactory make_poller_;
  std::unique_ptr<Poller> poller_;
  std::vector<Descriptor> descriptors_;
  PoolOps pool_;
  Buffers buffers_;
  ReadyList done_;
  std::size_t in_flight_ = 0;
};

}  // namespace evlua
