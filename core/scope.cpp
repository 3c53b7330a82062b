#include "core/scope.h"

namespace evlua {

struct TaskScope::Child : ListNode, Runnable {
  Child(TaskScope& owner, Executor& executor, Task<void> work) noexcept
      : scope(owner), home(executor), task(std::move(work)) {}

  static void* operator new(std::size_t size) { return frame_allocate(size); }
  static void operator delete(void* memory, std::size_t size) noexcept { frame_free(memory, size); }

  TaskScope& scope;
  Executor& home;
  Task<void> task;
  CancelState cancel;
};

TaskScope::~TaskScope() { EVLUA_CHECK(count_ == 0); }

void TaskScope::spawn(Task<void> task) { spawn_on(home_, std::move(task)); }

void TaskScope::spawn_on(Executor& home, Task<void> task) {
  auto* child = new Child(*this, home, std::move(task));
  child->run = [](Runnable& self) noexcept {
    auto& started = static_cast<Child&>(self);
    started.run = [](Runnable& ended) noexcept {
      auto& finished = static_cast<Child&>(ended);
      finished.scope.child_ended(finished);
    };
    started.task.start(TaskContext{&started.home, &started.cancel, started.scope.deadline_}, started);
  };
  lock_.lock();
  children_.push_back(*child);
  ++count_;
  const OpStop why = why_;
  lock_.unlock();
  if (why != OpStop::none) child->cancel.request(why);
  home.enqueue(*child);
}

void TaskScope::child_ended(Child& child) noexcept {
  child.task.reset();
  lock_.lock();
  List<Child>::erase(child);
  Join* joiner = --count_ == 0 ? std::exchange(joiner_, nullptr) : nullptr;
  lock_.unlock();  // without a joiner the scope may be gone from here on
  delete &child;
  if (joiner != nullptr) joiner->home_->enqueue(*joiner);
}

void TaskScope::cancel(OpStop why) noexcept {
  lock_.lock();
  if (why_ == OpStop::none) why_ = why;
  // Under the lock: a child that ends meanwhile waits for it before it goes.
  children_.for_each([&](Child& child) { child.cancel.request(why); });
  lock_.unlock();
}

std::size_t TaskScope::size() noexcept {
  lock_.lock();
  const std::size_t count = count_;
  lock_.unlock();
  return count;
}

bool TaskScope::Join::begin(const TaskContext& context) noexcept {
  run = [](Runnable& self) noexcept { static_cast<Join&>(self).handle_.resume(); };
  home_ = context.home;
  if (context.cancel != nullptr) {
    scope_.request_stop = [](CancelTarget& self, OpStop why) noexcept { static_cast<TaskScope&>(self).cancel(why); };
    if (context.cancel->arm(scope_)) {
      cancel_ = context.cancel;
    } else {
      scope_.cancel(context.cancel->why());
    }
  }
  scope_.lock_.lock();
  const bool waits = scope_.count_ != 0;
  if (waits) scope_.joiner_ = this;
  scope_.lock_.unlock();
  return waits;
}

}  // namespace evlua
