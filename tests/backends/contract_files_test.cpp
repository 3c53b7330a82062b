// Goal: files and paths work alike on every backend, with the kernel's error codes, and a file that does not answer
// holds up nobody else.
#include <fcntl.h>
#include <unistd.h>

#include <map>
#include <string>
#include <vector>

#include "tests/backends/contract.h"

namespace evlua::test {
namespace {

/// Path operations, carried out and waited for. -1 as a directory: the working directory.
struct Paths {
  Harness& h;

  std::int32_t mkdir(const std::string& path, int directory = AT_FDCWD) {
    TestOp op(OpCode::mkdir, directory);
    op.args.mkdir = {path.c_str(), 0755};
    return h.run(op);
  }
  std::int32_t unlink(const std::string& path, int flags = 0, int directory = AT_FDCWD) {
    TestOp op(OpCode::unlink, directory);
    op.args.unlink = {path.c_str(), flags};
    return h.run(op);
  }
  std::int32_t rename(const std::string& from, const std::string& to, unsigned flags = 0, int directory = AT_FDCWD) {
    TestOp op(OpCode::rename, directory);
    op.args.rename = {from.c_str(), to.c_str(), flags};
    return h.run(op);
  }
  std::int32_t stat(const std::string& path, struct statx& out, int flags = 0, int directory = AT_FDCWD) {
    TestOp op(OpCode::stat, directory);
    op.args.stat = {path.c_str(), flags, &out};
    return h.run(op);
  }
  std::int32_t open(const std::string& path, int flags, int directory = AT_FDCWD) {
    TestOp op(OpCode::open, directory);
    op.args.open = {path.c_str(), flags, 0644};
    return h.own(h.run(op));
  }
  std::int32_t truncate(int fd, std::int64_t size) {
    TestOp op(OpCode::truncate, fd);
    op.args.truncate = {size};
    return h.run(op);
  }
  std::int32_t fsync(int fd, bool data_only) {
    TestOp op(OpCode::fsync, fd);
    op.args.fsync = {data_only};
    return h.run(op);
  }
  bool exists(const std::string& path) {
    struct statx info;
    return stat(path, info) == 0;
  }
  std::int64_t size_of(const std::string& path) {
    struct statx info {};
    if (stat(path, info) != 0) return -1;
    return static_cast<std::int64_t>(info.stx_size);
  }

  /// All of it, from `offset`.
  bool write_all(int fd, std::string_view text, std::int64_t offset = -1) {
    while (!text.empty()) {
      TestOp op;
      set_write(op, fd, text, offset);
      const std::int32_t written = h.run(op);
      if (written <= 0) return false;
      text.remove_prefix(static_cast<std::size_t>(written));
      if (offset >= 0) offset += written;
    }
    return true;
  }
  std::string read_all(int fd, std::size_t bytes, std::int64_t offset = -1) {
    std::string text(bytes, '\0');
    std::size_t got = 0;
    while (got < bytes) {
      TestOp op;
      set_read(op, fd, text.data() + got, bytes - got, offset);
      const std::int32_t count = h.run(op);
      if (count <= 0) break;
      got += static_cast<std::size_t>(count);
      if (offset >= 0) offset += count;
    }
    text.resize(got);
    return text;
  }
};

TEST_CASE_TEMPLATE("what is written is read back, at offsets and at the file's own position", Kind, EVLUA_ALL_KINDS) {
  on_each_run<Kind>(300, [](Harness& h) {
    Paths paths{h};
    const std::string path = h.path("file");
    const int fd = paths.open(path, O_RDWR | O_CREAT | O_EXCL);
    REQUIRE(fd >= 0);
    REQUIRE(paths.write_all(fd, "hello, "));
    REQUIRE(paths.write_all(fd, "world"));
    CHECK(paths.read_all(fd, 1).empty());  // the position is at the end
    CHECK(paths.read_all(fd, 100, 0) == "hello, world");
    CHECK(paths.read_all(fd, 5, 7) == "world");
    REQUIRE(paths.write_all(fd, "W", 7));
    CHECK(paths.read_all(fd, 100, 7) == "World");
    REQUIRE(paths.write_all(fd, "!", 12));
    CHECK(paths.read_all(fd, 1) == "!");  // offsets did not move the position

    const int reader = paths.open(path, O_RDONLY);
    REQUIRE(reader >= 0);
    CHECK(paths.read_all(reader, 3) == "hel");
    CHECK(paths.read_all(reader, 3) == "lo,");
    CHECK(paths.read_all(reader, 100) == " World!");
    CHECK(paths.size_of(path) == 13);
  });
}

TEST_CASE_TEMPLATE("appending writes go to the end", Kind, EVLUA_ALL_KINDS) {
  on_each_run<Kind>(100, [](Harness& h) {
    Paths paths{h};
    h.make_file(h.path("log"), "one");
    const int fd = paths.open(h.path("log"), O_WRONLY | O_APPEND);
    REQUIRE(fd >= 0);
    REQUIRE(paths.write_all(fd, "two"));
    REQUIRE(paths.write_all(fd, "three"));
    const int reader = paths.open(h.path("log"), O_RDONLY);
    CHECK(paths.read_all(reader, 100, 0) == "onetwothree");
  });
}

TEST_CASE_TEMPLATE("fsync and truncate", Kind, EVLUA_ALL_KINDS) {
  on_each_run<Kind>(300, [](Harness& h) {
    Paths paths{h};
    h.make_file(h.path("file"), "0123456789");
    const int fd = paths.open(h.path("file"), O_RDWR);
    REQUIRE(fd >= 0);
    CHECK(paths.fsync(fd, false) == 0);
    CHECK(paths.fsync(fd, true) == 0);
    CHECK(paths.truncate(fd, 4) == 0);
    CHECK(paths.size_of(h.path("file")) == 4);
    CHECK(paths.truncate(fd, 6) == 0);
    CHECK(paths.read_all(fd, 100, 0) == std::string("0123\0\0", 6));
    CHECK(paths.truncate(fd, -1) == -EINVAL);
    const int emptied = paths.open(h.path("file"), O_WRONLY | O_TRUNC);
    CHECK(paths.size_of(h.path("file")) == 0);
    char byte;
    TestOp read;
    set_read(read, emptied, &byte, 1, 0);
    CHECK(h.run(read) == -EBADF);  // not open for reading
  });
}

/// A pipe of ours, closed at the end.
struct Pipe {
  Pipe() { REQUIRE(::pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0); }
  ~Pipe() {
    ::close(ends[0]);
    ::close(ends[1]);
  }
  int ends[2];
};

TEST_CASE_TEMPLATE("splice moves bytes between a file and a pipe", Kind, UringKind, LibevKind) {
  on_each_run<Kind>(1, [](Harness& h) {
    Paths paths{h};
    h.make_file(h.path("from"), "0123456789");
    const int from = paths.open(h.path("from"), O_RDONLY);
    const int to = paths.open(h.path("to"), O_RDWR | O_CREAT);
    const Pipe pipe;
    const auto splice = [&h](int file, int end, std::uint32_t size, std::int64_t offset, bool from_pipe) {
      TestOp op(OpCode::splice, file);
      op.args.splice = {end, size, offset, from_pipe};
      return h.run(op);
    };
    CHECK(splice(to, pipe.ends[0], 10, 0, true) == -EAGAIN);  // nothing is there
    CHECK(splice(from, pipe.ends[1], 5, 3, false) == 5);
    CHECK(splice(to, pipe.ends[0], 100, 2, true) == 5);
    CHECK(paths.read_all(to, 100, 0) == std::string("\0\00034567", 7));
    CHECK(splice(from, pipe.ends[1], 100, 8, false) == 2);
    CHECK(splice(from, pipe.ends[1], 100, 10, false) == 0);  // the end
    CHECK(splice(to, pipe.ends[0], 1, 0, true) == 1);
    CHECK(splice(to, pipe.ends[0], 1, 1, true) == 1);
    CHECK(paths.read_all(to, 100, 0) == "8934567");
    CHECK(splice(-1, pipe.ends[0], 1, 0, true) == -EBADF);
    CHECK(splice(from, pipe.ends[0], 1, 0, true) == -EBADF);  // open for reading only
    // A full pipe is told as well.
    const std::string much(std::size_t{1} << 20, 'x');
    h.make_file(h.path("much"), much);
    const int large = paths.open(h.path("much"), O_RDONLY);
    std::int64_t moved = 0;
    std::int32_t last = 0;
    while ((last = splice(large, pipe.ends[1], 1U << 20, moved, false)) > 0) moved += last;
    CHECK(last == -EAGAIN);
    CHECK(moved > 0);
  });
}

TEST_CASE_TEMPLATE("stat tells kind, size and identity", Kind, EVLUA_ALL_KINDS) {
  on_each_run<Kind>(100, [](Harness& h) {
    Paths paths{h};
    h.make_file(h.path("file"), "12345");
    REQUIRE(paths.mkdir(h.path("directory")) == 0);
    struct statx file {};
    struct statx same {};
    struct statx directory {};
    REQUIRE(paths.stat(h.path("file"), file) == 0);
    REQUIRE(paths.stat(h.path("directory"), directory) == 0);
    CHECK(S_ISREG(file.stx_mode));
    CHECK(file.stx_size == 5);
    CHECK(S_ISDIR(directory.stx_mode));
    CHECK(file.stx_ino != directory.stx_ino);
    const int fd = paths.open(h.path("file"), O_RDONLY);
    REQUIRE(paths.stat("", same, AT_EMPTY_PATH, fd) == 0);
    CHECK(same.stx_ino == file.stx_ino);
  });
}

TEST_CASE_TEMPLATE("path operations take effect", Kind, EVLUA_ALL_KINDS) {
  on_each_run<Kind>(300, [](Harness& h) {
    Paths paths{h};
    const std::string a = h.path("a");
    const std::string b = h.path("b");
    h.make_file(a, "contents");
    CHECK(paths.rename(a, b) == 0);
    CHECK_FALSE(paths.exists(a));
    CHECK(paths.size_of(b) == 8);
    h.make_file(a, "newer");
    CHECK(paths.rename(a, b, RENAME_NOREPLACE) == -EEXIST);
    CHECK(paths.rename(a, b) == 0);
    CHECK(paths.size_of(b) == 5);
    CHECK(paths.mkdir(h.path("d")) == 0);
    CHECK(paths.mkdir(h.path("d/e")) == 0);
    CHECK(paths.rename(b, h.path("d/e/f")) == 0);
    CHECK(paths.size_of(h.path("d/e/../e/f")) == 5);
    CHECK(paths.unlink(h.path("d/e/f")) == 0);
    CHECK(paths.unlink(h.path("d/e"), AT_REMOVEDIR) == 0);
    CHECK(paths.unlink(h.path("d"), AT_REMOVEDIR) == 0);
    CHECK_FALSE(paths.exists(h.path("d")));
  });
}

TEST_CASE_TEMPLATE("an unlinked file lives on for those who have it open", Kind, EVLUA_ALL_KINDS) {
  on_each_run<Kind>(100, [](Harness& h) {
    Paths paths{h};
    h.make_file(h.path("file"), "still here");
    const int fd = paths.open(h.path("file"), O_RDONLY);
    CHECK(paths.unlink(h.path("file")) == 0);
    CHECK_FALSE(paths.exists(h.path("file")));
    CHECK(paths.read_all(fd, 100) == "still here");
  });
}

TEST_CASE_TEMPLATE("path operations start at the directory they are given", Kind, EVLUA_ALL_KINDS) {
  on_each_run<Kind>(100, [](Harness& h) {
    Paths paths{h};
    REQUIRE(paths.mkdir(h.path("d")) == 0);
    const int d = paths.open(h.path("d"), O_RDONLY | O_DIRECTORY);
    REQUIRE(d >= 0);
    CHECK(paths.open("file", O_RDWR | O_CREAT, d) >= 0);
    CHECK(paths.mkdir("sub", d) == 0);
    struct statx info {};
    CHECK(paths.stat("file", info, 0, d) == 0);
    CHECK(paths.rename("file", "sub/file", 0, d) == 0);
    CHECK(paths.exists(h.path("d/sub/file")));
    CHECK(paths.unlink("sub/file", 0, d) == 0);
    CHECK(paths.unlink("sub", AT_REMOVEDIR, d) == 0);
    CHECK_FALSE(paths.exists(h.path("d/sub")));
    h.close(d);
    CHECK(paths.mkdir("sub", d) == -EBADF);
  });
}

TEST_CASE_TEMPLATE("errors of paths are the kernel's", Kind, EVLUA_ALL_KINDS) {
  on_each_run<Kind>(100, [](Harness& h) {
    Paths paths{h};
    const std::string file = h.path("file");
    const std::string directory = h.path("directory");
    const std::string nothing = h.path("nothing");
    h.make_file(file, "x");
    REQUIRE(paths.mkdir(directory) == 0);
    h.make_file(directory + "/inside", "x");
    struct statx info {};

    CHECK(paths.open(nothing, O_RDONLY) == -ENOENT);
    CHECK(paths.open("", O_RDONLY) == -ENOENT);
    CHECK(paths.open(nothing + "/deeper", O_RDWR | O_CREAT) == -ENOENT);
    CHECK(paths.stat(nothing, info) == -ENOENT);
    CHECK(paths.unlink(nothing) == -ENOENT);
    CHECK(paths.rename(nothing, file) == -ENOENT);
    CHECK(paths.mkdir(nothing + "/deeper") == -ENOENT);

    CHECK(paths.open(file, O_RDWR | O_CREAT | O_EXCL) == -EEXIST);
    CHECK(paths.mkdir(directory) == -EEXIST);
    CHECK(paths.mkdir(file) == -EEXIST);

    CHECK(paths.open(directory, O_WRONLY) == -EISDIR);
    CHECK(paths.unlink(directory) == -EISDIR);
    CHECK(paths.rename(file, directory) == -EISDIR);
    const int opened = paths.open(directory, O_RDONLY);
    char byte;
    TestOp read;
    set_read(read, opened, &byte, 1, 0);
    CHECK(h.run(read) == -EISDIR);

    CHECK(paths.open(file + "/deeper", O_RDONLY) == -ENOTDIR);
    CHECK(paths.open(file, O_RDONLY | O_DIRECTORY) == -ENOTDIR);
    CHECK(paths.stat(file + "/", info) == -ENOTDIR);
    CHECK(paths.unlink(file, AT_REMOVEDIR) == -ENOTDIR);
    CHECK(paths.rename(directory, file) == -ENOTDIR);

    CHECK(paths.unlink(directory, AT_REMOVEDIR) == -ENOTEMPTY);
    CHECK(paths.rename(directory, directory + "/inner") == -EINVAL);
    CHECK(paths.open(h.path(std::string(300, 'n')), O_RDONLY) == -ENAMETOOLONG);
  });
}

TEST_CASE_TEMPLATE("many reads of one file at once", Kind, EVLUA_ALL_KINDS) {
  on_each_run<Kind>(10, [](Harness& h) {
    Paths paths{h};
    std::string text(64 * 1024, '\0');
    for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * 7 + i / 256);
    h.make_file(h.path("file"), text);
    const int fd = paths.open(h.path("file"), O_RDONLY);
    std::vector<TestOp> ops(1000);
    std::vector<std::array<char, 64>> rooms(ops.size());
    for (std::size_t i = 0; i < ops.size(); ++i) {
      set_read(ops[i], fd, rooms[i].data(), rooms[i].size(), static_cast<std::int64_t>(i * 61));
      h.submit(ops[i]);
    }
    for (std::size_t i = 0; i < ops.size(); ++i) {
      const std::int32_t got = h.finish(ops[i]);
      REQUIRE(got > 0);
      REQUIRE(std::string_view(rooms[i].data(), static_cast<std::size_t>(got)) ==
              std::string_view(text).substr(i * 61, static_cast<std::size_t>(got)));
    }
  });
}

// -- files that do not answer ---------------------------------------------------------------------------------------

TEST_CASE_TEMPLATE("opening a FIFO without a writer stalls nobody else and can be cancelled", Kind, EVLUA_ALL_KINDS) {
  on_each_run<Kind>(30, [](Harness& h) {
    Paths paths{h};
    constexpr std::size_t kFifos = 24;  // fewer than the threads that may hang in an open
    std::vector<std::string> names;
    std::vector<TestOp> opens(kFifos);
    for (std::size_t i = 0; i < kFifos; ++i) {
      names.push_back(h.path("fifo" + std::to_string(i)));
      h.make_fifo(names.back());
    }
    for (std::size_t i = 0; i < kFifos; ++i) {
      set_open(opens[i], names[i], i % 4 == 0 ? O_WRONLY : O_RDONLY);
      h.submit(opens[i]);
    }
    h.linger();
    const Instant begin = h.backend().now();
    h.make_file(h.path("file"), "contents");
    const int fd = paths.open(h.path("file"), O_RDONLY);
    CHECK(paths.read_all(fd, 8, 0) == "contents");
    CHECK(paths.mkdir(h.path("directory")) == 0);
    const auto [a, b] = h.pair();
    REQUIRE(h.send_all(a, "x"));
    CHECK(h.receive(b, 1) == "x");
    CHECK(h.backend().now() - begin < 10 * kSecond);
    for (TestOp& open : opens) {
      CHECK_FALSE(open.is_ready());
      h.cancel(open);
    }
    for (TestOp& open : opens) CHECK(h.finish(open) == -ECANCELED);
  });
}

TEST_CASE_TEMPLATE("a FIFO opens when its other side does, and carries bytes", Kind, EVLUA_ALL_KINDS) {
  on_each_run<Kind>(300, [](Harness& h) {
    for (const bool reader_first : {true, false}) {
      const std::string name = h.path(reader_first ? "fifo1" : "fifo2");
      h.make_fifo(name);
      TestOp reader;
      TestOp writer;
      set_open(reader, name, O_RDONLY);
      set_open(writer, name, O_WRONLY);
      h.submit(reader_first ? reader : writer);
      h.linger();
      h.submit(reader_first ? writer : reader);
      const int in = h.own(h.finish(reader));
      const int out = h.own(h.finish(writer));
      REQUIRE(in >= 0);
      REQUIRE(out >= 0);
      char room[16];
      TestOp read;
      set_read(read, in, room, sizeof(room));
      h.submit(read);
      h.linger();
      CHECK_FALSE(read.is_ready());  // waits, and does not read an end that is none
      Paths paths{h};
      REQUIRE(paths.write_all(out, "fifo"));
      const std::int32_t got = h.finish(read);
      REQUIRE(got > 0);
      const std::string head(room, static_cast<std::size_t>(got));
      CHECK(head + paths.read_all(in, 4 - head.size()) == "fifo");
      h.close(out);
      set_read(read, in, room, sizeof(room));
      CHECK(h.run(read) == 0);
    }
  });
}

}  // namespace
}  // namespace evlua::test
