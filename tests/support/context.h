// A stack of its own for a body of code: several can take turns on one thread, and the sanitizers know of it.
#pragma once

#include <ucontext.h>

#include <cstddef>
#include <memory>

#include "core/check.h"

#if EVLUA_ASAN
#include <sanitizer/common_interface_defs.h>
#endif
#if EVLUA_TSAN
#include <sanitizer/tsan_interface.h>
#endif

namespace evlua::test {

class Context {
 public:
  /// The calling thread's own stack: something to come back to.
  Context() {
#if EVLUA_TSAN
    tsan_fiber_ = __tsan_get_current_fiber();
#endif
  }

  /// Runs `entry` when it is switched to for the first time. `entry` calls entered() first and never returns.
  Context(std::size_t stack_bytes, void (*entry)()) : owns_stack_(true) { prepare(stack_bytes, entry); }

  ~Context() {
#if EVLUA_TSAN
    if (owns_stack_) __tsan_destroy_fiber(tsan_fiber_);
#endif
  }
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  /// The first thing on a new stack. `from` is who switched to it, where that is a thread's own stack.
  static void entered([[maybe_unused]] Context& from) noexcept {
#if EVLUA_ASAN
    const void* bottom = nullptr;
    std::size_t bytes = 0;
    __sanitizer_finish_switch_fiber(nullptr, &bottom, &bytes);
    if (!from.owns_stack_) {
      from.stack_bottom_ = bottom;
      from.stack_bytes_ = bytes;
    }
#endif
  }

  static void switch_to(Context& from, Context& to) noexcept {
#if EVLUA_ASAN
    __sanitizer_start_switch_fiber(&from.fake_stack_, to.stack_bottom_, to.stack_bytes_);
#endif
#if EVLUA_TSAN
    __tsan_switch_to_fiber(to.tsan_fiber_, 0);
#endif
    swap_machines(from.machine_, to.machine_);
#if EVLUA_ASAN
    __sanitizer_finish_switch_fiber(from.fake_stack_, nullptr, nullptr);
#endif
  }

 private:
  // Not inlined: the compiler must treat whatever surrounds getcontext as if it returned twice.
  [[gnu::noinline]] void prepare(std::size_t stack_bytes, void (*entry)()) {
    stack_ = std::make_unique_for_overwrite<std::byte[]>(stack_bytes);
    stack_bottom_ = stack_.get();
    stack_bytes_ = stack_bytes;
    EVLUA_CHECK(::getcontext(&machine_) == 0);
    machine_.uc_stack.ss_sp = stack_.get();
    machine_.uc_stack.ss_size = stack_bytes;
    ::makecontext(&machine_, entry, 0);
#if EVLUA_TSAN
    tsan_fiber_ = __tsan_create_fiber(0);
#endif
  }

  [[gnu::noinline]] static void swap_machines(ucontext_t& from, ucontext_t& to) noexcept {
#if EVLUA_ASAN
    // AddressSanitizer warns of swapcontext on sight, although the switches are announced to it.
    volatile bool resumed = false;
    ::getcontext(&from);
    if (resumed) return;
    resumed = true;
    ::setcontext(&to);
#else
    ::swapcontext(&from, &to);
#endif
  }

  ucontext_t machine_{};
  bool owns_stack_ = false;
  std::unique_ptr<std::byte[]> stack_;
  [[maybe_unused]] const void* stack_bottom_ = nullptr;  // for AddressSanitizer
  [[maybe_unused]] std::size_t stack_bytes_ = 0;
  [[maybe_unused]] void* fake_stack_ = nullptr;
  [[maybe_unused]] void* tsan_fiber_ = nullptr;
};

}  // namespace evlua::test
