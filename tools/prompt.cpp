#include "tools/prompt.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <optional>
#include <semaphore>
#include <string>
#include <utility>

#include "core/blocking.h"
#include "core/worker.h"
#include "lua/bridge.h"
#include "lua/io_file.h"
#include "lua/signals.h"
#include "lua/stack.h"
#include "lua/task_handle.h"
#include "lua/vm.h"
#include "tools/line_editor.h"

namespace evlua::tools {

namespace {

using lua::Vm;

const char kCompleter = 0;  // registry keys
const char kRunning = 0;

/// Never destroyed: its thread may be reading when the process ends.
std::atomic<LineEditor*> editor{nullptr};

std::atomic<bool> begun{false};

/// What SIGINT is about. [strand]
bool something_runs = false;
bool run_interrupted = false;
bool signal_settled = false;  // that is on its way: it has ended what was stuck

/// What tasks print while a line is being typed.
class Screen final : public lua::SharedScreen {
 public:
  bool try_take() noexcept override { return editor.load()->try_hide(); }
  void take() override { editor.load()->hide(); }
  void give_back(char last) noexcept override { editor.load()->show(last); }
};

/// A question of the editor's thread, answered on the strand.
struct Question : Runnable {
  Vm* vm = nullptr;
  const std::string* before = nullptr;
  LineEditor::Completion answer;
  std::binary_semaphore answered{0};
};

std::string take_text(lua_State* L, int index) {
  std::size_t size = 0;
  const char* text = lua_tolstring(L, index, &size);
  return text != nullptr ? std::string(text, size) : std::string();
}

void answer(Question& question) {
  lua_State* L = question.vm->main_state();
  const int top = lua_gettop(L);
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &kCompleter) == LUA_TFUNCTION) {
    lua_pushlstring(L, question.before->data(), question.before->size());
    if (lua::pcall_briefly(L, 1, 2) == LUA_OK) question.answer = {take_text(L, -2), take_text(L, -1)};
  }
  lua_settop(L, top);
}

LineEditor::Completion ask(Vm& vm, const std::string& before) {
  Question question;
  question.vm = &vm;
  question.before = &before;
  question.run = [](Runnable& self) noexcept {
    auto& asked = static_cast<Question&>(self);
    answer(asked);
    asked.answered.release();
  };
  vm.strand().enqueue(question);
  question.answered.acquire();
  return std::move(question.answer);
}

Task<Result<LineEditor::Line>> read_from(LineEditor* from, const char* prompt) {
  const std::string shown = prompt;
  auto call = blocking(
      Worker::current().pool(), [&] { return from->read(shown); }, PoolJob::Class::slow);
  std::optional<LineEditor::Line> line = co_await call;
  if (!line) co_return fail(ECANCELED, OpCode::read);
  co_return std::move(*line);
}

struct PushLine {
  static const char* subject() { return nullptr; }
  int operator()(lua_State* L, LineEditor::Line& line) const {
    static const char* const kinds[] = {"text", "interrupted", "end"};
    lua_pushstring(L, kinds[static_cast<int>(line.kind)]);
    lua_pushlstring(L, line.text.data(), line.text.size());
    return 2;
  }
};

int read_line(lua_State* L) {
  const char* prompt = luaL_checkstring(L, 1);  // stays on the stack while this waits
  lua::forget_signal_handler(Vm::of(L), SIGINT);
  LineEditor* from = editor.load();
  return lua::suspend_task<LineEditor::Line>(
      L, [=] { return read_from(from, prompt); }, PushLine());
}

int refresh(lua_State* /*L*/) {
  editor.load()->refresh();
  return 0;
}

int begin(lua_State* L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_settop(L, 1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &kCompleter);
  Vm::of(L).running()->spare();
  begun.store(true);
  return 0;
}

int run(lua_State* L) {
  luaL_checktype(L, 1, LUA_TUSERDATA);
  lua_settop(L, 1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &kRunning);
  something_runs = true;
  run_interrupted = false;
  if (editor.load()->take_interrupt()) interrupt_prompt(Vm::of(L));
  return 0;
}

int has_run(lua_State* L) {
  lua_pushnil(L);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &kRunning);
  something_runs = false;
  signal_settled = Vm::of(L).stuck_condemned() != nullptr;
  lua_pushboolean(L, run_interrupted || signal_settled ? 1 : 0);
  return 1;
}

}  // namespace

bool at_terminal() { return ::isatty(STDIN_FILENO) != 0 && ::isatty(STDOUT_FILENO) != 0; }

int open_prompt(lua_State* L) {
  Vm* vm = &Vm::of(L);
  editor.store(new LineEditor(history_path(), [vm](const std::string& before) { return ask(*vm, before); }));
  static Screen screen;
  vm->io().screen = &screen;
  const luaL_Reg functions[] = {{"begin", begin},     {"read_line", read_line}, {"run", run},
                                {"has_run", has_run}, {"refresh", refresh},     {nullptr, nullptr}};
  luaL_newlib(L, functions);
  return 1;
}

bool prompt_has_begun() noexcept { return begun.load(); }

void interrupt_prompt(Vm& vm) {
  if (std::exchange(signal_settled, false)) return;
  if (!something_runs) {
    editor.load()->interrupt();
    return;
  }
  run_interrupted = true;
  editor.load()->drop_input();
  lua_State* L = vm.main_state();
  lua_rawgetp(L, LUA_REGISTRYINDEX, &kRunning);
  lua::interrupt_task(*static_cast<lua::TaskHandle*>(lua_touserdata(L, -1)));
  lua_pop(L, 1);
}

void restore_terminal() {
  if (LineEditor* opened = editor.load()) opened->restore();
}

}  // namespace evlua::tools
