#include "backends/sim/world.h"

#include <fcntl.h>

#include <cerrno>
#include <utility>

#include "backends/sim/state.h"
#include "core/check.h"

namespace evlua {

using Guard = std::lock_guard<std::mutex>;

SimWorld::SimWorld(std::uint64_t seed, const SimFaults& faults) : state_(std::make_unique<SimState>(seed, faults)) {
  // Chances of 1 would never let an operation through.
  EVLUA_CHECK(faults.interrupted < 1 && faults.would_block < 1);
  state_->tree.set_time(state_->now);
}

SimWorld::~SimWorld() { EVLUA_CHECK(state_->backends.empty()); }

std::uint64_t SimWorld::seed() const noexcept { return state_->seed; }

Instant SimWorld::now() const noexcept {
  const Guard lock(state_->mutex);
  return state_->now;
}

SimFaults SimWorld::faults() const noexcept {
  const Guard lock(state_->mutex);
  return state_->faults;
}

void SimWorld::set_faults(const SimFaults& faults) noexcept {
  const Guard lock(state_->mutex);
  state_->faults = faults;
}

// -- sockets --------------------------------------------------------------------------------------------------------

int SimWorld::socket() {
  const Guard lock(state_->mutex);
  return state_->add(std::make_shared<SimFile>(*state_, SimFile::Kind::stream));
}

int SimWorld::listen(const sockaddr* address, socklen_t length, std::size_t backlog) {
  const Guard lock(state_->mutex);
  auto listener = std::make_shared<SimFile>(*state_, SimFile::Kind::listener);
  listener->address = sim_address_key(address, length);
  listener->backlog = backlog;
  if (!state_->listeners.emplace(listener->address, listener.get()).second) return -EADDRINUSE;
  return state_->add(std::move(listener));
}

std::array<int, 2> SimWorld::socket_pair() {
  const Guard lock(state_->mutex);
  const auto a = std::make_shared<SimFile>(*state_, SimFile::Kind::stream);
  const auto b = std::make_shared<SimFile>(*state_, SimFile::Kind::stream);
  state_->connect(*a, *b);
  const int first = state_->add(a);
  return {first, state_->add(b)};
}

int SimWorld::close(int fd) {
  const Guard lock(state_->mutex);
  const SimFilePointer file = state_->file(fd);
  if (file != nullptr && file->in_flight != 0) state_->violation("a descriptor was closed with operations in flight");
  return state_->close(fd);
}

void SimWorld::reset(int fd) {
  const Guard lock(state_->mutex);
  if (const SimFilePointer file = state_->file(fd)) state_->reset(*file);
}

std::size_t SimWorld::open_descriptors() const noexcept {
  const Guard lock(state_->mutex);
  return state_->descriptors.size();
}

std::size_t SimWorld::open_sockets() const noexcept {
  const Guard lock(state_->mutex);
  std::size_t sockets = 0;
  for (const auto& [fd, file] : state_->descriptors) {
    if (file->kind == SimFile::Kind::stream || file->kind == SimFile::Kind::listener) ++sockets;
  }
  return sockets;
}

std::size_t SimWorld::in_flight(OpCode code) const noexcept {
  const Guard lock(state_->mutex);
  return state_->flying[static_cast<std::size_t>(code)];
}

// -- files ----------------------------------------------------------------------------------------------------------

void SimWorld::make_file(std::string_view path, std::string_view contents) {
  const Guard lock(state_->mutex);
  SimTree& tree = state_->tree;
  SimNodePointer node;
  EVLUA_CHECK(tree.open(tree.root(), path, O_CREAT | O_TRUNC | O_WRONLY, 0644, node) == 0);
  node->data = contents;
}

void SimWorld::make_directory(std::string_view path) {
  const Guard lock(state_->mutex);
  EVLUA_CHECK(state_->tree.make(state_->tree.root(), path, SimNode::Kind::directory, 0755) == 0);
}

void SimWorld::make_fifo(std::string_view path) {
  const Guard lock(state_->mutex);
  EVLUA_CHECK(state_->tree.make(state_->tree.root(), path, SimNode::Kind::fifo, 0644) == 0);
}

std::optional<std::string> SimWorld::contents(std::string_view path) const {
  const Guard lock(state_->mutex);
  SimNodePointer node;
  if (state_->tree.find(state_->tree.root(), path, node) != 0) return std::nullopt;
  return node->data;
}

// -- the run --------------------------------------------------------------------------------------------------------

void SimWorld::expect_single_thread(std::function<void()> on_deadlock) {
  const Guard lock(state_->mutex);
  state_->single_thread = true;
  state_->on_deadlock = std::move(on_deadlock);
}

void SimWorld::set_driver(SimDriver* driver) noexcept {
  const Guard lock(state_->mutex);
  state_->driver = driver;
}

void SimWorld::advance(Instant to) noexcept {
  const Guard lock(state_->mutex);
  state_->advance(to);
}

void SimWorld::violation(const char* what) const noexcept {
  const Guard lock(state_->mutex);
  state_->violation(what);
}

std::uint64_t SimWorld::fallible_steps() const noexcept {
  const Guard lock(state_->mutex);
  return state_->fallible_steps;
}

std::string SimWorld::trace() const {
  const Guard lock(state_->mutex);
  return state_->trace();
}

std::uint64_t SimWorld::digest() const noexcept {
  const Guard lock(state_->mutex);
  return state_->digest;
}

}  // namespace evlua
