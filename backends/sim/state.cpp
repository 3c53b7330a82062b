#include "backends/sim/state.h"

#include <netinet/in.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "backends/sim/backend.h"
#include "backends/sim/world.h"

namespace evlua {
namespace {

/// What goes wrong with an operation of this kind when torture asks for a failure.
std::int32_t torture_error(OpCode code) noexcept {
  switch (code) {
    case OpCode::accept:
    case OpCode::open: return EMFILE;
    case OpCode::connect: return ECONNREFUSED;
    case OpCode::recv:
    case OpCode::recvmsg:
    case OpCode::send:
    case OpCode::sendmsg: return ECONNRESET;
    case OpCode::shutdown: return ENOTCONN;
    case OpCode::write:
    case OpCode::fsync:
    case OpCode::truncate:
    case OpCode::rename:
    case OpCode::mkdir: return ENOSPC;
    case OpCode::read:
    case OpCode::splice:
    case OpCode::stat:
    case OpCode::unlink:
    case OpCode::close: return EIO;
    default: return ECANCELED;
  }
}

bool needs_space(const Op& op) noexcept {
  switch (op.code) {
    case OpCode::write:
    case OpCode::fsync:
    case OpCode::truncate:
    case OpCode::rename:
    case OpCode::mkdir: return true;
    default: return false;
  }
}

bool uses_connection(OpCode code) noexcept {
  return code == OpCode::recv || code == OpCode::recvmsg || code == OpCode::send || code == OpCode::sendmsg;
}

void unwatch(SimChannel& channel, SimFile* file) noexcept {
  channel.watched.erase(std::remove(channel.watched.begin(), channel.watched.end(), file), channel.watched.end());
}

/// A FIFO that nobody has open forgets what was in it.
void forget_if_unused(SimChannel& channel) noexcept {
  if (channel.readers != 0 || channel.writers != 0) return;
  channel.data.clear();
  channel.head = 0;
}

void again(SimState& state, SimFlight* flight) noexcept {
  if (flight->stage == SimFlight::Stage::waiting && !flight->scheduled) {
    flight->backend->schedule(*flight, state.now + state.delay());
  }
}

}  // namespace

// -- channels and files ---------------------------------------------------------------------------------------------

void SimChannel::write(const void* from, std::size_t count) { data.append(static_cast<const char*>(from), count); }

std::size_t SimChannel::read(void* to, std::size_t count, bool peek) noexcept {
  count = std::min(count, size());
  if (count != 0) std::memcpy(to, data.data() + head, count);
  if (peek) return count;
  head += count;
  if (head == data.size()) {
    data.clear();
    head = 0;
  } else if (head >= capacity) {
    data.erase(0, head);
    head = 0;
  }
  return count;
}

void SimFile::attach(SimChannelPointer input, SimChannelPointer output) {
  in = std::move(input);
  out = std::move(output);
  if (in != nullptr) {
    ++in->readers;
    in->watched.push_back(this);
  }
  if (out != nullptr) {
    ++out->writers;
    out->watched.push_back(this);
  }
}

void SimFile::end_writing() noexcept {
  if (out == nullptr || wrote_end) return;
  wrote_end = true;
  --out->writers;
  state.changed(*out);
}

void SimFile::hang_up() noexcept {
  const bool is_opening = kind == Kind::opening;
  const bool is_socket = in != nullptr && out != nullptr && node == nullptr;
  if (is_socket && in->size() != 0) out->was_reset = true;  // the peer learns that its data was thrown away
  if (in != nullptr) {
    --(is_opening ? in->opening_readers : in->readers);
    unwatch(*in, this);
  }
  if (is_opening && out != nullptr) --out->opening_writers;
  if (!is_opening) end_writing();
  if (out != nullptr) unwatch(*out, this);
  for (const SimChannelPointer& channel : {std::exchange(in, nullptr), std::exchange(out, nullptr)}) {
    if (channel == nullptr) continue;
    forget_if_unused(*channel);
    state.changed(*channel);
  }
  if (kind == Kind::listener) {
    if (const auto found = state.listeners.find(address); found != state.listeners.end() && found->second == this) {
      state.listeners.erase(found);
    }
    for (const SimFilePointer& arrival : std::exchange(arrivals, {})) state.reset(*arrival);
  }
}

// -- descriptors ----------------------------------------------------------------------------------------------------

SimFilePointer SimState::file(int fd) const noexcept {
  const auto found = descriptors.find(fd);
  return found == descriptors.end() ? nullptr : found->second;
}

int SimState::add(SimFilePointer opened) {
  if (!may_open()) return -EMFILE;
  // Never a number that was used before: whoever still uses the old one gets EBADF.
  const int fd = SimWorld::kFirstDescriptor + next_descriptor++;
  descriptors.emplace(fd, std::move(opened));
  return fd;
}

int SimState::close(int fd) noexcept {
  const auto found = descriptors.find(fd);
  if (found == descriptors.end()) return -EBADF;
  const SimFilePointer closed = std::move(found->second);
  descriptors.erase(found);
  closed->hang_up();
  return 0;
}

void SimState::connect(SimFile& a, SimFile& b) {
  auto forth = std::make_shared<SimChannel>(faults.channel_bytes);
  auto back = std::make_shared<SimChannel>(faults.channel_bytes);
  a.attach(back, forth);
  b.attach(forth, back);
}

void SimState::reset(SimFile& target) noexcept {
  for (const SimChannelPointer& channel : {target.in, target.out}) {
    if (channel == nullptr || channel->is_broken) continue;
    channel->is_broken = channel->was_reset = true;
    channel->data.clear();
    channel->head = 0;
    changed(*channel);
  }
}

void SimState::changed(SimFile& file) noexcept {
  for (SimFlight* flight : file.waiting) again(*this, flight);
}

void SimState::next_in_line(SimFile& file) noexcept {
  if (!file.reading.empty()) again(*this, file.reading.front());
  if (!file.writing.empty()) again(*this, file.writing.front());
}

void SimState::changed(SimChannel& channel) noexcept {
  for (SimFile* file : channel.watched) changed(*file);
}

// -- chance and time ------------------------------------------------------------------------------------------------

Duration SimState::delay() noexcept {
  // Mostly short, so that events bunch; sometimes long, so that they overtake each other.
  const auto longest = static_cast<std::uint64_t>(std::max<Duration>(faults.delay_max, 0));
  switch (random.below(8)) {
    case 0: return static_cast<Duration>(random.below(longest + 1));
    case 1:
    case 2:
    case 3: return static_cast<Duration>(random.below(longest / 100 + 1));
    default: return 0;
  }
}

std::uint32_t SimState::shorten(std::uint64_t bytes) noexcept {
  const auto whole = static_cast<std::uint32_t>(std::min<std::uint64_t>(bytes, 0x7ffff000));
  if (whole < 2 || !random.chance(faults.short_io)) return whole;
  return static_cast<std::uint32_t>(1 + random.below(whole - 1));
}

std::int32_t SimState::roll_fault(const Op& op) noexcept {
  ++fallible_steps;
  if (faults.fail_at != 0) return fallible_steps == faults.fail_at ? -torture_error(op.code) : 0;
  if (op.code == OpCode::close) return 0;
  if (random.chance(faults.cancelled)) return -ECANCELED;
  if (returns_descriptor(op.code) && random.chance(faults.no_descriptor)) return -EMFILE;
  if (needs_space(op) && random.chance(faults.no_space)) return -ENOSPC;
  if (uses_connection(op.code) && random.chance(faults.reset)) return -ECONNRESET;
  return 0;
}

void SimState::advance(Instant to) noexcept {
  if (to > now) now = to;
  tree.set_time(now);
  if (sleepers > 0) clock_or_work.notify_all();
}

// -- the record -----------------------------------------------------------------------------------------------------

void SimState::note(const char* what, const SimFlight& flight) noexcept {
  const Event event{now, what, flight.number, flight.op->code, flight.op->fd, flight.op->res};
  const auto mix = [this](std::uint64_t value) { digest = (digest ^ value) * 0x100000001b3; };
  mix(static_cast<std::uint64_t>(event.at));
  for (const char* at = what; *at != '\0'; ++at) mix(static_cast<std::uint8_t>(*at));
  mix(event.flight);
  mix(static_cast<std::uint64_t>(event.code));
  mix(static_cast<std::uint64_t>(event.fd));
  mix(static_cast<std::uint64_t>(event.res));
  if (events.size() == kEventsMax) events.pop_front();
  events.push_back(event);
}

std::string SimState::trace() const {
  std::string text = "simulator, seed " + std::to_string(seed) + "\n";
  for (const Event& event : events) {
    char line[160];
    std::snprintf(line, sizeof(line), "%14.6f ms  #%-5llu %-8s fd %-8d %-7s %d\n",
                  static_cast<double>(event.at) / static_cast<double>(kMillisecond),
                  static_cast<unsigned long long>(event.flight), name_of(event.code), event.fd, event.what, event.res);
    text += line;
  }
  return text;
}

void SimState::violation(const char* what) const noexcept {
  std::fputs(trace().c_str(), stderr);
  std::fprintf(stderr, "evlua simulator: %s (seed %llu)\n", what, static_cast<unsigned long long>(seed));
  std::abort();
}

std::string sim_address_key(const sockaddr* address, socklen_t length) {
  if (address == nullptr || length < sizeof(sa_family_t)) return {};
  const auto* bytes = reinterpret_cast<const char*>(address);
  std::string key(bytes, sizeof(sa_family_t));
  if (address->sa_family == AF_INET && length >= sizeof(sockaddr_in)) {
    key.append(bytes + offsetof(sockaddr_in, sin_port), sizeof(in_port_t) + sizeof(in_addr));
  } else if (address->sa_family == AF_INET6 && length >= sizeof(sockaddr_in6)) {
    key.append(bytes + offsetof(sockaddr_in6, sin6_port), sizeof(in_port_t));
    key.append(bytes + offsetof(sockaddr_in6, sin6_addr), sizeof(in6_addr));
  } else if (address->sa_family == AF_UNIX && length > offsetof(sockaddr_un, sun_path)) {
    const char* path = bytes + offsetof(sockaddr_un, sun_path);
    const std::size_t room = length - offsetof(sockaddr_un, sun_path);
    key.append(path, path[0] == '\0' ? room : ::strnlen(path, room));
  } else {
    key.append(bytes + sizeof(sa_family_t), length - sizeof(sa_family_t));
  }
  return key;
}

}  // namespace evlua
