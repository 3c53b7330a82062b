// Checks that stay on in release builds. A failed check is a broken invariant: the process reports it and aborts.
#pragma once

#if defined(__SANITIZE_THREAD__)
#define EVLUA_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define EVLUA_TSAN 1
#endif
#endif
#ifndef EVLUA_TSAN
#define EVLUA_TSAN 0
#endif

#if defined(__SANITIZE_ADDRESS__)
#define EVLUA_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define EVLUA_ASAN 1
#endif
#endif
#ifndef EVLUA_ASAN
#define EVLUA_ASAN 0
#endif

namespace evlua {

/// Writes one line to standard error and aborts. [any thread]
[[noreturn]] void check_failed(const char* condition, const char* file, int line) noexcept;

}  // namespace evlua

/// Always on. `EVLUA_CHECK(x)` aborts with file and line when `x` is false.
#define EVLUA_CHECK(condition) \
  (static_cast<bool>(condition) ? void(0) : ::evlua::check_failed(#condition, __FILE__, __LINE__))

/// On in builds without NDEBUG; for checks too dear for the hot path.
#ifdef NDEBUG
#define EVLUA_DCHECK(condition) (static_cast<void>(sizeof(static_cast<bool>(condition))))
#else
#define EVLUA_DCHECK(condition) EVLUA_CHECK(condition)
#endif

#define EVLUA_UNREACHABLE() ::evlua::check_failed("unreachable", __FILE__, __LINE__)
