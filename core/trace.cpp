#include "core/trace.h"

#include <errno.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/decimal.h"
#include "core/lockfree/futex_mutex.h"
#include "core/lockfree/spin_lock.h"

namespace evlua {

namespace {

constexpr std::size_t kEventsMax = 1'000'000;  // of one thread; some 100 MB

struct Event {
  const char* name;
  Instant began;
  Instant ended;
  char detail[Trace::Span::kDetailBytes];
};

struct Track {
  BasicSpinLock<PlainAtomics> lock;
  std::string name;
  std::vector<Event> events;
  std::size_t dropped = 0;
};

FutexMutex lock;
std::FILE* file = nullptr;

/// Tracks outlive their threads.
std::vector<std::unique_ptr<Track>>& tracks() {
  static auto& all = *new std::vector<std::unique_ptr<Track>>;
  return all;
}

Track& my_track() {
  thread_local Track* mine = nullptr;
  if (mine == nullptr) {
    const std::lock_guard guard(lock);
    mine = tracks().emplace_back(std::make_unique<Track>()).get();
    mine->name = "blocking pool " + std::to_string(tracks().size());
  }
  return *mine;
}

/// As the inside of a JSON string.
std::string escaped(const char* text) {
  std::string out;
  for (; *text != 0; ++text) {
    const auto byte = static_cast<unsigned char>(*text);
    if (byte == '"' || byte == '\\') out += '\\';
    if (byte < 0x20 || byte >= 0x7F) {
      out += '?';
    } else {
      out += *text;
    }
  }
  return out;
}

void write_track(Track& track, std::size_t number, Instant zero) {
  const std::lock_guard guard(track.lock);
  const int process = ::getpid();
  std::fprintf(file, "{\"name\":\"thread_name\",\"ph\":\"M\",\"pid\":%d,\"tid\":%zu,\"args\":{\"name\":\"%s\"}}",
               process, number, escaped(track.name.c_str()).c_str());
  for (const Event& event : track.events) {
    std::fprintf(file, ",\n{\"name\":\"%s\",\"ph\":\"X\",\"pid\":%d,\"tid\":%zu,\"ts\":%s,\"dur\":%s", event.name,
                 process, number, fixed_decimal(static_cast<double>(event.began - zero) / 1e3, 3).c_str(),
                 fixed_decimal(static_cast<double>(event.ended - event.began) / 1e3, 3).c_str());
    if (event.detail[0] != 0) std::fprintf(file, ",\"args\":{\"at\":\"%s\"}", escaped(event.detail).c_str());
    std::fputc('}', file);
  }
  if (track.dropped != 0) {
    std::fprintf(stderr, "trace: %zu events of %s were left out\n", track.dropped, track.name.c_str());
  }
}

}  // namespace

void Trace::name_thread(const char* name, unsigned number) noexcept {
  if (on()) my_track().name = name + std::to_string(number);
}

void Trace::Span::record() noexcept {
  Track& track = my_track();
  const std::lock_guard guard(track.lock);  // for who finishes while we go on
  if (track.events.size() == kEventsMax) {
    ++track.dropped;
    return;
  }
  Event& event = track.events.emplace_back();
  event.name = name_;
  event.began = began_;
  event.ended = monotonic_now();
  std::memcpy(event.detail, detail_, sizeof detail_);
}

bool Trace::begin(const char* path) {
  file = std::fopen(path, "we");
  if (file == nullptr) return false;
  on_.store(true);
  return true;
}

void Trace::finish() {
  if (!on_.exchange(false)) return;
  const std::lock_guard guard(lock);
  Instant zero = kNever;
  for (const auto& track : tracks()) {
    const std::lock_guard track_guard(track->lock);
    for (const Event& event : track->events) zero = event.began < zero ? event.began : zero;
  }
  std::fputs("{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n", file);
  std::fprintf(file, "{\"name\":\"process_name\",\"ph\":\"M\",\"pid\":%d,\"args\":{\"name\":\"%s\"}}", ::getpid(),
               escaped(program_invocation_short_name).c_str());
  for (std::size_t i = 0; i < tracks().size(); ++i) {
    std::fputs(",\n", file);
    write_track(*tracks()[i], i + 1, zero);
  }
  std::fputs("\n]}\n", file);
  const bool failed = std::ferror(file) != 0;
  if (std::fclose(file) != 0 || failed) std::fputs("trace: the file could not be written whole\n", stderr);
}

}  // namespace evlua
