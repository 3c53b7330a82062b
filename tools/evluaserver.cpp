// evluaserver: an HTTP server that hands requests to Lua.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <string>
#include <vector>

#include "core/scheduler.h"
#include "core/trace.h"
#include "lua/signals.h"
#include "lua/slice.h"
#include "tools/runtime.h"
#include "tools/server_app.h"

namespace evlua::tools {
namespace {

struct CommandLine {
  RuntimeOptions runtime;
  ServerOptions server;
  std::vector<std::string> listen;
  std::string host = "127.0.0.1";
  unsigned port = 8080;
  double grace_seconds = 30;
  double cpu_seconds = 0;
  double request_seconds = 0;
  unsigned vm_megabytes = 1024;
  std::vector<std::string> certificates, keys, staples;
  std::string client_certificates = "off";
  std::vector<std::string> folders;
  std::string cache_control;
  bool version = false;
};

void define_tls(CLI::App& app, CommandLine& line) {
  app.add_option("--tls-cert", line.certificates, "PEM file of a certificate and its chain, repeatable: by name (SNI)")
      ->allow_extra_args(false);
  app.add_option("--tls-key", line.keys, "PEM file of its key, as often as --tls-cert")->allow_extra_args(false);
  app.add_option("--tls-ocsp", line.staples, "DER file of an OCSP response to staple, for the certificates in turn")
      ->allow_extra_args(false);
  app.add_flag("--tls-auto-dev", line.server.tls_development, "HTTPS with a self-signed certificate, for development");
  app.add_flag("!--no-http2", line.server.tls.http2, "do not offer HTTP/2");
  app.add_option("--tls-client", line.client_certificates, "client certificates: off, optional or required")
      ->check(CLI::IsMember({"off", "optional", "required"}));
  app.add_option("--tls-client-ca", line.server.tls.client_ca, "PEM file of whom we trust to sign them");
}

void define(CLI::App& app, CommandLine& line) {
  app.add_option("app", line.server.app, "Lua file that returns a handler");
  app.add_option("--listen", line.listen,
                 "[http://|https://]ADDRESS:PORT or unix:PATH, repeatable (default 127.0.0.1:8080); without a scheme "
                 "it is HTTPS if there is a certificate")
      ->allow_extra_args(false);
  app.add_option("--host", line.host, "address to listen on, with --port");
  app.add_option("--port", line.port, "port to listen on, with --host")->check(CLI::Range(0, 65535));
  app.add_option("--workers", line.runtime.workers, "worker threads (default: one per core)")
      ->check(CLI::Range(1, 1024));
  app.add_option("--backend", line.runtime.backend, "io_uring, libev or auto");
  app.add_option("--grace", line.grace_seconds, "seconds that requests may go on after SIGTERM")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--max-body", line.server.limits.buffered_body_bytes, "bytes of a body that req:body() takes");
  app.add_option("--max-expansion", line.server.limits.expansion_ratio,
                 "how many times what was sent a decoded body may have, beyond --max-body (default 200)")
      ->check(CLI::Range(1, 1'000'000));
  app.add_option("--max-connections", line.server.limits.connections, "connections open at once");
  app.add_option("--vms", line.server.vms, "Lua states of each worker (default 1)")->check(CLI::Range(1, 64));
  app.add_option("--vm-memory", line.vm_megabytes, "MiB that one Lua state may hold (default 1024); 0: no limit");
  app.add_option("--cpu-limit", line.cpu_seconds, "seconds of processor time for one request; 0: no limit")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--request-timeout", line.request_seconds, "seconds until a handler's time is over; 0: no limit")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--compress", line.server.limits.compression_level,
                 "compress responses, 1 (fast) to 9 (small); 0, the default: as they are")
      ->check(CLI::Range(0, 9));
  app.add_option("--static", line.folders,
                 "DIR or DIR=PREFIX, repeatable: files that are served before the app is asked")
      ->allow_extra_args(false);
  app.add_option("--static-cache", line.cache_control, "Cache-Control of those files, e.g. 'max-age=3600'");
  define_tls(app, line);
  app.add_option("--trace", line.runtime.trace, "file for a timeline, for Perfetto or chrome://tracing");
  app.add_flag("--stats", line.runtime.stats, "print what the workers counted, at the end");
  app.add_flag("--dev", line.server.development, "show tracebacks in error pages, and --watch");
  app.add_flag("--watch", line.server.watch, "load the app again when one of its files has changed");
  app.add_flag("-v,--version", line.version, "print the version");
}

/// False after printing what is wrong.
bool parse_addresses(CommandLine& line) {
  if (line.listen.empty()) {
    const bool v6 = line.host.find(':') != std::string::npos;
    line.listen.push_back((v6 ? "[" + line.host + "]" : line.host) + ":" + std::to_string(line.port));
  }
  const bool secure = !line.certificates.empty() || line.server.tls_development;
  for (const std::string& text : line.listen) {
    const bool plain = text.starts_with("http://");
    const bool https = text.starts_with("https://");
    const Result<net::Address> address = net::Address::parse(std::string_view(text).substr(plain ? 7 : https ? 8 : 0));
    if (!address) {
      std::fprintf(stderr, "evluaserver: '%s' is no address: ADDRESS:PORT, [IPv6]:PORT or unix:PATH expected\n",
                   text.c_str());
      return false;
    }
    if (https && !secure) {
      std::fprintf(stderr, "evluaserver: '%s' needs --tls-cert and --tls-key, or --tls-auto-dev\n", text.c_str());
      return false;
    }
    line.server.listen.push_back({*address, secure && !plain});
  }
  return true;
}

/// False after printing what is wrong.
bool check_tls(CommandLine& line) {
  tls::ServerOptions& options = line.server.tls;
  const char* wrong = nullptr;
  if (line.certificates.size() != line.keys.size()) {
    wrong = "as many --tls-key as --tls-cert are needed";
  } else if (line.staples.size() > line.certificates.size()) {
    wrong = "there are more --tls-ocsp than --tls-cert";
  } else if ((line.client_certificates != "off") != !options.client_ca.empty()) {
    wrong = "--tls-client and --tls-client-ca belong together";
  }
  if (wrong != nullptr) {
    std::fprintf(stderr, "evluaserver: %s\n", wrong);
    return false;
  }
  for (std::size_t i = 0; i < line.certificates.size(); ++i) {
    const std::string staple = i < line.staples.size() ? line.staples[i] : std::string();
    options.certificates.push_back({line.certificates[i], line.keys[i], staple});
  }
  if (line.client_certificates == "optional") options.client_certificates = tls::ClientCertificates::optional;
  if (line.client_certificates == "required") options.client_certificates = tls::ClientCertificates::required;
  return true;
}

/// DIR=PREFIX; a folder whose name has an equals sign needs the prefix.
void add_folders(CommandLine& line) {
  for (const std::string& text : line.folders) {
    const std::size_t equals = text.find_last_of('=');
    http::StaticFolder folder;
    folder.directory = text.substr(0, equals);
    folder.prefix = equals == std::string::npos ? "/" : text.substr(equals + 1);
    if (!folder.prefix.starts_with('/')) folder.prefix.insert(0, "/");
    folder.cache_control = line.cache_control;
    line.server.folders.push_back(std::move(folder));
  }
}

int serve(CommandLine& line) {
  begin_trace(line.runtime);
  lua::SignalHub signals;
  lua::SliceMonitor slices;
  const BackendChoice backend = choose_backend(line.runtime, false);
  Scheduler scheduler({worker_count(line.runtime)}, backend.factory);
  const Result<int> code = scheduler.run(run_server(scheduler, line.server, signals));
  Trace::finish();
  if (!code) {
    std::fprintf(stderr, "evluaserver: cannot start: %s\n", code.error().describe().c_str());
    return 1;
  }
  if (line.runtime.stats) print_stats(scheduler);
  return *code;
}

}  // namespace
}  // namespace evlua::tools

int main(int argc, char** argv) {
  using namespace evlua::tools;
  CommandLine line;
  CLI::App app("HTTP server that hands requests to Lua", "evluaserver");
  define(app, line);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  if (line.version) {
    std::printf("%s\n", version_line("evluaserver").c_str());
    return 0;
  }
  add_folders(line);
  if (line.server.app.empty() && line.server.folders.empty()) {
    std::fprintf(stderr, "evluaserver: which app? usage: evluaserver app.lua [options], or --static DIR; see --help\n");
    return 2;
  }
  if (!parse_addresses(line) || !check_tls(line)) return 2;
  line.server.watch |= line.server.development;
  line.server.grace = evlua::duration_from_seconds(line.grace_seconds);
  line.server.vm_memory = std::size_t{line.vm_megabytes} << 20;
  if (line.cpu_seconds > 0) line.server.cpu_limit = evlua::duration_from_seconds(line.cpu_seconds);
  if (line.request_seconds > 0) {
    line.server.limits.handler_timeout = evlua::duration_from_seconds(line.request_seconds);
  }
  return serve(line);
}
