#include "tools/line_editor.h"

#include <locale.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cwchar>
#include <filesystem>
#include <utility>

namespace evlua::tools {

namespace {

/// Keys are UTF-8 while it lives, for this thread only: what Lua does with letters stays as it is.
class Utf8 {
 public:
  Utf8() : before_(::uselocale(locale())) {}
  ~Utf8() { ::uselocale(before_); }
  Utf8(const Utf8&) = delete;
  Utf8& operator=(const Utf8&) = delete;

 private:
  static locale_t locale() {
    static const locale_t utf8 = ::newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr);
    return utf8 != nullptr ? utf8 : LC_GLOBAL_LOCALE;
  }

  const locale_t before_;
};

}  // namespace

std::string history_path() {
  const char* state = std::getenv("XDG_STATE_HOME");
  if (state != nullptr && *state == '/') return std::string(state) + "/evlua/history";
  const char* home = std::getenv("HOME");
  if (home == nullptr || *home != '/') return {};
  return std::string(home) + "/.local/state/evlua/history";
}

LineEditor::LineEditor(std::string history_path, Complete complete)
    : history_path_(std::move(history_path)), complete_(std::move(complete)) {
  is_terminal_ = ::tcgetattr(STDIN_FILENO, &before_) == 0;
  wake_fd_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

LineEditor& LineEditor::of(EditLine* editor) {
  void* self = nullptr;
  ::el_get(editor, EL_CLIENTDATA, &self);
  return *static_cast<LineEditor*>(self);
}

void LineEditor::open() {
  editor_ = ::el_init("evlua", stdin, stdout, stderr);
  if (editor_ == nullptr) return;
  ::el_set(editor_, EL_CLIENTDATA, this);
  const auto prompt = [](EditLine* editor) { return of(editor).prompt_.data(); };
  ::el_set(editor_, EL_PROMPT, static_cast<char* (*)(EditLine*)>(prompt));
  ::el_set(editor_, EL_EDITOR, "emacs");
  ::el_set(editor_, EL_GETCFN, &LineEditor::next_key);
  ::el_set(editor_, EL_ADDFN, "evlua-complete", "Complete a name", &LineEditor::complete_here);
  ::el_set(editor_, EL_BIND, "^I", "evlua-complete", nullptr);
  ::el_set(editor_, EL_BIND, "^R", "em-inc-search-prev", nullptr);
  // The kernel's own flush comes behind its signal, and takes what we have answered by then along.
  for (const char* mode : {"-d", "-x"}) ::el_set(editor_, EL_SETTY, mode, "+noflsh", nullptr);
  load_history();
  ::el_source(editor_, nullptr);  // ~/.editrc
}

LineEditor::Line LineEditor::read(const std::string& prompt) {
  const Utf8 utf8;
  prompt_ = prompt;
  begin_drawing();
  begin_line();
  Line line = read_line();
  end_drawing();
  return line;
}

LineEditor::Line LineEditor::read_line() {
  if (editor_ == nullptr) open();
  if (editor_ == nullptr) return {};
  ::el_resize(editor_);
  ::el_set(editor_, EL_PREP_TERM, 1);  // in front of the prompt: what is typed as soon as it is seen is a key
  int count = 0;
  const char* text = ::el_gets(editor_, &count);
  if (interrupted_.exchange(false)) {
    ::el_reset(editor_);
    drop_input();
    std::fputs("^C\n", stdout);
    std::fflush(stdout);
    return {Line::Kind::interrupted, {}};
  }
  if (text == nullptr || count <= 0) {
    std::fputs("\n", stdout);
    std::fflush(stdout);
    return {};
  }
  Line line{Line::Kind::text, std::string(text, static_cast<std::size_t>(count))};
  while (line.text.ends_with('\n') || line.text.ends_with('\r')) line.text.pop_back();
  remember(line.text);
  return line;
}

// -- keys -------------------------------------------------------------------------------------------------------------

void LineEditor::ring() noexcept {
  const std::uint64_t one = 1;
  (void)!::write(wake_fd_, &one, sizeof one);
}

void LineEditor::wake(std::atomic<bool>& why) noexcept {
  why.store(true);
  ring();
}

/// Until there is input, or somebody has something to say: then false.
bool LineEditor::wait_for_bytes() {
  pollfd fds[] = {{STDIN_FILENO, POLLIN, 0}, {wake_fd_, POLLIN, 0}};
  while (::poll(fds, 2, -1) < 0) {
    if (errno != EINTR) return true;  // reading tells what is wrong
  }
  if (fds[1].revents != 0) {
    std::uint64_t count = 0;
    (void)!::read(wake_fd_, &count, sizeof count);
  }
  return fds[0].revents != 0;
}

/// False: the line is given up.
bool LineEditor::wait_for_key() {
  while (true) {
    lend_screen();
    const bool has_come = wait_for_bytes();
    take_screen();
    if (interrupted_.load()) return false;
    if (stale_.exchange(false)) {
      ::el_set(editor_, EL_PREP_TERM, 1);
      ::el_resize(editor_);
      ::el_set(editor_, EL_REFRESH);
    }
    if (has_come) return true;
  }
}

int LineEditor::next_byte(char& byte) {
  if (!wait_for_key()) return -1;
  return static_cast<int>(::read(STDIN_FILENO, &byte, 1));
}

/// 1, or 0 at the end of input, or -1.
int LineEditor::next_key(EditLine* editor, wchar_t* key) {
  LineEditor& self = of(editor);
  std::mbstate_t state{};
  while (true) {
    char byte = 0;
    const int got = self.next_byte(byte);
    if (got <= 0) return got;
    const std::size_t used = std::mbrtowc(key, &byte, 1, &state);
    if (used == static_cast<std::size_t>(-2)) continue;  // not the whole of it
    if (used != static_cast<std::size_t>(-1)) return 1;
    state = {};  // no UTF-8: that byte is left out
  }
}

unsigned char LineEditor::complete_here(EditLine* editor, int /*key*/) {
  LineEditor& self = of(editor);
  const LineInfo* line = ::el_line(editor);
  const std::string before(line->buffer, line->cursor);
  self.lend_screen();  // who is asked may be waiting for it
  const Completion found = self.complete_(before);
  self.take_screen();
  if (!found.insert.empty()) {
    ::el_insertstr(editor, found.insert.c_str());
    return CC_REFRESH;
  }
  if (found.choices.empty()) return CC_REFRESH_BEEP;
  std::printf("\n%s", found.choices.c_str());
  std::fflush(stdout);
  return CC_REDISPLAY;
}

void LineEditor::drop_input() noexcept {
  if (is_terminal_) ::tcflush(STDIN_FILENO, TCIFLUSH);
}

void LineEditor::restore() noexcept {
  if (is_terminal_) ::tcsetattr(STDIN_FILENO, TCSANOW, &before_);
}

// -- what others print ------------------------------------------------------------------------------------------------

void LineEditor::hide() {
  std::unique_lock guard(lock_);
  changed_.wait(guard, [this] { return !drawing_; });
  ++writers_;
  if (!std::exchange(shown_, false)) return;
  hidden_ = true;
  (void)!::write(STDOUT_FILENO, hiding_.data(), hiding_.size());
}

bool LineEditor::try_hide() noexcept {
  const std::lock_guard guard(lock_);
  if (drawing_ || shown_) return false;
  ++writers_;
  return true;
}

void LineEditor::show(char last) noexcept {
  const std::lock_guard guard(lock_);
  ends_in_a_line_ = last != '\n';
  if (--writers_ > 0) return;
  changed_.notify_all();
  if (hidden_) ring();
}

void LineEditor::begin_drawing() {
  std::unique_lock guard(lock_);
  changed_.wait(guard, [this] { return writers_ == 0; });
  drawing_ = true;
  shown_ = false;
}

void LineEditor::end_drawing() {
  const std::lock_guard guard(lock_);
  drawing_ = false;
  changed_.notify_all();
}

/// While the line stays as it is.
void LineEditor::lend_screen() {
  hiding_ = how_to_hide();
  shown_ = true;
  end_drawing();
}

void LineEditor::take_screen() {
  begin_drawing();
  if (!std::exchange(hidden_, false)) return;
  begin_line();
  ::el_set(editor_, EL_REFRESH);
}

/// What stood in front of what the editor draws would be taken away with it: that begins in the first column.
void LineEditor::begin_line() {
  if (std::exchange(ends_in_a_line_, false)) std::fputs("\n", stdout);
}

/// Without what it says of waiting.
std::string LineEditor::capability(const char* name) {
  const char* text = nullptr;
  if (::el_get(editor_, EL_GETTC, name, &text) != 0 || text == nullptr) return {};
  const std::string whole = text;
  return whole.substr(0, whole.find("$<"));
}

namespace {

/// The cell behind a character that is drawn at `cell`, counted from where the prompt begins.
int cell_behind(int cell, wchar_t character, int columns) {
  constexpr int kEscaped = 8;  // \U+12345
  if (character == L'\t') return cell + 8 - cell % 8;
  if (character < L' ' || character == 0x7f) return cell + 2;  // ^A
  const int width = ::wcwidth(character);
  if (width < 0) return cell + kEscaped;
  const int left = columns - cell % columns;
  return width > left ? cell + left + width : cell + width;
}

}  // namespace

/// To where the prompt begins, and all away behind that; where a terminal cannot, the next line.
std::string LineEditor::how_to_hide() {
  const std::string up = capability("up");
  const std::string clear = capability("cd");
  int columns = 0;
  if (up.empty() || clear.empty() || ::el_get(editor_, EL_GETTC, "co", &columns) != 0 || columns < 1) return "\n";
  int cell = static_cast<int>(prompt_.size());
  const LineInfoW* line = ::el_wline(editor_);
  for (const wchar_t* at = line->buffer; at < line->cursor; ++at) cell = cell_behind(cell, *at, columns);
  std::string text = "\r";
  for (int row = cell / columns; row > 0; --row) text += up;
  return text + clear;
}

// -- history ----------------------------------------------------------------------------------------------------------

void LineEditor::load_history() {
  history_ = ::history_init();
  if (history_ == nullptr) return;
  HistEvent event;
  ::history(history_, &event, H_SETSIZE, kLinesMax);
  ::history(history_, &event, H_SETUNIQUE, 1);
  ::el_set(editor_, EL_HIST, &::history, history_);
  if (!history_path_.empty()) ::history(history_, &event, H_LOAD, history_path_.c_str());
}

/// Keeps it on disk as well, if that can be: a session is none the worse without.
void LineEditor::remember(const std::string& line) {
  if (history_ == nullptr || line.find_first_not_of(" \t") == std::string::npos) return;
  HistEvent event;
  ::history(history_, &event, H_ENTER, line.c_str());
  if (history_path_.empty()) return;
  std::error_code failed;
  const std::filesystem::path path(history_path_);
  if (std::filesystem::create_directories(path.parent_path(), failed)) {
    std::filesystem::permissions(path.parent_path(), std::filesystem::perms::owner_all, failed);
  }
  const std::string written = history_path_ + "." + std::to_string(::getpid());
  if (::history(history_, &event, H_SAVE, written.c_str()) >= 0) {
    std::filesystem::rename(written, path, failed);
  }
  if (failed) std::filesystem::remove(written, failed);
}

}  // namespace evlua::tools
