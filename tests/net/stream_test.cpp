// Goal: what was sent is what is read, in every way of asking for it; nothing is lost by a wait that ends early.
#include "net/stream.h"

#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cerrno>
#include <string>

#include "tests/net/stream_peer.h"
#include "tests/support/async.h"

namespace evlua::test {

namespace {

/// A read has begun and waits.
bool is_reading(Stream& stream) {
  Bytes out;
  return stream.try_read(exactly(kPlenty), out) && !out && out.error().is(EBUSY);
}

Task<void> vocabulary(Env&) {
  Pair pair;
  co_await connect(pair);
  Stream& stream = *pair.stream;
  pair.peer.send("some-exact|until, line one\r\nkept\n\nrest of it");
  pair.peer.end();
  co_await expect(stream, exactly(4), "some");
  co_await expect(stream, some(1), "-");
  co_await expect(stream, until("|"), "exact");
  co_await expect(stream, until(", ", kPlenty, true), "until, ");
  co_await expect(stream, line(), "line one\r");
  co_await expect(stream, line(kPlenty, true), "kept\n");
  co_await expect(stream, line(), "");
  co_await expect(stream, exactly(0), "");
  co_await expect(stream, all(), "rest of it");
  co_await expect(stream, all(), "");
  co_await expect(stream, some(), "! EOF");
  co_await expect(stream, exactly(1), "! EOF");
  co_await expect(stream, until("x"), "! EOF");
  co_await expect(stream, line(), "! EOF");
}

Task<void> early_end(Env&) {
  Pair pair;
  co_await connect(pair);
  Stream& stream = *pair.stream;
  pair.peer.send("abc");
  pair.peer.end();
  // Too little, and what has come stays.
  co_await expect(stream, exactly(4), "! EOF");
  co_await expect(stream, until("\r\n"), "! EOF");
  CHECK(stream.buffered() == 3);
  co_await expect(stream, line(), "abc");
}

Task<void> limits(Env&) {
  Pair pair;
  co_await connect(pair);
  Stream& stream = *pair.stream;
  pair.peer.send("12345\r\n67890\n");
  co_await expect(stream, until("\r\n", 6), "! ELIMIT");
  co_await expect(stream, line(3), "! ELIMIT");
  co_await expect(stream, all(12), "! ELIMIT");
  co_await expect(stream, until("\r\n", 7), "12345");
  co_await expect(stream, line(5), "! ELIMIT");
  co_await expect(stream, line(6), "67890");
  pair.peer.send("xyz");
  pair.peer.end();
  co_await expect(stream, all(3), "xyz");
}

Task<void> deadlines(Env&) {
  Pair pair;
  co_await connect(pair);
  Stream& stream = *pair.stream;
  pair.peer.send("first\nsecond");
  co_await expect_late(stream, until("END"));
  CHECK(stream.buffered() == 12);
  // Another delimiter is searched for from the start.
  co_await expect(stream, line(), "first");
  co_await expect_late(stream, exactly(7));
  co_await expect_late(stream, all());
  pair.peer.send("E");
  co_await expect_late(stream, until("END"));
  pair.peer.send("ND.");
  co_await expect(stream, until("END"), "second");
  co_await expect(stream, some(), ".");
}

Task<void> cancelled_reads(Env& env) {
  Pair pair;
  co_await connect(pair);
  Stream& stream = *pair.stream;
  std::string sent;
  std::string received;
  // The bytes and the cancellation race; whoever wins, the next read begins where the last one ended.
  for (int round = 0; round < 200; ++round) {
    const std::string piece = std::to_string(round) + ',';
    std::optional<Bytes> read;
    TaskScope scope(env.home);
    scope.spawn(keep(stream.read(exactly(3), kNever), read));
    const bool reading = co_await comes_true([&] { return is_reading(stream) || read.has_value(); });
    CHECK(reading);
    pair.peer.send(piece);
    sent += piece;
    if (round % 3 == 0) co_await linger(100 * kMicrosecond);
    scope.cancel();
    co_await scope.join();
    if (read && *read) received += **read;
    if (read && !*read) CHECK(read->error().is(ECANCELED));
  }
  pair.peer.end();
  const std::string rest = co_await text(stream, all());
  received += rest;
  CHECK(received == sent);
}

Task<void> half_close(Env&) {
  Pair pair;
  co_await connect(pair);
  Stream& stream = *pair.stream;
  const Result<void> written = co_await stream.write("question", patience());
  CHECK(written);
  const Result<void> shut = co_await stream.shutdown(SHUT_WR);
  CHECK(shut);
  CHECK(pair.peer.receive() == "question");
  char byte = 0;
  const bool ended = co_await comes_true([&] { return ::recv(pair.peer.fd(), &byte, 1, MSG_DONTWAIT) == 0; });
  CHECK(ended);
  const Result<void> refused = co_await stream.write("more", patience());
  CHECK_FALSE(refused);
  if (!refused) CHECK(refused.error().is(EPIPE));
  pair.peer.send("answer");
  pair.peer.end();
  co_await expect(stream, all(), "answer");
}

Task<void> reset_by_peer(Env&) {
  Pair pair;
  co_await connect(pair);
  Stream& stream = *pair.stream;
  pair.peer.send("half a li");
  co_await expect_late(stream, line());
  pair.peer.reset();
  co_await expect(stream, line(), "! ECONNRESET");
  CHECK(stream.buffered() == 9);
  co_await expect(stream, exactly(9), "half a li");
  const Result<void> written = co_await stream.write("to nobody", patience());
  CHECK_FALSE(written);
  if (!written) CHECK(written.error().is(EPIPE));
  if (!written) CHECK(written.error().op == OpCode::send);
}

std::string pattern(std::size_t size) {
  std::string bytes(size, '\0');
  for (std::size_t index = 0; index < size; ++index) bytes[index] = static_cast<char>(index * 31 % 251);
  return bytes;
}

Task<void> slow_reader(Env& env) {
  Pair pair;
  co_await connect(pair);
  Stream& stream = *pair.stream;
  const std::string bytes = pattern(32U << 20);
  std::optional<Result<void>> written;
  TaskScope scope(env.home);
  scope.spawn(keep(stream.write(bytes, patience()), written));
  const auto waiting = [&pair] {
    int ready = 0;
    return ::ioctl(pair.peer.fd(), FIONREAD, &ready) == 0 && ready > 0;
  };
  const bool begun = co_await comes_true(waiting);
  CHECK(begun);
  co_await linger();
  CHECK_FALSE(written.has_value());  // so much is not in any socket buffer
  std::string received;
  const bool came = co_await comes_true([&] {
    for (std::string piece = pair.peer.receive(); !piece.empty(); piece = pair.peer.receive()) received += piece;
    return received.size() >= bytes.size();
  });
  CHECK(came);
  co_await scope.join();
  CHECK((written && *written));
  CHECK((received == bytes));
}

Task<void> write_limits(Env& env) {
  Pair pair;
  co_await connect(pair);
  Stream& stream = *pair.stream;
  const std::string bytes = pattern(32U << 20);
  const Result<void> late = co_await stream.write(bytes, soon());
  CHECK_FALSE(late);
  if (!late) CHECK(late.error().is(ETIMEDOUT));
  std::optional<Result<void>> cancelled;
  TaskScope scope(env.home);
  scope.spawn(keep(stream.write(bytes), cancelled));
  co_await linger();
  const Result<void> second = co_await stream.write("x", patience());
  CHECK_FALSE(second);
  if (!second) CHECK(second.error().is(EBUSY));
  scope.cancel();
  co_await scope.join();
  CHECK((cancelled && !*cancelled));
  if (cancelled && !*cancelled) CHECK(cancelled->error().is(ECANCELED));
}

Task<void> echo(Stream& stream, std::size_t size) {
  while (size > 0) {
    const Bytes piece = co_await stream.read(some(5000), patience());
    CHECK(piece);
    if (!piece) co_return;
    size -= piece->size();
    const Result<void> written = co_await stream.write(*piece, patience());
    CHECK(written);
    if (!written) co_return;
  }
}

Task<void> both_ways(Env& env) {
  Pair pair;
  co_await connect(pair);
  Stream far{net::Socket(pair.peer.give())};
  const std::string bytes = pattern(4U << 20);
  std::optional<Result<void>> written;
  TaskScope scope(env.home);
  scope.spawn(keep(pair.stream->write(bytes, patience()), written));
  scope.spawn_on(env.elsewhere, echo(far, bytes.size()));
  const Bytes read = co_await pair.stream->read(exactly(bytes.size()), patience());
  CHECK((read && *read == bytes));
  co_await scope.join();
  CHECK((written && *written));
}

Task<void> busy_and_closed(Env& env) {
  Pair pair;
  co_await connect(pair);
  Stream& stream = *pair.stream;
  std::optional<Bytes> read;
  TaskScope scope(env.home);
  scope.spawn(keep(stream.read(line(), patience()), read));
  const bool reading = co_await comes_true([&stream] { return is_reading(stream); });
  CHECK(reading);
  co_await expect(stream, some(), "! EBUSY");
  // The first is not disturbed.
  pair.peer.send("part");
  co_await linger();
  CHECK_FALSE(read.has_value());

  const std::string bytes = pattern(32U << 20);
  std::optional<Result<void>> written;
  scope.spawn(keep(stream.write(bytes, patience()), written));
  co_await linger();
  co_await stream.close();
  co_await scope.join();
  CHECK((read && !*read && read->error().is(ECANCELED)));
  CHECK((written && !*written && written->error().is(ECANCELED)));
  CHECK_FALSE(stream.is_open());
  co_await expect(stream, some(), "! EBADF");
  const Result<void> late = co_await stream.write("x");
  CHECK((!late && late.error().is(EBADF)));
  const Result<void> shut = co_await stream.shutdown(SHUT_WR);
  CHECK((!shut && shut.error().is(EBADF)));
  co_await stream.close();
}

Task<void> dribble(const Peer& peer, std::string_view bytes) {
  for (const char byte : bytes) {
    peer.send({&byte, 1});
    co_await linger(50 * kMicrosecond);
  }
  peer.end();
}

Task<void> byte_by_byte(Env& env) {
  Pair pair;
  co_await connect(pair);
  Stream& stream = *pair.stream;
  TaskScope scope(env.home);
  scope.spawn_on(env.elsewhere, dribble(pair.peer, "ab\r\r\nline\naaab exactly rest"));
  co_await expect(stream, until("\r\n"), "ab\r");
  co_await expect(stream, line(), "line");
  co_await expect(stream, until("aab"), "a");
  co_await expect(stream, exactly(8), " exactly");
  co_await expect(stream, all(), " rest");
  co_await scope.join();
}

Task<void> talk(int number, int& served) {
  Pair pair;
  co_await connect(pair);
  const std::string message = "stream " + std::to_string(number) + '\n';
  const Result<void> written = co_await pair.stream->write(message, patience());
  CHECK(written);
  const bool arrived = co_await comes_true([&pair, &message] {
    const std::string got = pair.peer.receive(message.size());
    return got == message;
  });
  CHECK(arrived);
  co_await linger(20 * kMillisecond);  // so that all are open at once
  pair.peer.send(message);
  const std::string answer = co_await text(*pair.stream, line());
  if (answer + '\n' == message) ++served;
  co_await pair.stream->close();
}

Task<void> thousand(Env& env) {
  int served = 0;
  TaskScope scope(env.home);
  for (int number = 0; number < 1000; ++number) scope.spawn(talk(number, served));
  co_await scope.join();
  CHECK(served == 1000);
}

}  // namespace

TEST_CASE("every way of reading") { on_backends(vocabulary); }
TEST_CASE("a stream that ends too early keeps what has come") { on_backends(early_end); }
TEST_CASE("a limit that is met loses nothing") { on_backends(limits); }
TEST_CASE("a deadline keeps what has come") { on_backends(deadlines); }
TEST_CASE("a cancelled read loses nothing") { on_backends(cancelled_reads); }
TEST_CASE("one direction ends, the other goes on") { on_backends(half_close); }
TEST_CASE("a reset connection is an error") { on_backends(reset_by_peer); }
TEST_CASE("a write waits for a slow reader") { on_backends(slow_reader); }
TEST_CASE("a write ends at its deadline, and when cancelled; a second one is refused") { on_backends(write_limits); }
TEST_CASE("reading and writing go on at once") { on_backends(both_ways); }
TEST_CASE("one reader at a time; closing ends him") { on_backends(busy_and_closed); }
TEST_CASE("bytes that come one by one") { on_backends(byte_by_byte); }
TEST_CASE("a thousand streams at once") { on_backends(thousand); }

}  // namespace evlua::test
