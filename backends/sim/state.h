// The inside of a SimWorld: what the simulator's files share, and no one else sees. Everything is guarded by `mutex`.
#pragma once

#include <array>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "backends/sim/faults.h"
#include "backends/sim/random.h"
#include "backends/sim/tree.h"
#include "core/op.h"
#include "core/time.h"

namespace evlua {

class SimBackend;
class SimDriver;
struct SimState;
struct SimFile;
using SimFilePointer = std::shared_ptr<SimFile>;

/// Result of an attempt that must wait for something to change.
inline constexpr std::int32_t kSimBlocked = -100'000;

/// When an event is due; the second number orders events of one instant.
using SimEventKey = std::pair<Instant, std::uint64_t>;

/// An operation in flight.
struct SimFlight {
  enum class Stage : std::uint8_t {
    starting,  // an attempt is scheduled
    waiting,   // the last attempt blocked; a change of the file schedules the next
    done,      // has its result; the delivery is scheduled
  };

  Op* op = nullptr;
  SimBackend* backend = nullptr;
  SimFilePointer file;       // looked up at submit; null: not on a descriptor
  SimFilePointer opening;    // an open that waits for a FIFO's other side
  std::uint64_t number = 0;  // as the trace names it
  Stage stage = Stage::starting;
  bool attempted = false;
  bool stop_asked = false;
  bool in_line = false;  // in its file's `reading` or `writing`
  bool parked = false;   // in its file's `waiting`
  bool scheduled = false;
  SimEventKey when;
};

/// Bytes on their way in one direction: half a connection, or a FIFO.
struct SimChannel {
  explicit SimChannel(std::size_t bytes) noexcept : capacity(bytes) {}

  std::size_t capacity;
  std::size_t head = 0;  // of `data`: what is before it was read
  std::string data;
  int readers = 0;
  int writers = 0;
  int opening_readers = 0;  // FIFO: opens that wait for the other side
  int opening_writers = 0;
  bool was_reset = false;         // told to the reader once, after the data
  bool is_broken = false;         // nothing passes any more
  std::vector<SimFile*> watched;  // whose operations may depend on it

  std::size_t size() const noexcept { return data.size() - head; }
  std::size_t space() const noexcept { return capacity > size() ? capacity - size() : 0; }
  void write(const void* from, std::size_t count);
  std::size_t read(void* to, std::size_t count, bool peek) noexcept;
};
using SimChannelPointer = std::shared_ptr<SimChannel>;

/// What a descriptor stands for.
struct SimFile {
  enum class Kind : std::uint8_t {
    stream,  // a socket or one end of a FIFO; without channels: not connected
    listener,
    node,     // a file or directory
    opening,  // a FIFO's end whose open has not returned
  };

  SimFile(SimState& owner, Kind file_kind) noexcept : state(owner), kind(file_kind) {}
  SimFile(const SimFile&) = delete;
  SimFile& operator=(const SimFile&) = delete;
  ~SimFile() { hang_up(); }

  void attach(SimChannelPointer input, SimChannelPointer output);
  /// Lets go of everything, as the last close does.
  void hang_up() noexcept;
  void end_writing() noexcept;

  SimState& state;
  Kind kind;
  bool is_shut = false;    // reading was shut down
  bool wrote_end = false;  // writing was
  SimChannelPointer in;
  SimChannelPointer out;
  std::string address;  // listener: its own; accepted stream: the peer's
  std::deque<SimFilePointer> arrivals;
  std::size_t backlog = 0;
  SimNodePointer node;
  int flags = 0;  // of open(2)
  std::int64_t position = 0;
  // Operations of one direction start one after the other, in order of submission. Those that block then wait for a
  // change, and the order they go on in is anybody's guess, as it is with io_uring.
  std::deque<SimFlight*> reading;
  std::deque<SimFlight*> writing;
  std::vector<SimFlight*> waiting;
  int in_flight = 0;
  const SimBackend* received_ahead_by = nullptr;  // until a recv_rest
};

struct SimState {
  SimState(std::uint64_t world_seed, const SimFaults& world_faults)
      : seed(world_seed), faults(world_faults), random(world_seed) {}

  // -- state.cpp: descriptors ---------------------------------------------------------------------------------------

  SimFilePointer file(int fd) const noexcept;
  bool may_open() const noexcept { return descriptors.size() < faults.descriptors_max; }
  int add(SimFilePointer opened);
  int close(int fd) noexcept;
  void connect(SimFile& a, SimFile& b);
  void reset(SimFile& target) noexcept;
  /// Lets what waits on it try again.
  void changed(SimFile& file) noexcept;
  /// Lets the first in line of each direction start.
  void next_in_line(SimFile& file) noexcept;
  void changed(SimChannel& channel) noexcept;

  // -- state.cpp: chance and time -----------------------------------------------------------------------------------

  Duration delay() noexcept;
  std::uint32_t shorten(std::uint64_t bytes) noexcept;
  /// 0, or the negated errno that this operation's first attempt shall end with.
  std::int32_t roll_fault(const Op& op) noexcept;
  void advance(Instant to) noexcept;

  // -- state.cpp: the record ----------------------------------------------------------------------------------------

  void note(const char* what, const SimFlight& flight) noexcept;
  std::string trace() const;
  [[noreturn]] void violation(const char* what) const noexcept;

  const std::uint64_t seed;
  mutable std::mutex mutex;
  std::condition_variable clock_or_work;  // the clock moved, an event was added, or somebody was woken
  SimFaults faults;
  SimRandom random;
  Instant now = kSecond;
  std::uint64_t next_event = 0;
  std::uint64_t next_flight = 1;
  std::uint64_t fallible_steps = 0;
  std::array<std::size_t, 256> flying{};  // operations in flight, by their code
  bool single_thread = false;
  std::function<void()> on_deadlock;
  SimDriver* driver = nullptr;
  std::vector<SimBackend*> backends;
  int sleepers = 0;  // threads in clock_or_work

  SimTree tree;
  std::unordered_map<std::string, SimFile*> listeners;
  std::unordered_map<int, SimFilePointer> descriptors;
  int next_descriptor = 0;

  struct Event {
    Instant at;
    const char* what;
    std::uint64_t flight;
    OpCode code;
    int fd;
    std::int32_t res;
  };
  static constexpr std::size_t kEventsMax = 2048;
  std::deque<Event> events;
  std::uint64_t digest = 0xcbf29ce484222325;
};

/// What is equal for addresses that mean the same: the padding is left out.
std::string sim_address_key(const sockaddr* address, socklen_t length);

// -- perform.cpp ----------------------------------------------------------------------------------------------------

/// shutdown(2): 0 or a negated errno.
std::int32_t sim_shut_down(SimState& state, SimFile& file, int how) noexcept;

/// Memory for a receive that brings none; called when there is data. False: none to be had.
using SimLend = bool (*)(void* context, Op& op) noexcept;

/// Carries out `flight`'s operation now: its result, or kSimBlocked.
std::int32_t sim_perform(SimState& state, SimFlight& flight, SimLend lend, void* context);

}  // namespace evlua
