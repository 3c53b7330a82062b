// Task<T>: a lazy coroutine. It starts when it is awaited (or started, or spawned into a TaskScope), runs on its
// context's executor, and hands its result to the one that awaits it.
//
// Rules: await a task once, as an rvalue. Whoever owns the Task object keeps it alive until it has ended. A task
// inherits the context (executor, cancellation, deadline) of the coroutine that awaits it.
#pragma once

#include <coroutine>
#include <optional>
#include <type_traits>
#include <utility>

#include "core/check.h"
#include "core/frame_pool.h"
#include "core/runnable.h"
#include "core/time.h"

struct lua_State;

namespace evlua {

class CancelState;

/// What a chain of awaiting coroutines shares.
struct TaskContext {
  Executor* home = nullptr;       ///< where the chain resumes after a wait
  CancelState* cancel = nullptr;  ///< may be null: the chain cannot be cancelled
  Instant deadline = kNever;      ///< no wait of the chain lasts longer
};

/// An exception left a task: reports it and aborts, since exceptions are for broken invariants only.
[[noreturn]] void task_threw() noexcept;

class PromiseBase {
 public:
  static void* operator new(std::size_t size) { return frame_allocate(size); }
  static void operator delete(void* frame, std::size_t size) noexcept { frame_free(frame, size); }

  std::suspend_always initial_suspend() const noexcept { return {}; }
  auto final_suspend() const noexcept { return FinalAwaiter{}; }
  [[noreturn]] void unhandled_exception() const noexcept { task_threw(); }

  TaskContext context;
  std::coroutine_handle<> continuation;  ///< resumed when the task ends
  Runnable* finished = nullptr;          ///< or called inline when it ends; it may destroy the task

 private:
  struct FinalAwaiter {
    bool await_ready() const noexcept { return false; }
    template <class Promise>
    std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> ended) const noexcept {
      PromiseBase& promise = ended.promise();
      if (promise.continuation) return promise.continuation;
      Runnable* waiter = promise.finished;
      if (waiter != nullptr) waiter->run(*waiter);
      return std::noop_coroutine();
    }
    void await_resume() const noexcept {}
  };
};

namespace detail {

// A Lua state may be touched only on its VM's strand; a coroutine that took one would keep it across a wait.
template <class... Parameters>
inline constexpr bool takes_no_lua_state = (!std::is_same_v<std::remove_cvref_t<Parameters>, ::lua_State*> && ...);

template <class T>
class Promise : public PromiseBase {
 public:
  template <class... Parameters>
  explicit Promise(const Parameters&...) noexcept {
    static_assert(takes_no_lua_state<Parameters...>, "a coroutine must not take a lua_State*");
  }
  std::coroutine_handle<Promise> get_return_object() noexcept {
    return std::coroutine_handle<Promise>::from_promise(*this);
  }
  template <class U>
  requires std::is_constructible_v<T, U&&>
  void return_value(U&& value) { value_.emplace(std::forward<U>(value)); }
  T take() { return std::move(*value_); }

 private:
  std::optional<T> value_;
};

template <>
class Promise<void> : public PromiseBase {
 public:
  template <class... Parameters>
  explicit Promise(const Parameters&...) noexcept {
    static_assert(takes_no_lua_state<Parameters...>, "a coroutine must not take a lua_State*");
  }
  std::coroutine_handle<Promise> get_return_object() noexcept {
    return std::coroutine_handle<Promise>::from_promise(*this);
  }
  void return_void() const noexcept {}
  void take() const noexcept {}
};

}  // namespace detail

template <class T = void>
class [[nodiscard]] Task {
 public:
  using promise_type = detail::Promise<T>;
  using Handle = std::coroutine_handle<promise_type>;

  Task() = default;
  Task(Handle handle) noexcept : handle_(handle) {}  // implicit: made by get_return_object
  Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Task& operator=(Task&& other) noexcept {
    if (this != &other) {
      reset();
      handle_ = std::exchange(other.handle_, nullptr);
    }
    return *this;
  }
  ~Task() { reset(); }

  explicit operator bool() const noexcept { return static_cast<bool>(handle_); }

  /// Destroys the coroutine. REQUIRES: it has not started, or it has ended.
  void reset() noexcept {
    if (handle_) std::exchange(handle_, nullptr).destroy();
  }

  /// Starts a task from outside a coroutine, at once, on this thread. `finished` is called inline when it ends, on
  /// whichever thread that is; it may destroy this Task.
  void start(const TaskContext& context, Runnable& finished) noexcept {
    handle_.promise().context = context;
    handle_.promise().finished = &finished;
    handle_.resume();
  }

  /// The result of an ended task, for those who used `start`.
  T take() { return handle_.promise().take(); }
  bool done() const noexcept { return handle_.done(); }

  auto operator co_await() && noexcept { return Awaiter{handle_}; }

 private:
  struct Awaiter {
    Handle handle;
    bool await_ready() const noexcept { return false; }
    template <class Awaiting>
    std::coroutine_handle<> await_suspend(std::coroutine_handle<Awaiting> awaiting) noexcept {
      handle.promise().context = awaiting.promise().context;
      handle.promise().continuation = awaiting;
      return handle;
    }
    T await_resume() { return handle.promise().take(); }
  };

  Handle handle_;
};

/// The context of the coroutine that awaits this: `TaskContext& context = co_await current_context();`
/// Changing it affects this coroutine and what it awaits afterwards, never its caller.
class CurrentContext {
 public:
  bool await_ready() const noexcept { return false; }
  template <class Awaiting>
  bool await_suspend(std::coroutine_handle<Awaiting> awaiting) noexcept {
    context_ = &awaiting.promise().context;
    return false;
  }
  TaskContext& await_resume() const noexcept { return *context_; }

 private:
  TaskContext* context_ = nullptr;
};

inline CurrentContext current_context() noexcept { return {}; }

}  // namespace evlua
