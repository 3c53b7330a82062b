// A simulated kernel: sockets, files and time in memory, driven by one seed, so that a failing run can be run again.
//
// Its descriptors are numbers from 1,000,000 up which mean nothing to the real kernel; they are made by operations and
// by the helpers below. Time is virtual: it stands still while the program works and jumps to the next event when a
// backend waits. Every stage of an operation takes a random while, so operations end in random order; transfers are
// cut short, attempts interrupted, and failures injected as `SimFaults` says.
//
// With one thread a run depends on nothing but the seed. Several workers may share a world (a mutex keeps it whole),
// but then their own order is the real machine's. The helpers may be called on any thread. The world must outlive its
// backends.
//
// Not simulated: symbolic links, permissions, datagrams, ancillary data, MSG_WAITALL.
#pragma once

#include <sys/socket.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "backends/sim/faults.h"
#include "core/opcode.h"
#include "core/time.h"

namespace evlua {

class SimDriver;
struct SimState;

class SimWorld {
 public:
  static constexpr int kFirstDescriptor = 1'000'000;

  explicit SimWorld(std::uint64_t seed, const SimFaults& faults = {});
  ~SimWorld();
  SimWorld(const SimWorld&) = delete;
  SimWorld& operator=(const SimWorld&) = delete;

  std::uint64_t seed() const noexcept;
  Instant now() const noexcept;
  SimFaults faults() const noexcept;
  /// Takes effect from the next step.
  void set_faults(const SimFaults& faults) noexcept;

  // -- sockets ------------------------------------------------------------------------------------------------------

  /// A stream socket that is not connected yet.
  int socket();
  /// A listening socket; connect operations find it by its address.
  int listen(const sockaddr* address, socklen_t length, std::size_t backlog = 4096);
  /// Two connected stream sockets.
  std::array<int, 2> socket_pair();
  /// Closes any descriptor at once: 0 or -EBADF.
  int close(int fd);
  /// The network loses the connection: both sides get ECONNRESET.
  void reset(int fd);
  /// Descriptors now open: what is left at the end has leaked.
  std::size_t open_descriptors() const noexcept;
  /// Of them, sockets.
  std::size_t open_sockets() const noexcept;
  /// Operations of this kind that have not ended.
  std::size_t in_flight(OpCode code) const noexcept;

  // -- files. Paths begin at the root; a relative path does, too ----------------------------------------------------

  void make_file(std::string_view path, std::string_view contents);
  void make_directory(std::string_view path);
  void make_fifo(std::string_view path);
  /// Nothing when there is no such file.
  std::optional<std::string> contents(std::string_view path) const;

  // -- the run ------------------------------------------------------------------------------------------------------

  /// Promises that nothing outside of this thread will ever wake a backend. A wait that could not end is then a
  /// deadlock: `on_deadlock` is called and the wait returns; without it the run is reported and aborts.
  void expect_single_thread(std::function<void()> on_deadlock = {});
  /// All workers run on this thread and take turns as `driver` says, which gets to choose at every call of a backend.
  void set_driver(SimDriver* driver) noexcept;
  /// Moves the clock on to `to`.
  void advance(Instant to) noexcept;
  /// Aborts the run and tells what has happened so far.
  [[noreturn]] void violation(const char* what) const noexcept;
  /// Steps so far that could have failed: the range of SimFaults::fail_at.
  std::uint64_t fallible_steps() const noexcept;
  /// The latest events, one a line, with the seed in front.
  std::string trace() const;
  /// Stands for all events so far: equal for equal runs.
  std::uint64_t digest() const noexcept;

 private:
  friend class SimBackend;
  std::unique_ptr<SimState> state_;
};

}  // namespace evlua
