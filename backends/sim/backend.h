// The simulator as a backend: operations on a SimWorld, ended in an order and at (virtual) times that the seed decides.
//
// An operation goes through scheduled events: one or more attempts, then the delivery of its result. Between the two a
// cancel comes too late, as it does for a kernel whose completion was not reaped yet. Only the owner carries its
// operations out, inside poll and wait, so their memory is never touched by another thread.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <unordered_map>
#include <vector>

#include "backends/sim/state.h"
#include "backends/sim/world.h"
#include "core/backend.h"

namespace evlua {

class SimBuffers final : public BufferSource {
 public:
  SimBuffers();
  /// A buffer's id, or kNoBuffer when all are lent.
  std::uint16_t lend() noexcept;

 protected:
  void recycle(std::uint16_t id) noexcept override { free_.push_back(id); }

 private:
  std::vector<std::uint16_t> free_;
};

class SimBackend final : public Backend {
 public:
  explicit SimBackend(SimWorld& world);
  ~SimBackend() override;

  Result<void> start(BackendHost& host) override;
  void submit(Op& op) noexcept override;
  void cancel(Op& op) noexcept override;
  void poll(ReadyList& ready) noexcept override;
  /// Moves the world's clock to the next event or `deadline`, unless another sleeping backend's comes first. With
  /// neither, it is a real sleep until wake, or a deadlock: see SimWorld::expect_single_thread.
  void wait(ReadyList& ready, Instant deadline) noexcept override;
  void wake(Backend* from) noexcept override;
  bool has_work() const noexcept override;
  std::size_t in_flight() const noexcept override { return flights_.size(); }
  BufferSource& buffers() noexcept override { return buffers_; }
  Capabilities capabilities() const noexcept override { return {"sim", false}; }
  void shut_down(int fd, int how) noexcept override;
  Instant now() noexcept override;

  /// While it sleeps: is it time to get up? When there is no wake: at `wakes_at`.
  bool is_due() const noexcept;
  Instant wakes_at() const noexcept { return target_; }

  /// Plans the flight's next event. REQUIRES: the world is locked; no event of this flight is planned.
  void schedule(SimFlight& flight, Instant at) noexcept;

 private:
  friend struct Inspector;  // of tests/sim

  void check_receiving(const Op& op, SimFile& file) noexcept;
  void run_due(ReadyList& ready) noexcept;
  void attempt(SimFlight& flight) noexcept;
  std::int32_t result_of_attempt(SimFlight& flight) noexcept;
  std::int32_t park(SimFlight& flight) noexcept;
  void leave_file(SimFlight& flight) noexcept;
  void land(SimFlight& flight, ReadyList& ready) noexcept;
  void dispose(SimFlight& flight) noexcept;
  bool others_sleep_longer(Instant target) const noexcept;
  Instant next_event_at() const noexcept { return events_.empty() ? kNever : events_.begin()->first.first; }
  void interleave() const noexcept;
  static bool lend(void* self, Op& op) noexcept;

  SimState& state_;
  SimBuffers buffers_;
  std::unordered_map<Op*, SimFlight> flights_;
  std::map<SimEventKey, SimFlight*> events_;
  Instant target_ = kNever;  // while asleep: when to get up
  bool is_asleep_ = false;
  bool wake_pending_ = false;
};

/// A backend for a worker to start. `world` must outlive it.
std::unique_ptr<Backend> make_sim_backend(SimWorld& world);

}  // namespace evlua
