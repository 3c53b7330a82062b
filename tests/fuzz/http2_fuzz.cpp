// An HTTP/2 connection of the server on the simulated kernel, with handlers of several kinds, against a client that
// does what the input says: requests, bodies, resets, window updates, and frames that make no sense.
//
// Every frame that comes back must be well-formed, within the client's windows, and an echo must be one. When the
// client has gone, everything must come to its end.
#include <netinet/in.h>
#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "backends/sim/backend.h"
#include "backends/sim/world.h"
#include "core/check.h"
#include "core/io_await.h"
#include "core/scheduler.h"
#include "core/scope.h"
#include "core/worker.h"
#include "net/http/server.h"
#include "tests/fuzz/script.h"

namespace {

using namespace evlua;
using fuzz::Script;

constexpr std::string_view kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

// -- the server -----------------------------------------------------------------------------------------------------

/// What becomes of a request is in its path.
class Routes final : public http::Handler {
 public:
  explicit Routes(TaskScope& scope) noexcept : scope_(scope) {}

  bool handle(http::Exchange& exchange) noexcept override {
    const std::string_view path = exchange.path();
    const char kind = path.size() > 1 ? path[1] : '\0';
    switch (kind) {
      case 'h': (void)exchange.send("hello"); return true;
      case 'n': return true;
      case 'f': exchange.fail(413); return true;
      case 'i': return read_inline(exchange);
      case 'e':
        exchange.defer();
        scope_.spawn(echo(exchange));
        return false;
      case 'b':
        exchange.defer();
        scope_.spawn(write_much(exchange));
        return false;
      case 's':
        exchange.defer();
        scope_.spawn(be_slow(exchange));
        return false;
      case 'w':
        exchange.defer();
        scope_.spawn(read_all(exchange));
        return false;
      default: exchange.fail(404); return true;
    }
  }

 private:
  static bool read_inline(http::Exchange& exchange) {
    std::string body;
    Result<std::string_view> piece;
    while (exchange.try_read_body(100, piece) && piece && !piece->empty()) body += *piece;
    (void)exchange.send(body);
    return true;
  }

  static Task<void> echo(http::Exchange& exchange) {
    while (true) {
      const Result<std::string_view> piece = co_await exchange.read_body(3000);
      if (!piece || piece->empty()) break;
      const std::string copy(*piece);
      const Result<void> written = co_await exchange.write(copy);
      if (!written) break;
    }
    exchange.complete();
  }

  static Task<void> read_all(http::Exchange& exchange) {
    const Result<std::string> body = co_await exchange.read_whole_body(50'000);
    if (body) (void)exchange.send(*body);
    if (!body) exchange.fail(400);
    exchange.complete();
  }

  static Task<void> write_much(http::Exchange& exchange) {
    const std::string piece(9000, 'b');
    for (int i = 0; i < 20; ++i) {
      const Result<void> written = co_await exchange.write(piece);
      if (!written) break;
    }
    exchange.complete();
  }

  static Task<void> be_slow(http::Exchange& exchange) {
    IoAwait nap = io::sleep_until(deadline_after(Worker::current().now(), 100 * kMillisecond));
    (void)co_await nap;
    (void)exchange.send("slow");
    exchange.complete();
  }

  TaskScope& scope_;
};

// -- what comes back ------------------------------------------------------------------------------------------------

class Judge {
 public:
  explicit Judge(std::uint32_t stream_window) : stream_window_(stream_window) {
    EVLUA_CHECK(nghttp2_hd_inflate_new(&inflater_) == 0);
  }
  ~Judge() { nghttp2_hd_inflate_del(inflater_); }
  Judge(const Judge&) = delete;
  Judge& operator=(const Judge&) = delete;

  // What the client has said.
  void asks(std::uint32_t stream, bool echoes) { sent_[stream].echoes = echoes; }
  void sends(std::uint32_t stream, std::string_view body) { sent_[stream].body += body; }
  void opens(std::uint32_t stream, std::uint32_t by) { (stream == 0 ? window_ : sent_[stream].more) += by; }
  /// Anything may follow from what it says now.
  void gives_up() { trusts_ = false; }

  void receive(std::string_view bytes) {
    input_ += bytes;
    while (input_.size() >= 9) {
      const auto byte = [this](std::size_t at) { return std::uint32_t{static_cast<std::uint8_t>(input_[at])}; };
      const std::size_t size = byte(0) << 16 | byte(1) << 8 | byte(2);
      const std::uint32_t stream = (byte(5) << 24 | byte(6) << 16 | byte(7) << 8 | byte(8)) & 0x7fffffffU;
      if (input_.size() < 9 + size) break;
      EVLUA_CHECK(size <= 16384 || !trusts_);
      frame(static_cast<std::uint8_t>(byte(3)), static_cast<std::uint8_t>(byte(4)), stream, input_.substr(9, size));
      input_.erase(0, 9 + size);
    }
  }

 private:
  struct Stream {
    std::string body;
    std::string got;
    std::uint64_t more = 0;
    bool echoes = false;
    bool served = false;  // and not refused
    bool ended = false;
  };

  void frame(std::uint8_t kind, std::uint8_t flags, std::uint32_t id, const std::string& payload) {
    EVLUA_CHECK(kind <= 9 && kind != 2 && kind != 5);  // no priorities, no pushes
    if (kind == 1 || kind == 9) {
      block_ += payload;
      if ((flags & 4) != 0) sent_[id].served = inflate();
    }
    if (kind > 1) return;
    Stream& stream = sent_[id];
    EVLUA_CHECK(!stream.ended);
    stream.ended = (flags & 1) != 0;
    if (kind == 1) return;
    stream.got += payload;
    total_ += payload.size();
    if (!trusts_) return;
    EVLUA_CHECK(total_ <= window_ && stream.got.size() <= stream_window_ + stream.more);
    EVLUA_CHECK(!stream.echoes || !stream.served || stream.body.starts_with(stream.got));
  }

  /// Whether its status is 200.
  bool inflate() {
    bool good = false;
    const auto* at = reinterpret_cast<const std::uint8_t*>(block_.data());
    std::size_t left = block_.size();
    while (true) {
      nghttp2_nv field;
      int flags = 0;
      const ssize_t taken = nghttp2_hd_inflate_hd2(inflater_, &field, &flags, at, left, 1);
      EVLUA_CHECK(taken >= 0);
      const bool emits = (flags & NGHTTP2_HD_INFLATE_EMIT) != 0;
      good = good || (emits && std::string_view(reinterpret_cast<char*>(field.value), field.valuelen) == "200");
      at += taken;
      left -= static_cast<std::size_t>(taken);
      if ((flags & NGHTTP2_HD_INFLATE_FINAL) != 0) break;
    }
    nghttp2_hd_inflate_end_headers(inflater_);
    block_.clear();
    return good;
  }

  nghttp2_hd_inflater* inflater_ = nullptr;
  const std::uint32_t stream_window_;
  std::uint64_t window_ = 65535;
  std::uint64_t total_ = 0;
  std::map<std::uint32_t, Stream> sent_;
  std::string input_, block_;
  bool trusts_ = true;
};

// -- the client -----------------------------------------------------------------------------------------------------

std::string number(std::uint32_t value, int bytes) {
  std::string text;
  for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8) text += static_cast<char>(value >> shift);
  return text;
}

std::string frame(std::uint8_t kind, std::uint8_t flags, std::uint32_t stream, std::string_view payload) {
  std::string text = number(static_cast<std::uint32_t>(payload.size()), 3);
  text += static_cast<char>(kind);
  text += static_cast<char>(flags);
  return text + number(stream, 4) + std::string(payload);
}

std::string literal(std::string_view name, std::string_view value) {
  return std::string(1, '\0') + static_cast<char>(name.size()) + std::string(name) + static_cast<char>(value.size()) +
         std::string(value);
}

class Client {
 public:
  Client(std::string_view input, SimWorld& world)
      : script_(input), world_(world), window_(kWindows[script_.next() % kWindows.size()]), judge_(window_) {}

  Task<void> run(sockaddr_in address) {
    fd_ = world_.socket();
    IoAwait connecting = io::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address);
    const Result<std::int32_t> connected = co_await connecting;
    EVLUA_CHECK(connected.has_value());
    TaskScope reading(Worker::current().pinned());
    reading.spawn(read());
    const std::string settings = frame(4, 0, 0, number(4, 2) + number(window_, 4));
    std::string greeting = std::string(kPreface) + settings;
    bool goes_on = co_await send(std::move(greeting));
    for (int steps = 0; goes_on && !script_.empty() && steps < 300; ++steps) {
      std::string said = step();
      if (pause_ != 0) {
        IoAwait nap = io::sleep_until(deadline_after(Worker::current().now(), pause_));
        (void)co_await nap;
        pause_ = 0;
      }
      goes_on = co_await send(std::move(said));
    }
    if (abrupt_) world_.reset(fd_);
    IoAwait ending = io::shutdown(fd_, SHUT_WR);
    (void)co_await ending;
    co_await reading.join();
    Worker::current().close_later(fd_);
  }

 private:
  static constexpr std::array<std::uint32_t, 4> kWindows = {65535, 0, 1000, 1 << 20};

  Task<void> read() {
    std::array<char, 5000> bytes;
    while (true) {
      IoAwait receiving = io::recv(fd_, bytes.data(), bytes.size());
      const Result<std::int32_t> got = co_await receiving;
      if (!got || *got <= 0) break;
      judge_.receive({bytes.data(), static_cast<std::size_t>(*got)});
    }
  }

  Task<bool> send(std::string said) {
    std::string_view rest = said;
    while (!rest.empty()) {
      IoAwait sending = io::send(fd_, rest.data(), static_cast<std::uint32_t>(rest.size()));
      const Result<std::int32_t> sent = co_await sending;
      if (!sent) co_return false;
      rest.remove_prefix(static_cast<std::size_t>(*sent));
    }
    co_return true;
  }

  /// One of those that were opened.
  std::uint32_t some_stream() { return (script_.next() % (opened_ + 1U)) * 2 + 1; }

  std::string request() {
    constexpr std::string_view kKinds = "hnfiebswx";
    const std::uint8_t kind = script_.next();
    const std::uint8_t flags = script_.next();
    const std::uint32_t stream = ++opened_ * 2 - 1;
    const char path[] = {'/', kKinds[kind % kKinds.size()]};
    judge_.asks(stream, path[1] == 'e' || path[1] == 'i');
    std::string block = literal(":method", (flags & 2) != 0   ? "HEAD"
                                           : (flags & 4) != 0 ? "POST"
                                                              : "GET") +
                        literal(":scheme", "http") + literal(":path", {path, 2}) + literal(":authority", "x");
    if ((flags & 8) != 0) block += literal("content-length", "10");
    if ((flags & 16) != 0) block += literal("expect", "100-continue");
    if ((flags & 32) != 0) block += literal("cookie", "a=1") + literal("cookie", "b=2");
    if ((flags & 64) != 0) block += literal(script_.take(script_.next() % 100), script_.take(script_.next() % 100));
    const auto ends = static_cast<std::uint8_t>(flags & 1);
    if ((flags & 128) == 0) return frame(1, 4 | ends, stream, block);
    const std::size_t cut = script_.next() % block.size();
    return frame(1, ends, stream, block.substr(0, cut)) + frame(9, 4, stream, block.substr(cut));
  }

  std::string body() {
    const std::uint32_t stream = some_stream();
    const std::size_t size = std::size_t{script_.next()} << (script_.next() % 7);
    const std::string text(std::min<std::size_t>(size, 16384), static_cast<char>('a' + size % 26));
    judge_.sends(stream, text);
    return frame(0, script_.next() & 1, stream, text);
  }

  std::string open_window() {
    const std::uint32_t stream = script_.next() % 2 == 0 ? 0 : some_stream();
    const std::uint32_t by = 1U << (script_.next() % 31);
    judge_.opens(stream, by);
    return frame(8, 0, stream, number(by, 4));
  }

  std::string any_frame() {
    judge_.gives_up();
    const std::uint8_t kind = script_.next();
    const std::uint8_t flags = script_.next();
    const std::uint32_t stream = script_.next();
    return frame(kind % 12, flags, stream, script_.take(script_.next()));
  }

  std::string step() {
    switch (script_.next() % 13) {
      case 0:
      case 1:
      case 2: return request();
      case 3:
      case 4: return body();
      case 5: return frame(3, 0, some_stream(), number(8, 4));
      case 6: return open_window();
      case 7: return frame(6, 0, 0, "12345678");
      case 8: return any_frame();
      case 9: judge_.gives_up(); return std::string(script_.take(script_.next()));
      case 10: pause_ = static_cast<Duration>(script_.next()) * script_.next() * kMillisecond; return {};
      case 11: return frame(1, 5, some_stream(), literal("x-trailer", "1"));
      default: abrupt_ = true; return {};
    }
  }

  Script script_;
  SimWorld& world_;
  const std::uint32_t window_;
  Judge judge_;
  Duration pause_ = 0;
  std::uint32_t opened_ = 0;
  int fd_ = -1;
  bool abrupt_ = false;
};

Task<int> serve(std::string_view input, SimWorld& world, Scheduler& scheduler) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(80);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int listener = world.listen(reinterpret_cast<const sockaddr*>(&address), sizeof address);
  TaskScope handlers(Worker::current().pinned());
  Routes routes(handlers);
  http::Server::Options options;
  options.limits.header_fields = 8;
  options.limits.handler_timeout = 20 * kSecond;
  const std::vector<http::Handler*> all = {&routes};
  http::Server server(scheduler, options, all);
  TaskScope serving(Worker::current().pinned());
  const std::vector<std::vector<http::Listening>> listeners = {{http::Listening{listener}}};
  serving.spawn(server.serve(listeners));
  Client client(input, world);
  co_await client.run(address);
  server.stop();
  co_await serving.join();
  co_await handlers.join();
  (void)world.close(listener);
  co_return 0;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const std::string_view input(reinterpret_cast<const char*>(data), std::min<std::size_t>(size, 4096));
  SimWorld world(data[0] + 1U);
  world.expect_single_thread();
  {
    Scheduler scheduler(Scheduler::Options{.workers = 1}, [&world] { return make_sim_backend(world); });
    const Result<int> ended = scheduler.run(serve(input.substr(1), world, scheduler));
    EVLUA_CHECK(ended.has_value());
  }
  EVLUA_CHECK(world.open_descriptors() == 0);
  return 0;
}
