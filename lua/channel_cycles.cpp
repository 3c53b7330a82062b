// What is garbage: with the locks of all carriers held no queue changes. A reference to a carrier lies in one of those
// queues or somewhere else: in a Vm, in a message on its way, in a task that waits. A carrier with one from elsewhere
// is alive, and so is whatever its messages mention; nobody can get at the others, now or later, since a reference can
// only be copied from another one. A count that is read too high keeps a channel for the next time.
#include "lua/channel_cycles.h"

#include <atomic>
#include <mutex>
#include <new>

#include "core/intrusive.h"
#include "core/lockfree/futex_mutex.h"

namespace evlua::lua {

namespace {

constexpr std::size_t kSmall = 64;     // so many references may be looked at every time
constexpr std::size_t kEagerness = 8;  // how many are looked at, at most, for each one that was dropped

/// A channel; once it has been told that channels are sent over it, one of the list.
struct Carrier final : MessageChannel, ListNode, std::enable_shared_from_this<Carrier> {
  explicit Carrier(std::size_t capacity) : MessageChannel(capacity) {}
  ~Carrier();

  std::size_t references() const noexcept { return static_cast<std::size_t>(weak_from_this().use_count()); }

  std::atomic<bool> carries{false};
  // While it is looked at.
  std::size_t from_carriers = 0;
  bool alive = false;
  Carrier* next_alive = nullptr;
};

Carrier& carrier_of(MessageChannel& channel) noexcept { return static_cast<Carrier&>(channel); }

struct Carriers {
  FutexMutex lock;
  List<Carrier> list;
  std::size_t dropped = 0;    // references, since the last look
  std::size_t looked_at = 0;  // references, then
};

/// Never destroyed: Vms may end after main.
Carriers& carriers() noexcept {
  static auto& all = *new Carriers;
  return all;
}

/// Calls `visit` for each carrier that a message in the queue mentions.
template <class Visit>
void for_each_mentioned(Carrier& carrier, Visit visit) {
  for (const Message* message = carrier.queue().first.get(); message != nullptr; message = message->next.get()) {
    for (auto* link = message->channels(); link != nullptr; link = link->next) visit(carrier_of(*link->channel));
  }
}

/// Destroys messages one after another, however long the chain of channels is that they keep.
void destroy(MessageChannel::Queue& messages) noexcept {
  thread_local MessageChannel::Queue* outer = nullptr;
  if (outer != nullptr) return outer->append(messages);
  outer = &messages;
  while (!messages.empty()) (void)messages.pop();
  outer = nullptr;
}

Carrier::~Carrier() {
  if (carries.load(std::memory_order_relaxed)) {
    const std::lock_guard guard(carriers().lock);
    List<Carrier>::erase(*this);
  }
  destroy(queue());
}

/// Marks what can be got at, directly or through messages. The locks are held.
void mark_alive(Carriers& all) {
  Carrier* found = nullptr;
  const auto reach = [&found](Carrier& carrier) {
    if (carrier.alive || !carrier.linked()) return;  // no channels were sent over one that is not in the list
    carrier.alive = true;
    carrier.next_alive = std::exchange(found, &carrier);
  };
  all.list.for_each([&](Carrier& carrier) {
    if (carrier.references() > carrier.from_carriers) reach(carrier);
  });
  while (found != nullptr) {
    Carrier* carrier = std::exchange(found, found->next_alive);
    for_each_mentioned(*carrier, reach);
  }
}

/// Moves the messages of all others to `garbage`.
void look(Carriers& all, MessageChannel::Queue& garbage) noexcept {
  all.dropped = all.looked_at = 0;
  all.list.for_each([&](Carrier& carrier) {
    carrier.lock().lock();
    carrier.alive = false;
    carrier.from_carriers = 0;
    ++all.looked_at;
  });
  all.list.for_each([&](Carrier& carrier) {
    for_each_mentioned(carrier, [&](Carrier& mentioned) {
      ++mentioned.from_carriers;
      ++all.looked_at;
    });
  });
  mark_alive(all);
  all.list.for_each([&](Carrier& carrier) {
    if (!carrier.alive) garbage.append(carrier.queue());
    carrier.lock().unlock();
  });
}

}  // namespace

std::shared_ptr<MessageChannel> make_message_channel(std::size_t capacity) noexcept {
  try {
    return std::make_shared<Carrier>(capacity);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

void note_carrier(MessageChannel& channel) noexcept {
  Carrier& carrier = carrier_of(channel);
  if (carrier.carries.load(std::memory_order_relaxed)) return;
  const std::lock_guard guard(carriers().lock);
  if (!carrier.carries.exchange(true, std::memory_order_relaxed)) carriers().list.push_back(carrier);
}

void drop_channel(std::shared_ptr<MessageChannel>& channel) noexcept {
  if (channel == nullptr) return;
  const bool may_leave_cycle = carrier_of(*channel).carries.load(std::memory_order_relaxed) && channel.use_count() > 1;
  channel = nullptr;
  if (!may_leave_cycle) return;
  MessageChannel::Queue garbage;
  {
    Carriers& all = carriers();
    const std::lock_guard guard(all.lock);
    if (++all.dropped > all.looked_at / kEagerness || all.looked_at <= kSmall) look(all, garbage);
  }
  destroy(garbage);
}

void collect_channel_cycles() noexcept {
  MessageChannel::Queue garbage;
  {
    Carriers& all = carriers();
    const std::lock_guard guard(all.lock);
    if (all.dropped != 0) look(all, garbage);
  }
  destroy(garbage);
}

}  // namespace evlua::lua
