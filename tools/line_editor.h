// Lines that are typed at a terminal: edited, completed, remembered. libedit underneath.
//
// libedit waits inside of a key's sequence of bytes (Escape may begin one), so it is not driven by a worker when bytes
// have come: `read` blocks a thread of the blocking pool. Wherever it waits for a key, others can wake it.
#pragma once

#include <histedit.h>
#include <termios.h>

#include <atomic>
#include <functional>
#include <string>

namespace evlua::tools {

class LineEditor {
 public:
  struct Line {
    enum class Kind { text, interrupted, end };
    Kind kind = Kind::end;
    std::string text;  ///< without the newline
  };
  struct Completion {
    std::string insert;   ///< what follows at the cursor
    std::string choices;  ///< lines to show, when there are several
  };
  /// What could follow that text. Called by `read`, on its thread.
  using Complete = std::function<Completion(const std::string& before)>;

  /// `history_path`: file for the lines of this and earlier sessions; empty: none.
  LineEditor(std::string history_path, Complete complete);
  LineEditor(const LineEditor&) = delete;
  LineEditor& operator=(const LineEditor&) = delete;

  /// Waits for a line. REQUIRES: one call at a time.
  Line read(const std::string& prompt);
  /// The line being edited is given up: `read` returns. [any thread]
  void interrupt() noexcept { wake(interrupted_); }
  /// The terminal may have changed, or something may have written to it. [any thread]
  void refresh() noexcept { wake(stale_); }
  /// Forgets what has been typed ahead. [any thread]
  void drop_input() noexcept;
  /// The terminal becomes as it was when the editor was made. [any thread]
  void restore() noexcept;

 private:
  static constexpr int kLinesMax = 1000;  // of the history

  void open();
  void load_history();
  void remember(const std::string& line);
  bool wait_for_key();
  int next_byte(char& byte);
  void wake(std::atomic<bool>& why) noexcept;
  static int next_key(EditLine* editor, wchar_t* key);
  static unsigned char complete_here(EditLine* editor, int key);
  static LineEditor& of(EditLine* editor);

  const std::string history_path_;
  const Complete complete_;
  std::string prompt_;
  EditLine* editor_ = nullptr;
  History* history_ = nullptr;
  termios before_{};
  bool is_terminal_ = false;
  int wake_fd_ = -1;
  std::atomic<bool> interrupted_{false};
  std::atomic<bool> stale_{false};
};

/// Where lines are kept: evlua/history in $XDG_STATE_HOME or ~/.local/state; empty if there is no home.
std::string history_path();

}  // namespace evlua::tools
