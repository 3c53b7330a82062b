// Open files as Lua's io library knows them: what was read ahead, and what is still to be written.
//
// Writing is behind: what a program writes is put into a buffer, and a coroutine on the VM's strand hands it to the
// system while the program goes on. Who flushes or closes waits until that is done, and so does who is far ahead.
// Everything uses the descriptor's own position, as stdio does, since it may be shared with other processes.
//
// All on the VM's strand.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <utility>

#include "core/intrusive.h"
#include "core/lockfree/spin_lock.h"
#include "core/runnable.h"
#include "core/strand.h"
#include "core/task.h"

namespace evlua::lua {

class IoFiles;
class Vm;
struct FillWait;

/// Waits until so many bytes have been written, or none will be.
struct OutputWaiter : ListNode {
  std::uint64_t target = 0;
  void (*settled)(OutputWaiter&) noexcept = nullptr;
};

/// Who else writes to the terminal of the standard output and error: what is being typed there is taken away while
/// these are written, and drawn again below.
class SharedScreen {
 public:
  SharedScreen() = default;
  SharedScreen(const SharedScreen&) = delete;
  SharedScreen& operator=(const SharedScreen&) = delete;
  virtual ~SharedScreen() = default;

  /// Whether it could be had at once, since nothing is being typed. Any number of writers may have it. [any thread]
  virtual bool try_take() noexcept = 0;
  /// Blocks until nothing is being drawn, and takes away what is there. [a thread of the blocking pool]
  virtual void take() = 0;
  /// Once for each that has it. `last` is the last byte that was written. [any thread]
  virtual void give_back(char last) noexcept = 0;
};

/// Waits until nobody else is reading.
struct TurnWaiter : ListNode {
  void (*wake)(TurnWaiter&) noexcept = nullptr;
};

/// Bytes read from the system and not yet handed out. Taking is from the front and moves nothing.
class InputBuffer {
 public:
  InputBuffer() = default;
  InputBuffer(const InputBuffer&) = delete;
  InputBuffer& operator=(const InputBuffer&) = delete;
  ~InputBuffer();

  std::string_view view() const noexcept { return {data_ + begin_, end_ - begin_}; }
  void take(std::size_t size) noexcept { begin_ += size; }
  void clear() noexcept { begin_ = end_ = 0; }
  /// Room for more, some KiB, the more the more has come; null when there is no memory.
  char* grow() noexcept;
  std::size_t room() const noexcept { return capacity_ - end_; }
  void keep(std::size_t size) noexcept { end_ += size; }

 private:
  char* data_ = nullptr;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  std::size_t capacity_ = 0;
};

class IoFile final : public ListNode {
 public:
  enum class Buffering : std::uint8_t { none, line, full };

  /// What was appended and not written may grow beyond this by one call.
  static constexpr std::size_t kBehindMax = 256 * 1024;
  static constexpr std::size_t kBufferBytes = 64 * 1024;

  IoFile(IoFiles& files, int descriptor, bool can_read, bool can_write);
  /// REQUIRES: nothing is in flight.
  ~IoFile();

  // -- output -------------------------------------------------------------------------------------------------------

  void append(std::string_view bytes) { pending_.append(bytes); }
  /// After a call's last append: hands over what the buffering does not keep.
  void appended(std::size_t size, bool has_newline);
  /// Begins to write what is there. Errors are kept for take_error.
  void start_writing();
  /// As many bytes as were ever appended, and as were written (or given up).
  std::uint64_t appended_total() const noexcept { return written_ + flight_.size() + pending_.size(); }
  std::uint64_t written_total() const noexcept { return written_; }
  bool has_output() const noexcept { return !pending_.empty() || !flight_.empty(); }
  /// It is being written, or will be without being asked again.
  bool writing() const noexcept { return writing_ || starts_after_; }
  /// The errno of a write that failed since the last call, or 0.
  int take_error() noexcept { return std::exchange(error_, 0); }
  int error() const noexcept { return error_; }
  /// Waits by blocking this thread. REQUIRES: nothing else could wait.
  void write_now() noexcept;
  /// As much as the descriptor takes at once; the rest stays.
  void write_ready() noexcept;
  /// For a descriptor that others have, too: whether what they write moves where this one writes.
  void look_who_shares() noexcept;

  // -- data, for the library ------------------------------------------------------------------------------------------

  IoFiles& files;
  int fd;
  const bool readable;
  const bool writable;
  bool standard = false;  // not ours to close
  bool seekable = false;
  bool shared_position = false;  // of a regular file that others write to, too
  bool closed = false;
  bool close_waits = false;  // for the read in flight, and goes on then; else who reads gives the file up
  Buffering buffering = Buffering::full;
  std::size_t buffer_bytes = kBufferBytes;
  pid_t child = 0;  // of popen
  int child_fd = -1;
  std::FILE* stream = nullptr;  // for C modules; its own buffers stay empty unless they use it

  InputBuffer input;
  std::size_t searched = 0;  // of the input: known to hold no end of a line
  bool at_end = false;
  FillWait* filling = nullptr;  // the read in flight
  List<TurnWaiter> turns;
  List<OutputWaiter> output_waiters;

 private:
  friend class IoFiles;

  struct Ended : Runnable {
    IoFile* file = nullptr;
  };
  class AllWritten;

  Task<void> write_out();
  Task<int> write_flight();
  Task<int> write_flight_to(SharedScreen& screen);
  Task<std::int32_t> write_piece(std::string_view bytes);
  void write_failed(int error);
  void writer_ended();
  void tell_waiters(bool all);
  /// It is written, or given up.
  void drop_output(std::size_t size) noexcept;

  std::string pending_;
  std::string flight_;
  std::size_t flown_ = 0;  // of flight_
  std::uint64_t written_ = 0;
  int error_ = 0;
  bool writing_ = false;
  bool starts_after_ = false;  // when standard error has been written
  Task<void> writer_;
  Ended ended_;
};

/// All open files of a VM.
class IoFiles {
 public:
  explicit IoFiles(Vm& vm);
  ~IoFiles();
  IoFiles(const IoFiles&) = delete;
  IoFiles& operator=(const IoFiles&) = delete;

  Vm& vm() noexcept { return vm_; }
  Executor& home() noexcept { return home_; }

  /// Begins to write whatever has been buffered.
  void start_writing();
  /// Nothing is being written, and no child process is being waited for.
  bool quiet() noexcept { return busy_ == 0 && !home_.scheduled(); }
  /// Writes everything, and gives back what was read too much of standard input; blocks this thread: for the end of the
  /// program. [on the strand]
  void write_now() noexcept;
  /// As far as that is possible within a moment; the rest stays.
  void write_briefly() noexcept;
  /// From here on writing blocks: nothing could wait. Ends what is in flight. [outside of the strand, on a worker]
  void block() noexcept;
  /// The same, when what is in flight may stay so. [on the strand]
  void block_here() noexcept {
    write_now();
    blocks_ = true;
  }

  /// The handle of `file` is gone: writes what is left, closes, and forgets the file.
  void abandon(IoFile& file);

  /// What order is kept between: the standard output and error.
  IoFile* out = nullptr;
  IoFile* err = nullptr;
  /// Where the standard output and error are a terminal that a prompt draws on.
  SharedScreen* screen = nullptr;
  /// Standard output has no reader any more.
  void (*on_broken_output)() = nullptr;

 private:
  friend class IoFile;

  /// The strand, except that what came for it can be run in the middle of other things.
  class Home final : public Executor, private Runnable {
   public:
    Home(IoFiles& owner, Strand& strand) noexcept;
    void enqueue(Runnable& work) noexcept override;
    /// Runs what is there. False: there was nothing. [on the strand]
    bool run_now() noexcept;
    bool scheduled() noexcept;

   private:
    IoFiles& owner_;
    Strand& strand_;
    SpinLock lock_;
    Queue<Runnable> queue_;
    bool scheduled_ = false;
  };

  struct Detached;

  Task<void> end_of(IoFile& file);
  bool any_writing() noexcept;
  void look_for_ended(Duration pause) noexcept;

  Vm& vm_;
  Home home_;
  List<IoFile> files_;
  std::size_t busy_ = 0;
  bool blocks_ = false;
};

/// Closes a descriptor that a backend may know, soon.
void let_go(int fd) noexcept;
/// Ends the read in flight, if there is one.
void stop_filling(IoFile& file) noexcept;
/// fclose without closing the descriptor.
void release_stream(std::FILE* stream) noexcept;

}  // namespace evlua::lua
