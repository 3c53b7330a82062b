// A timeline of what the threads do, for chrome://tracing and Perfetto. Off, a span costs one load.
#pragma once

#include <atomic>
#include <cstddef>

#include "core/time.h"

namespace evlua {

class Trace {
 public:
  static bool on() noexcept { return on_.load(std::memory_order_relaxed); }
  /// Records from now on, for the file of this name. False: it cannot be written, errno says why.
  static bool begin(const char* path);
  /// Writes what was recorded, in the Trace Event Format, and stops. Does nothing when nothing is recorded.
  static void finish();

  /// The calling thread's name in the timeline.
  static void name_thread(const char* name, unsigned number) noexcept;

  /// The time from its construction to its end, under a name that lives for ever.
  class Span {
   public:
    explicit Span(const char* name) noexcept : name_(name), began_(Trace::on() ? monotonic_now() : 0) {
      detail_[0] = 0;
    }
    ~Span() {
      if (began_ != 0) record();
    }
    Span(const Span&) = delete;
    Span& operator=(const Span&) = delete;

    bool recorded() const noexcept { return began_ != 0; }
    static constexpr std::size_t kDetailBytes = 64;
    /// What is shown beside the name; at most so many bytes with the closing zero.
    char* detail() noexcept { return detail_; }

   private:
    void record() noexcept;

    const char* name_;
    Instant began_;
    char detail_[kDetailBytes];
  };

 private:
  static inline std::atomic<bool> on_{false};
};

}  // namespace evlua
