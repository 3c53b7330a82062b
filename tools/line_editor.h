// Lines that are typed at a terminal: edited, completed, remembered. libedit underneath.
//
// libedit waits inside of a key's sequence of bytes (Escape may begin one), so it is not driven by a worker when bytes
// have come: `read` blocks a thread of the blocking pool. Wherever it waits for a key, others can wake it, and may have
// the terminal for what they print.
#pragma once

#include <histedit.h>
#include <termios.h>

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
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
  /// The line being edited is given up: `read` returns, or the next one does at once. [any thread]
  void interrupt() noexcept { wake(interrupted_); }
  /// True: `read` does not, as it has just read a line. REQUIRES: nobody is reading.
  bool take_interrupt() noexcept { return interrupted_.exchange(false); }
  /// The terminal may have changed, or something may have written to it. [any thread]
  void refresh() noexcept { wake(stale_); }
  /// For who writes to the terminal: waits until nothing is being drawn, keeps it so until `show`, and takes the line
  /// being edited away. [any thread]
  void hide();
  /// The same where that needs no wait: no line is there. [any thread]
  bool try_hide() noexcept;
  /// The last of the writers lets the line be drawn again, below what was written; `last` ends that. [any thread]
  void show(char last) noexcept;
  /// Forgets what has been typed ahead. [any thread]
  void drop_input() noexcept;
  /// The terminal becomes as it was when the editor was made. [any thread]
  void restore() noexcept;

 private:
  static constexpr int kLinesMax = 1000;  // of the history

  void open();
  void load_history();
  void remember(const std::string& line);
  Line read_line();
  bool wait_for_key();
  bool wait_for_bytes();
  int next_byte(char& byte);
  void begin_drawing();
  void end_drawing();
  void lend_screen();
  void take_screen();
  void begin_line();
  std::string how_to_hide();
  std::string capability(const char* name);
  void ring() noexcept;
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

  std::mutex lock_;  // of what follows
  std::condition_variable changed_;
  bool drawing_ = false;         // the terminal is the editor's
  int writers_ = 0;              // it is theirs
  bool shown_ = false;           // a line is, and is not being drawn
  bool hidden_ = false;          // it was, and is to be drawn again
  bool ends_in_a_line_ = false;  // what was written last has no newline at its end
  std::string hiding_;           // what takes the line away
};

/// Where lines are kept: evlua/history in $XDG_STATE_HOME or ~/.local/state; empty if there is no home.
std::string history_path();

}  // namespace evlua::tools
