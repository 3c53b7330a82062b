// A TLS engine of ours and a client, with somebody between them who passes bytes on in pieces, spoils them, loses them
// or makes up some. The first byte says what the client is like, the others what happens.
//
// Whatever was done on the way, each side gets what the other has written, or a beginning of it; and all of it, if
// nothing was spoilt.
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "core/check.h"
#include "net/tls/engine.h"
#include "tests/fuzz/script.h"

namespace {

using namespace evlua;
using fuzz::Script;

class Client {
 public:
  explicit Client(std::uint8_t kind) : ssl_(SSL_new(context())), in_(BIO_new(BIO_s_mem())), out_(BIO_new(BIO_s_mem())) {
    SSL* ssl = ssl_.get();
    SSL_set_bio(ssl, in_, out_);
    SSL_set_connect_state(ssl);
    if ((kind & 1) != 0) SSL_set_max_proto_version(ssl, TLS1_2_VERSION);
    const auto* protocols = reinterpret_cast<const std::uint8_t*>("\2h2\10http/1.1");
    if ((kind & 2) != 0) SSL_set_alpn_protos(ssl, protocols, (kind & 4) != 0 ? 12 : 3);
    if ((kind & 8) != 0) SSL_set_tlsext_host_name(ssl, "localhost");
    if ((kind & 16) != 0 && last_session() != nullptr) SSL_set_session(ssl, last_session().get());
    go_on();
  }

  /// Takes what has come.
  void receive(std::string_view ciphertext) {
    BIO_write(in_, ciphertext.data(), static_cast<int>(ciphertext.size()));
    go_on();
  }
  void send(std::string_view text) {
    if (!open_ || ended_ || text.empty()) return;
    if (SSL_write(ssl_.get(), text.data(), static_cast<int>(text.size())) > 0) written_ += text;
    ERR_clear_error();
  }
  void end() {
    if (open_ && !ended_) SSL_shutdown(ssl_.get());
    ended_ = true;
    ERR_clear_error();
  }
  std::string take_outgoing() {
    const std::uint8_t* bytes = nullptr;
    std::size_t size = 0;
    EVLUA_CHECK(BIO_mem_contents(out_, &bytes, &size) == 1);
    std::string taken(reinterpret_cast<const char*>(bytes), size);
    BIO_reset(out_);
    return taken;
  }
  bool open() const noexcept { return open_; }
  const std::string& written() const noexcept { return written_; }
  const std::string& seen() const noexcept { return seen_; }

 private:
  static bssl::UniquePtr<SSL_SESSION>& last_session() {
    static auto* const kept = new bssl::UniquePtr<SSL_SESSION>;
    return *kept;
  }
  static SSL_CTX* context() {
    static SSL_CTX* const made = [] {
      SSL_CTX* context = SSL_CTX_new(TLS_client_method());
      SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
      SSL_CTX_sess_set_new_cb(context, [](SSL*, SSL_SESSION* session) {
        last_session().reset(session);
        return 1;
      });
      return context;
    }();
    return made;
  }

  void go_on() {
    open_ = open_ || SSL_do_handshake(ssl_.get()) == 1;
    std::array<char, 4096> bytes;
    while (open_) {
      const int got = SSL_read(ssl_.get(), bytes.data(), bytes.size());
      if (got <= 0) break;
      seen_.append(bytes.data(), static_cast<std::size_t>(got));
    }
    ERR_clear_error();
  }

  bssl::UniquePtr<SSL> ssl_;
  BIO* in_;
  BIO* out_;
  std::string written_, seen_;
  bool open_ = false, ended_ = false;
};

std::shared_ptr<const tls::ServerContext> context() {
  static const auto* const made = [] {
    const tls::ServerOptions options;
    auto loaded = tls::ServerContext::make_development(options, std::make_shared<tls::TicketKeys>());
    EVLUA_CHECK(loaded.has_value());
    return new std::shared_ptr<const tls::ServerContext>(*loaded);
  }();
  return *made;
}

class Line {
 public:
  explicit Line(std::uint8_t kind) : client_(kind), engine_(context()) {}

  void step(Script& script) {
    on_the_way_ += client_.take_outgoing();
    const std::uint8_t what = script.next();
    switch (what % 11) {
      case 0: pass(on_the_way_.size()); break;
      case 1: pass(script.next()); break;
      case 2: answer(); break;
      case 3: client_.send(text(script)); break;
      case 4: send(text(script)); break;
      case 5: spoil(script.next() * 7U, script.next()); break;
      case 6: on_the_way_.erase(0, script.next()); break;
      case 7: on_the_way_.insert(0, script.take(script.next())); break;
      case 8: on_the_way_ += on_the_way_.substr(0, 4096); break;
      case 9: client_.end(); break;
      case 10:
        engine_.end();
        ended_ = true;
        break;
    }
    if (what % 11 >= 5 && what % 11 <= 8) spoilt_ = true;
    check();
  }

  /// Nobody is between them any more.
  void settle() {
    for (int round = 0; round < 8; ++round) {
      on_the_way_ += client_.take_outgoing();
      pass(on_the_way_.size());
      answer();
    }
    check();
    if (spoilt_) return;
    EVLUA_CHECK(client_.open() && engine_.state() != tls::Engine::State::failed);
    EVLUA_CHECK(client_.written().size() == seen_.size() && written_.size() == client_.seen().size());
    EVLUA_CHECK(engine_.session().version[0] == 'T' && !engine_.session().peer);
  }

 private:
  static std::string text(Script& script) {
    const std::size_t size = std::size_t{script.next()} << (script.next() % 9);
    std::string made(size, '\0');
    for (std::size_t i = 0; i < size; ++i) made[i] = static_cast<char>(i * 31 + size);
    return made;
  }
  void pass(std::size_t size) {
    size = std::min(size, on_the_way_.size());
    Bytes plain;
    engine_.receive(std::string_view(on_the_way_).substr(0, size), plain);
    on_the_way_.erase(0, size);
    seen_ += plain.view();
  }
  void answer() {
    client_.receive(engine_.outgoing().view());
    engine_.outgoing().clear();
  }
  void send(const std::string& text) {
    if (ended_ || !engine_.send(text)) return;
    written_ += text;
  }
  void spoil(std::size_t at, std::uint8_t with) {
    if (on_the_way_.empty()) return;
    char& byte = on_the_way_[at % on_the_way_.size()];
    byte = static_cast<char>(byte ^ with);
  }
  void check() const {
    EVLUA_CHECK(client_.written().starts_with(seen_));
    EVLUA_CHECK(written_.starts_with(client_.seen()));
    EVLUA_CHECK(ERR_peek_error() == 0);
  }

  Client client_;
  tls::Engine engine_;
  std::string on_the_way_;      // from the client to us
  std::string written_, seen_;  // by us
  bool spoilt_ = false, ended_ = false;
};

/// Nobody but us speaks TLS.
void only_noise(std::string_view noise, std::size_t piece) {
  tls::Engine engine(context());
  Bytes plain;
  while (!noise.empty()) {
    engine.receive(noise.substr(0, piece), plain);
    noise.remove_prefix(std::min(piece, noise.size()));
    EVLUA_CHECK(!engine.send("x") && plain.empty());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Script script({reinterpret_cast<const char*>(data), std::min<std::size_t>(size, 4096)});
  const std::uint8_t kind = script.next();
  if ((kind & 128) != 0) {
    only_noise(script.take(4096), 1 + (kind & 127U) * 8U);
    return 0;
  }
  Line line(kind);
  for (int steps = 0; !script.empty() && steps < 200; ++steps) line.step(script);
  line.settle();
  return 0;
}
