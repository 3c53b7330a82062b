#include "tools/generation.h"

#include <utility>

#include "core/event.h"
#include "lua/fiber.h"
#include "tools/runtime.h"

namespace evlua::tools {

using lua::HttpApp;
using lua::Vm;

Task<Generation::Loaded> Generation::load(Scheduler& scheduler, const Options& options, bool first) {
  std::unique_ptr<Generation> made(new Generation);
  std::string failure;
  for (unsigned worker = 0; worker < scheduler.worker_count() && failure.empty(); ++worker) {
    std::vector<HttpApp*> apps;
    for (unsigned index = 0; index < options.vms && failure.empty(); ++index) {
      Instance instance;
      instance.vm = Vm::create(scheduler, options.vm);
      if (instance.vm == nullptr) {
        failure = "not enough memory for a Lua state";
        break;
      }
      instance.vm->on_exit = [](int code) { leave(code); };
      instance.app = std::make_unique<HttpApp>(*instance.vm, options.app_options);
      HttpApp& app = *instance.app;
      apps.push_back(&app);
      const bool leads = made->instances_.empty();
      made->instances_.push_back(std::move(instance));
      std::string path = options.app;
      const auto once = !leads ? HttpApp::Once::ignore : first ? HttpApp::Once::start_and_stop : HttpApp::Once::stop;
      auto loaded = co_await app.load(std::move(path), once);
      if (!loaded) failure = std::move(loaded.error());
    }
    made->pools_.push_back(std::make_unique<lua::HttpPool>(std::move(apps), options.admission));
  }
  if (failure.empty()) co_return Loaded(std::move(made));
  for (const Instance& instance : made->instances_) co_await cancel_tasks(*instance.vm);
  co_return Loaded(tl::unexpected(std::move(failure)));
}

/// Tasks that handlers left running end with the server.
Task<void> Generation::cancel_tasks(Vm& vm) {
  struct Cancel : Runnable {
    Vm* vm;
    Event done;
  } cancel;
  cancel.vm = &vm;
  cancel.run = [](Runnable& self) noexcept {
    auto& here = static_cast<Cancel&>(self);
    here.vm->for_each_live([](lua::Fiber& fiber) { fiber.cancel(OpStop::cancelled); });
    here.done.set();
  };
  vm.strand().enqueue(cancel);
  (void)co_await cancel.done.wait();
  (void)co_await vm.idle().wait();
}

Task<void> Generation::end(Instant deadline, bool last) {
  for (const Instance& instance : instances_) co_await instance.app->drain(deadline);
  // The first one last: its stop_once comes after every stop.
  for (auto instance = instances_.rbegin(); instance != instances_.rend(); ++instance) {
    co_await instance->app->stop(last);
    co_await cancel_tasks(*instance->vm);
  }
}

}  // namespace evlua::tools
