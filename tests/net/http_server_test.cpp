// The HTTP server as a client sees it, on both backends, with one worker and with two.
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "net/http/server.h"
#include "tests/net/http_fixture.h"
#include "tests/support/doctest.h"

using namespace evlua;
using namespace evlua::test;
using namespace std::string_literals;

namespace {

std::string get(const std::string& path, const std::string& fields = "") {
  return "GET " + path + " HTTP/1.1\r\nHost: test\r\n" + fields + "\r\n";
}

std::string post(const std::string& path, const std::string& body, const std::string& fields = "") {
  return "POST " + path + " HTTP/1.1\r\nHost: test\r\nContent-Length: " + std::to_string(body.size()) + "\r\n" +
         fields + "\r\n" + body;
}

std::string chunked(const std::string& body, std::size_t step) {
  std::string bytes;
  for (std::size_t at = 0; at < body.size(); at += step) {
    const std::string part = body.substr(at, step);
    char size[32];
    std::snprintf(size, sizeof size, "%zx\r\n", part.size());
    bytes += size + part + "\r\n";
  }
  return bytes + "0\r\n\r\n";
}

std::string post_chunked(const std::string& path, const std::string& body, std::size_t step) {
  return "POST " + path + " HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(body, step);
}

std::string pattern(std::size_t bytes) {
  std::string text(bytes, '\0');
  for (std::size_t at = 0; at < bytes; ++at) text[at] = static_cast<char>('a' + at % 26 + (at / 1000) % 3);
  return text;
}

}  // namespace

TEST_CASE("a request is answered and the connection kept") {
  on_every_setup([](const ServerSetup& setup) {
    TestServer server(setup);
    Client client(server.port());
    for (int round = 0; round < 5; ++round) {
      const Response response = client.get("/");
      CHECK(response.status == 200);
      CHECK(response.body == "hello");
      CHECK(response.fields.at("server") == "evlua");
      CHECK(response.fields.at("date").size() == 29);
      CHECK(response.fields.count("connection") == 0);
    }
    client.send(get("/describe?a=b", "X-Y: z\r\n"));
    CHECK(client.read().body == "GET /describe ?a=b 1.1 host=test Host=test X-Y=z");
    const std::string names = client.get("/names").body;
    CHECK(names.find("127.0.0.1:") == 0);
    CHECK(names.find(" 127.0.0.1:" + std::to_string(server.port())) != std::string::npos);
    CHECK(client.get("/open").status == 200);
    CHECK(client.get("/fail?503").status == 503);
    CHECK(client.get("/").status == 200);
  });
}

TEST_CASE("requests arrive byte by byte") {
  on_every_setup([](const ServerSetup& setup) {
    TestServer server(setup);
    Client client(server.port());
    const std::string bytes = get("/describe", "A: b\r\n") + post("/inline-body", "") + get("/");
    for (const char byte : bytes) REQUIRE(client.send(std::string(1, byte)));
    CHECK(client.read().body == "GET /describe ? 1.1 host=test Host=test A=b");
    CHECK(client.read().body.empty());
    CHECK(client.read().body == "hello");
  });
}

TEST_CASE("a hundred pipelined requests of every kind are answered in order") {
  on_every_setup([](const ServerSetup& setup) {
    TestServer server(setup);
    Client client(server.port());
    const std::string body = pattern(3000);
    std::string bytes;
    for (int index = 0; index < 100; ++index) {
      switch (index % 8) {
        case 0: bytes += get("/large?" + std::to_string(index)); break;
        case 1: bytes += "HEAD /large?1000 HTTP/1.1\r\nHost: test\r\n\r\n"; break;
        case 2: bytes += post("/echo", body); break;
        case 3: bytes += post_chunked("/echo-there", body, 700); break;
        case 4: bytes += get("/stream"); break;
        case 5: bytes += post("/", body); break;  // nobody reads that body
        case 6: bytes += get("/thread"); break;
        case 7: bytes += get("/status?204"); break;
        default: break;
      }
    }
    std::thread sender([&] { CHECK(client.send(bytes)); });
    for (int index = 0; index < 100; ++index) {
      CAPTURE(index);
      const Response response = client.read(index % 8 == 1);
      CHECK(response.complete);
      if (!response.complete) break;
      CHECK(response.status == (index % 8 == 7 ? 204 : 200));
      switch (index % 8) {
        case 0: CHECK(response.body == std::string(static_cast<std::size_t>(index), 'x')); break;
        case 1: CHECK(response.fields.at("content-length") == "1000"); break;
        case 2:
        case 3: CHECK((response.body == body)); break;
        case 4: CHECK(response.body.size() == 100); break;
        case 5: CHECK(response.body == "hello"); break;
        case 6: CHECK(response.body == "from a thread"); break;
        case 7: CHECK(response.fields.count("content-length") == 0); break;
        default: break;
      }
    }
    sender.join();
    CHECK(client.get("/").body == "hello");
  });
}

TEST_CASE("earlier responses do not wait for a slow one") {
  on_every_setup([](const ServerSetup& setup) {
    TestServer server(setup);
    Client client(server.port());
    client.send(get("/") + get("/wait") + get("/"));
    CHECK(client.read().body == "hello");
    CHECK(eventually([&] { return server.observed().waiting == 1; }));
    server.release();
    CHECK(client.read().body == "released");
    CHECK(client.read().body == "hello");
  });
}

TEST_CASE("requests and bodies that come while a handler takes its time are all answered afterwards") {
  on_every_setup([](const ServerSetup& setup) {
    TestServer server(setup);
    Client client(server.port());
    const std::string body = pattern(30'000);
    CHECK(client.get("/").body == "hello");
    for (int round = 1; round <= 3; ++round) {
      client.send(get("/wait"));
      CHECK(eventually([&] { return server.observed().waiting >= round; }));
      std::string bytes;
      for (int index = 0; index < 10; ++index) bytes += get("/") + post("/echo-there", body);
      std::thread sender([&] {
        for (std::size_t at = 0; at < bytes.size(); at += 50'000) CHECK(client.send(bytes.substr(at, 50'000)));
      });
      server.release();
      CHECK(client.read().body == "released");
      for (int index = 0; index < 10; ++index) {
        CHECK(client.read().body == "hello");
        CHECK((client.read().body == body));
      }
      sender.join();
    }
  });
}

TEST_CASE("a kept connection takes uploads in pieces between small requests") {
  on_every_setup([](const ServerSetup& setup) {
    TestServer server(setup);
    Client client(server.port());
    const std::string body = pattern(20'000);
    for (const std::size_t piece : {std::size_t{150}, std::size_t{1000}, std::size_t{9000}, std::size_t{100'000}}) {
      for (const char* path : {"/echo", "/echo-there", "/echo-anywhere"}) {
        CAPTURE(piece);
        CHECK(client.get("/").body == "hello");
        const std::string upload = post(path, body) + post_chunked(path, body, 3000) + get("/");
        for (std::size_t at = 0; at < upload.size(); at += piece) REQUIRE(client.send(upload.substr(at, piece)));
        CHECK((client.read().body == body));
        CHECK((client.read().body == body));
        CHECK(client.read().body == "hello");
      }
    }
  });
}

TEST_CASE("bodies go both ways, with a length and in chunks") {
  on_every_setup([](const ServerSetup& setup) {
    TestServer server(setup);
    Client client(server.port());
    const std::string body = pattern(1'000'000);
    for (const char* path : {"/echo", "/echo-there", "/echo-anywhere", "/stream-echo"}) {
      const std::string name = path;
      CAPTURE(name);
      for (const std::size_t step : {std::size_t{0}, std::size_t{777}, std::size_t{100'000}}) {
        CAPTURE(step);
        std::thread sender([&] { CHECK(client.send(step == 0 ? post(name, body) : post_chunked(name, body, step))); });
        const Response response = client.read();
        sender.join();
        CHECK(response.status == 200);
        CHECK((response.body == body));
        const bool streamed = name == "/stream-echo";
        CHECK(response.fields.count(streamed ? "transfer-encoding" : "content-length") == 1);
      }
    }
    client.send(post("/inline-body", "12345"));
    CHECK(client.read().body == "12345");
    client.send(post_chunked("/inline-body", "12345", 2));
    CHECK(client.read().body == "12345");
    const Response length = client.get("/stream-length");
    CHECK(length.fields.at("content-length") == "100");
    CHECK(length.body.size() == 100);
  });
}

TEST_CASE("a client that expects 100 Continue gets it when the body is wanted") {
  on_every_setup([](const ServerSetup& setup) {
    TestServer server(setup);
    Client client(server.port());
    const std::string fields = "Host: test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    for (const char* path : {"/echo", "/echo-there"}) {
      client.send("POST " + std::string(path) + " HTTP/1.1\r\n" + fields);
      CHECK(client.read().status == 100);
      client.send("12345");
      CHECK(client.read().body == "12345");
    }
    // Sent along without waiting: no interim response is needed.
    client.send("POST /echo HTTP/1.1\r\n" + fields + "12345");
    const Response response = client.read();
    CHECK(response.status == 200);
    CHECK(response.body == "12345");
    // Not wanted: the final response comes at once, and since the body may or may not follow, the connection ends.
    client.send("POST /unknown HTTP/1.1\r\n" + fields);
    const Response refused = client.read();
    CHECK(refused.status == 404);
    CHECK(refused.fields.at("connection") == "close");
    CHECK(client.ends());
    // HTTP/1.0 knows no interim responses.
    Client old(server.port());
    old.send("POST /echo HTTP/1.0\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    old.send("12345");
    CHECK(old.read().status == 200);
  });
}

TEST_CASE("HTTP/1.0 connections close unless asked to stay") {
  on_every_setup([](const ServerSetup& setup) {
    TestServer server(setup);
    {
      Client client(server.port());
      client.send("GET / HTTP/1.0\r\n\r\n");
      const Response response = client.read();
      CHECK(response.body == "hello");
      CHECK(response.fields.at("connection") == "close");
      CHECK(client.ends());
    }
    {
      Client client(server.port());
      for (int round = 0; round < 3; ++round) {
        client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        const Response response = client.read();
        CHECK(response.body == "hello");
        CHECK(response.fields.at("connection") == "keep-alive");
      }
      // A stream without a length can only end with the connection, and has no chunks.
      client.send("GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
      const Response response = client.read();
      CHECK(response.fields.at("connection") == "close");
      CHECK(response.fields.count("transfer-encoding") == 0);
      CHECK(response.body.size() == 100);
    }
  });
}

TEST_CASE("responses to HEAD, 204 and 304 have no body") {
  on_every_setup([](const ServerSetup& setup) {
    TestServer server(setup);
    Client client(server.port());
    for (const char* path : {"/", "/stream", "/stream-length", "/open", "/status?404"}) {
      client.send("HEAD " + std::string(path) + " HTTP/1.1\r\nHost: test\r\n\r\n");
      CHECK(client.read(true).complete);
    }
    CHECK(client.get("/status?204").status == 204);
    CHECK(client.get("/status?304").status == 304);
    const Response reset = client.get("/status?205");
    CHECK(reset.status == 205);
    CHECK(reset.fields.at("content-length") == "0");
    CHECK(client.get("/").body == "hello");  // nothing was left over
  });
}

TEST_CASE("bad requests are refused and nothing after them is answered") {
  on_every_setup([](const ServerSetup& setup) {
    TestServer server(setup);
    const std::string smuggled = get("/");
    const std::vector<std::pair<std::string, int>> cases = {
        {"GET / HTTP/1.1\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nhello", 400},
        {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n", 400},
        {"FOO / HTTP/1.1\r\nHost: a\r\n\r\n", 501},
        {"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 501},
        {"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505},
        {"GET https://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 421},
        {"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400},
        {std::string(100'000, 'A') + " / HTTP/1.1\r\nHost: a\r\n\r\n", 501},
        {"GET / HTTP/1.1\r\nHost: a\r\nExpect: wonders\r\n\r\n", 417},
        {"GET /" + std::string(9000, 'a') + " HTTP/1.1\r\nHost: a\r\n\r\n", 414},
        {"GET / HTTP/1.1\r\nHost: a\r\nX: " + std::string(40'000, 'a') + "\r\n\r\n", 431},
        {"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloX0\r\n\r\n", 400},
        {"POST /echo-there HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n", 400},
    };
    for (const auto& [bytes, status] : cases) {
      const std::string start = bytes.substr(0, 100);
      CAPTURE(start);
      Client client(server.port());
      CHECK(client.send(get("/") + bytes + smuggled));
      CHECK(client.read().status == 200);
      const Response response = client.read();
      CHECK(response.status == status);
      CHECK(response.complete);
      CHECK(response.fields.at("connection") == "close");
      CHECK(client.ends());
    }
    Client client(server.port());
    CHECK(client.get("/").status == 200);
  });
}

TEST_CASE("a large refused request does not destroy its answer") {
  on_every_setup([](const ServerSetup& setup) {
    TestServer server(setup);
    Client client(server.port());
    std::thread sender([&] { client.send("GET /" + std::string(200'000, 'a')); });
    CHECK(client.read().status == 414);
    sender.join();
  });
}

TEST_CASE("bodies beyond the limit are refused with 413") {
  on_every_setup([](ServerSetup setup) {
    setup.limits.buffered_body_bytes = 10'000;
    TestServer server(setup);
    {
      Client client(server.port());
      client.send(post("/echo", pattern(10'000)));
      CHECK(client.read().status == 200);
      client.send(post("/echo", pattern(10'001)));
      CHECK(client.read().status == 413);
      client.send(post_chunked("/echo", pattern(20'000), 1000));
      CHECK(client.read().status == 413);
    }
    Client client(server.port());
    client.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n");
    const Response response = client.read();
    CHECK(response.status == 413);
    CHECK(response.fields.at("connection") == "close");
    CHECK(client.ends());
  });
}

TEST_CASE("an unread body is skipped if it is small and ends the connection if not") {
  on_every_setup([](ServerSetup setup) {
    setup.limits.drain_bytes = 50'000;
    TestServer server(setup);
    {
      Client client(server.port());
      client.send(post("/", pattern(40'000)));
      CHECK(client.read().status == 200);
      client.send(post_chunked("/", pattern(40'000), 3000));
      CHECK(client.read().status == 200);
      CHECK(client.get("/").status == 200);
    }
    {
      Client client(server.port());
      std::thread sender([&] { client.send(post("/", pattern(100'000)) + get("/")); });
      const Response response = client.read();
      CHECK(response.status == 200);
      CHECK(response.fields.at("connection") == "close");
      CHECK(client.ends());
      sender.join();
    }
    {
      Client client(server.port());  // how long it is turns out too late for a field
      std::thread sender([&] { client.send(post_chunked("/", pattern(100'000), 5000) + get("/")); });
      CHECK(client.read().status == 200);
      CHECK(client.ends());
      sender.join();
    }
  });
}

TEST_CASE("slow clients run into the time limits") {
  on_every_setup([](ServerSetup setup) {
    setup.limits.header_timeout = 100 * kMillisecond;
    setup.limits.body_timeout = 100 * kMillisecond;
    setup.limits.keep_alive_timeout = 100 * kMillisecond;
    TestServer server(setup);
    {
      Client client(server.port());
      client.send("GET / HTTP/1.1\r\nHos");
      const Response response = client.read();
      CHECK(response.status == 408);
      CHECK(response.fields.at("connection") == "close");
      CHECK(client.ends());
    }
    {
      Client client(server.port());  // a byte now and then does not help
      std::thread sender([&] {
        while (client.send("x")) std::this_thread::sleep_for(std::chrono::milliseconds(10));
      });
      CHECK(client.read().status == 408);
      client.shutdown_write();
      sender.join();
    }
    {
      Client client(server.port());
      CHECK(client.ends());  // it never said a word
    }
    {
      Client client(server.port());
      CHECK(client.get("/").status == 200);
      CHECK(client.ends());
    }
    for (const char* path : {"/echo", "/echo-there"}) {
      Client client(server.port());
      client.send("POST " + std::string(path) + " HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345");
      CHECK(client.read().status == 408);
      CHECK(client.ends());
    }
    {
      Client client(server.port());  // an answer, but the rest of the body never comes
      client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345");
      CHECK(client.read().status == 200);
      CHECK(client.ends());
    }
  });
}

TEST_CASE("a client that does not read is dropped after a while") {
  on_every_setup([](ServerSetup setup) {
    setup.limits.send_timeout = 100 * kMillisecond;
    TestServer server(setup);
    Client client(server.port(), 8192);
    client.send(get("/flood?64"));
    CHECK(eventually([&] { return server.observed().write_errors == 1; }));
    Client another(server.port());
    CHECK(another.get("/").status == 200);
  });
}

TEST_CASE("a slow reader slows the writer down and memory stays bounded") {
  on_every_setup([](const ServerSetup& setup) {
    TestServer server(setup);
    Client client(server.port(), 16 * 1024);
    client.send(get("/flood?24"));
    constexpr std::uint64_t kInKernel = 10'000'000;  // what send buffers may grow to, generously
    std::uint64_t received = 0;
    std::string tail;
    while (true) {
      const std::string bytes = client.read_some(32 * 1024);
      if (bytes.empty()) break;
      received += bytes.size();
      const std::uint64_t ahead = server.observed().written.load();
      CHECK(ahead <= received + kInKernel);
      tail = (tail + bytes).substr(tail.size() + bytes.size() > 16 ? tail.size() + bytes.size() - 16 : 0);
      if (tail.find("\r\n0\r\n\r\n") != std::string::npos) break;
    }
    CHECK(received > 24U * 1024 * 1024);
    CHECK(server.observed().write_errors == 0);
  });
}

TEST_CASE("a client that vanishes is noticed by the next write and harms nobody") {
  on_every_setup([](const ServerSetup& setup) {
    TestServer server(setup);
    for (int round = 0; round < 5; ++round) {
      Client client(server.port());
      client.send(get("/flood?64"));
      CHECK_FALSE(client.read_some(1000).empty());
      client.abort();
      CHECK(eventually([&] { return server.observed().write_errors == round + 1; }));
    }
    {
      Client waiting(server.port());  // gone while its handler waits
      waiting.send(get("/wait"));
      CHECK(eventually([&] { return server.observed().waiting == 1; }));
      waiting.abort();
    }
    {
      Client half(server.port());
      half.send("POST /echo-there HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345");
      half.shutdown_write();
      CHECK(half.read().status == 400);
    }
    server.release();
    Client client(server.port());
    CHECK(client.get("/").status == 200);
  });
}

TEST_CASE("a response that cannot be finished is visibly cut") {
  on_every_setup([](const ServerSetup& setup) {
    TestServer server(setup);
    for (const char* path : {"/cut", "/promise"}) {
      const std::string name = path;
      CAPTURE(name);
      Client client(server.port());
      const Response response = client.get(name);
      CHECK(response.status == 200);
      CHECK_FALSE(response.complete);
    }
  });
}

TEST_CASE("stop lets responses finish, closes idle connections and loses nothing") {
  on_every_setup([](const ServerSetup& setup) {
    const std::size_t descriptors_before = count_descriptors();
    {
      TestServer server(setup);
      Client idle(server.port());
      CHECK(idle.get("/").status == 200);
      Client busy(server.port());
      busy.send(get("/wait") + get("/"));
      CHECK(eventually([&] { return server.observed().waiting == 1; }));

      std::atomic<std::uint64_t> complete{0}, partial{0};
      std::vector<std::thread> loaders;
      for (int index = 0; index < 4; ++index) {
        loaders.emplace_back([&] {
          while (true) {
            Client client(server.port());
            bool more = client.send(get("/large?20000"));
            if (!more) return;
            while (more) {
              const Response response = client.read();
              if (response.status == 0) return;  // closed between two requests
              ++(response.complete ? complete : partial);
              if (response.fields.count("connection") != 0) return;
              more = client.send(get("/large?20000"));
            }
          }
        });
      }
      CHECK(eventually([&] { return complete > 200; }));
      server.stop();
      for (std::thread& loader : loaders) loader.join();
      CHECK(partial == 0);
      CHECK(idle.ends());
      server.release();
      const Response last = busy.read();
      CHECK(last.body == "released");
      CHECK(last.fields.at("connection") == "close");
      CHECK(busy.ends());  // the request behind it is not answered
      busy.close();
      server.join();
      CHECK(server.observed().abandoned == 0);
    }
    CHECK(count_descriptors() == descriptors_before);
  });
}

TEST_CASE("after the grace period requests are cut and their handlers told") {
  on_every_setup([](ServerSetup setup) {
    setup.grace = 50 * kMillisecond;
    TestServer server(setup);
    Client waiting(server.port());
    waiting.send(get("/wait"));
    CHECK(eventually([&] { return server.observed().waiting == 1; }));
    Client reading(server.port());
    reading.send("POST /echo-there HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345");
    Client flooded(server.port(), 8192);
    flooded.send(get("/flood?64"));
    CHECK_FALSE(flooded.read_some(1000).empty());
    Client begun(server.port());
    begun.send("GET / HT");
    CHECK(eventually([&] { return server.observed().handled == 3; }));
    server.stop();
    server.join();
    CHECK(server.observed().abandoned >= 1);
    CHECK(server.observed().write_errors >= 1);
  });
}

TEST_CASE("connections beyond the limit wait until one ends") {
  on_every_setup([](ServerSetup setup) {
    if (setup.workers != 1) return;  // which worker a connection goes to is the kernel's choice
    setup.limits.connections = 2;
    TestServer server(setup);
    Client first(server.port()), second(server.port()), third(server.port());
    CHECK(first.get("/").status == 200);
    CHECK(second.get("/").status == 200);
    third.send(get("/"));
    CHECK(first.get("/").status == 200);
    CHECK(server.observed().handled == 3);
    second.close();
    CHECK(third.read().status == 200);
  });
}

TEST_CASE("a Unix-domain listener is shared by the workers") {
  on_every_setup([](ServerSetup setup) {
    const std::string path = "/tmp/evlua-http-test-" + std::to_string(::getpid()) + ".sock";
    setup.address = "unix:" + path;
    TestServer server(setup);
    for (int round = 0; round < 10; ++round) {
      Client client(path);
      CHECK(client.get("/").body == "hello");
      CHECK(client.get("/names").body == "unix: unix:" + path);
    }
  });
}

TEST_CASE("many connections at once are all served") {
  on_every_setup([](const ServerSetup& setup) {
    TestServer server(setup);
    std::vector<std::unique_ptr<Client>> clients;
    for (int index = 0; index < 300; ++index) clients.push_back(std::make_unique<Client>(server.port()));
    for (const auto& client : clients) client->send(post("/echo-anywhere", pattern(20'000)));
    for (const auto& client : clients) CHECK(client->read().body.size() == 20'000);
    for (const auto& client : clients) CHECK(client->get("/").status == 200);
  });
}
