// file:read and what is made of it. Formats are read from the buffer; whoever finds too little there waits for more,
// and begins the format again.
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstring>

#include "lua/io_handle.h"

namespace evlua::lua {

/// The read in flight of a file. Ends the turn of its reader as it ends.
struct FillWait : OpWait {
  FillWait(IoFile& from, char* room, std::size_t size) : OpWait(OpCode::read, from.fd, kNever), file(&from) {
    args.read = {room, static_cast<std::uint32_t>(size), -1};
    file->filling = this;
    finish = [](Suspension& self, lua_State*) {
      auto& wait = static_cast<FillWait&>(self);
      const std::int32_t got = wait.outcome();
      wait.release(got);
      return got < 0 ? static_cast<int>(got) : 0;
    };
  }
  ~FillWait() { release(-ECANCELED); }

  void release(std::int32_t got) noexcept {
    IoFile* from = std::exchange(file, nullptr);
    if (from == nullptr) return;
    from->filling = nullptr;
    if (got > 0) from->input.keep(static_cast<std::size_t>(got));
    if (got == 0) from->at_end = true;
    // All of them, in their order: those that find no turn wait again in that order.
    while (TurnWaiter* waiter = from->turns.pop_front()) waiter->wake(*waiter);
    if (from->closed && !from->close_waits) from->files.abandon(*from);
  }

  IoFile* file;
};

void stop_filling(IoFile& file) noexcept {
  if (file.filling != nullptr) Worker::cancel(*file.filling);
}

namespace {

/// Waits until nobody reads from the file.
struct TurnWait : Park, TurnWaiter {
  explicit TurnWait(IoFile& file) : Park(kNever) {
    TurnWaiter::wake = [](TurnWaiter& self) noexcept { static_cast<TurnWait&>(self).Park::wake(); };
    finish = [](Suspension& self, lua_State*) {
      auto& wait = static_cast<TurnWait&>(self);
      if (wait.linked()) List<TurnWaiter>::erase(wait);
      return wait.woken() ? 0 : -ECANCELED;
    };
    file.turns.push_back(*this);
  }
  ~TurnWait() {
    if (linked()) List<TurnWaiter>::erase(*this);
  }
};

enum class Outcome : std::uint8_t {
  value,    // pushed
  nothing,  // something was pushed, which stands for nil
  more,     // bytes are needed; nothing was pushed
};

/// What a call has done so far, packed into a continuation's context.
struct Progress {
  int first;  // index of the first format
  bool lines;
  int count;
  int done;

  static constexpr int kCountMax = (1 << 24) - 1;

  /// The handle is before the formats of a method, and behind those of io.read.
  int handle() const noexcept { return first == 2 ? 1 : count + 1; }

  static Progress unpack(lua_KContext context) noexcept {
    const auto bits = static_cast<std::uint64_t>(context);
    return {static_cast<int>(bits & 3), (bits >> 2 & 1) != 0, static_cast<int>(bits >> 3 & kCountMax),
            static_cast<int>(bits >> 27)};
  }
  lua_KContext pack() const noexcept {
    return static_cast<lua_KContext>(static_cast<std::uint64_t>(first) | static_cast<std::uint64_t>(lines) << 2 |
                                     static_cast<std::uint64_t>(count) << 3 | static_cast<std::uint64_t>(done) << 27);
  }
};

Outcome read_line(lua_State* L, IoFile& file, bool keep_end) {
  const std::string_view there = file.input.view();
  const std::size_t at = file.searched < there.size() ? there.find('\n', file.searched) : std::string_view::npos;
  if (at == std::string_view::npos && !file.at_end) {
    file.searched = there.size();
    return Outcome::more;
  }
  const std::size_t size = at == std::string_view::npos ? there.size() : at + 1;
  const bool chop = at != std::string_view::npos && !keep_end;
  file.searched = 0;
  file.input.take(size);  // before the string is made: a finalizer may read on, or close
  lua_pushlstring(L, there.data(), size - (chop ? 1 : 0));
  return size > 0 ? Outcome::value : Outcome::nothing;
}

Outcome read_bytes(lua_State* L, IoFile& file, std::size_t wanted) {
  const std::string_view there = file.input.view();
  if (there.size() < wanted && !file.at_end) return Outcome::more;
  const std::size_t size = std::min(wanted, there.size());
  file.searched = 0;
  file.input.take(size);
  lua_pushlstring(L, there.data(), size);
  return size > 0 ? Outcome::value : Outcome::nothing;
}

Outcome read_all(lua_State* L, IoFile& file) {
  return read_bytes(L, file, SIZE_MAX) == Outcome::more ? Outcome::more : Outcome::value;
}

Outcome test_end(lua_State* L, IoFile& file) {
  const bool any = !file.input.view().empty();
  if (!any && !file.at_end) return Outcome::more;
  lua_pushliteral(L, "");
  return any ? Outcome::value : Outcome::nothing;
}

/// Takes the longest beginning that may be a numeral, as stock Lua does.
class NumeralScanner {
 public:
  explicit NumeralScanner(std::string_view text) noexcept : text_(text) {}

  void scan() noexcept {
    bool hex = false;
    int digits = 0;
    (void)accept("-+");
    if (accept("0")) {
      if (accept("xX")) {
        hex = true;
      } else {
        digits = 1;
      }
    }
    digits += accept_digits(hex);
    const char point[] = {lua_getlocaledecpoint(), '.', '\0'};
    if (accept(point)) digits += accept_digits(hex);
    if (digits > 0 && accept(hex ? "pP" : "eE")) {
      (void)accept("-+");
      (void)accept_digits(false);
    }
    numeral_[overflows_ ? 0 : size_] = '\0';
  }

  std::size_t size() const noexcept { return size_; }
  /// It would go on with what comes next.
  bool at_end_of_text() const noexcept { return size_ == text_.size() && !overflows_; }
  const char* numeral() const noexcept { return numeral_; }

 private:
  static constexpr std::size_t kNumeralMax = 200;

  bool take() noexcept {
    if (size_ >= kNumeralMax) {
      overflows_ = true;
      return false;
    }
    numeral_[size_] = text_[size_];
    ++size_;
    return true;
  }
  bool accept(const char* set) noexcept {
    return size_ < text_.size() && text_[size_] != '\0' && std::strchr(set, text_[size_]) != nullptr && take();
  }
  int accept_digits(bool hex) noexcept {
    int count = 0;
    while (size_ < text_.size()) {
      const auto c = static_cast<unsigned char>(text_[size_]);
      if ((hex ? std::isxdigit(c) : std::isdigit(c)) == 0 || !take()) break;
      ++count;
    }
    return count;
  }

  std::string_view text_;
  std::size_t size_ = 0;
  bool overflows_ = false;
  char numeral_[kNumeralMax + 1];
};

Outcome read_number(lua_State* L, IoFile& file) {
  std::string_view there = file.input.view();
  std::size_t spaces = 0;
  while (spaces < there.size() && std::isspace(static_cast<unsigned char>(there[spaces])) != 0) ++spaces;
  file.searched = 0;
  file.input.take(spaces);
  there.remove_prefix(spaces);
  NumeralScanner scanner(there);
  scanner.scan();
  if (scanner.at_end_of_text() && !file.at_end) return Outcome::more;
  file.input.take(scanner.size());
  if (lua_stringtonumber(L, scanner.numeral()) != 0) return Outcome::value;
  lua_pushnil(L);
  return Outcome::nothing;
}

constexpr lua_Integer kReadMax = lua_Integer{1} << 36;  // lua asks for all of it at once, and does not get that

Outcome read_format(lua_State* L, IoFile& file, const Progress& call) {
  if (call.count == 0) return read_line(L, file, false);
  const int index = call.first + call.done;
  if (lua_type(L, index) == LUA_TNUMBER) {
    const lua_Integer asked = luaL_checkinteger(L, index);
    if (asked < 0 || asked > kReadMax) luaL_error(L, "not enough memory for buffer allocation");
    const auto size = static_cast<std::size_t>(asked);
    return size == 0 ? test_end(L, file) : read_bytes(L, file, size);
  }
  const char* format = luaL_checkstring(L, index);
  if (*format == '*') ++format;
  switch (*format) {
    case 'n': return read_number(L, file);
    case 'l': return read_line(L, file, false);
    case 'L': return read_line(L, file, true);
    case 'a': return read_all(L, file);
    default: break;
  }
  luaL_argerror(L, index, "invalid format");
  return Outcome::nothing;
}

/// Reads, blocking this thread; 0 or the errno.
int fill_blocking(IoFile& file, char* room, std::size_t size) noexcept {
  while (true) {
    const ssize_t got = ::read(file.fd, room, size);
    if (got >= 0) {
      file.input.keep(static_cast<std::size_t>(got));
      file.at_end = got == 0;
      return 0;
    }
    if (errno == EAGAIN) {
      pollfd readable{file.fd, POLLIN, 0};
      (void)::poll(&readable, 1, -1);
    } else if (errno != EINTR) {
      return errno;
    }
  }
}

int go_on(lua_State* L, Progress call);

/// The results are on top.
int return_from(lua_State* L, const Progress& call, int results) {
  return call.lines ? return_line(L, results) : results;
}

int continue_read(lua_State* L, int, lua_KContext context) {
  const Progress call = Progress::unpack(context);
  const int error = wait_result(L);
  return return_from(L, call, error < 0 ? push_wait_errno(L, -error) : go_on(L, call));
}

/// Results of a read that has come to `outcome`: those before, and this one.
int finish_read(lua_State* L, const Progress& call, bool success) {
  if (!success) {
    lua_pop(L, 1);
    lua_pushnil(L);
  }
  return call.count == 0 ? 1 : call.done + (success ? 0 : 1);
}

int go_on(lua_State* L, Progress call) {
  IoFile& file = open_file_of(L, handle_at(L, call.handle()));
  while (call.done < call.count || call.count == 0) {
    if (file.filling == nullptr) {
      const Outcome outcome = read_format(L, file, call);
      if (outcome == Outcome::nothing) return finish_read(L, call, false);
      if (outcome == Outcome::value) {
        if (call.count == 0) break;
        ++call.done;
        continue;
      }
      if (!file.readable) return push_errno(L, EBADF);
    }
    const bool waits = can_wait(L);
    if (file.filling != nullptr) {
      if (waits) return wait_and<TurnWait>(L, continue_read, call.pack(), file);
      (void)fiber_to_wait(L);  // raises: the other reader cannot go on while we block
    }
    if (file.seekable && file.has_output()) {  // what was written comes first, and moves the position
      if (const int error = file.take_error(); error != 0) return push_errno(L, error);
      file.start_writing();
      if (waits && file.writing())
        return wait_and<FlushWait>(L, continue_read, call.pack(), file, file.appended_total());
      file.write_now();
    } else if (!file.seekable && file.files.out != nullptr && file.files.out->buffering == IoFile::Buffering::line) {
      file.files.out->start_writing();  // the prompt
    }
    char* room = file.input.grow();
    if (room == nullptr) return push_errno(L, ENOMEM);
    const std::size_t size = std::min<std::size_t>(file.input.room(), 1U << 30);
    if (waits) return wait_and<FillWait>(L, continue_read, call.pack(), file, room, size);
    const int error = fill_blocking(file, room, size);
    if (error != 0) return push_errno(L, error);
  }
  return finish_read(L, call, true);
}

}  // namespace

int wait_for_reader(lua_State* L, lua_KFunction next, lua_KContext context, IoFile& file) {
  return wait_and<TurnWait>(L, next, context, file);
}

int read_formats(lua_State* L, int first, int count, bool lines) {
  if (count > Progress::kCountMax) return luaL_error(L, "too many arguments");
  luaL_checkstack(L, count + LUA_MINSTACK, "too many arguments");
  const Progress call{first, lines, count, 0};
  IoFile& file = *handle_at(L, call.handle()).file;
  file.at_end = false;
  if (file.filling == nullptr) file.searched = 0;
  return return_from(L, call, go_on(L, call));
}

}  // namespace evlua::lua
