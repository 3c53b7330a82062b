#include "tools/command_line.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <set>

#include "core/log.h"
#include "lua/compat.h"
#include "tools/option_sources.h"
#include "tools/option_values.h"

namespace evlua::tools {

namespace {

/// `--name=`, of which CLI11 would make the next argument the value; empty: there is none.
std::string find_valueless(const std::vector<std::string>& arguments) {
  for (const std::string& argument : arguments) {
    if (argument == "--") break;
    if (argument.starts_with("--") && argument.find('=') == argument.size() - 1) return argument;
  }
  return {};
}

}  // namespace

void ServerCommandLine::define_tls(CLI::App& app) {
  app.add_option("--tls-cert", certificates, "PEM file of a certificate and its chain, repeatable: by name (SNI)")
      ->allow_extra_args(false);
  app.add_option("--tls-key", keys, "PEM file of its key, as often as --tls-cert")->allow_extra_args(false);
  app.add_option("--tls-ocsp", staples, "DER file of an OCSP response to staple, for the certificates in turn")
      ->allow_extra_args(false);
  app.add_flag("--tls-auto-dev", server.tls_development, "HTTPS with a self-signed certificate, for development");
  app.add_flag("--no-http2", no_http2_, "HTTP/1.1 only");
  app.add_option("--tls-client", client_certificates, "client certificates: off, optional or required")
      ->check(CLI::IsMember({"off", "optional", "required"}));
  app.add_option("--tls-client-ca", server.tls.client_ca, "PEM file of whom we trust to sign them");
}

void ServerCommandLine::define_limits(CLI::App& app) {
  app.add_option("--grace", grace_seconds, "seconds that requests may go on after SIGTERM")->check(seconds_from(0));
  app.add_option("--stop-timeout", stop_seconds, "seconds that the app's stop and its tasks may go on after that")
      ->check(seconds_from(0));
  app.add_option("--start-timeout", start_seconds, "seconds that a reload, or a new evluaserver on SIGUSR2, may take")
      ->check(seconds_from(0.001));
  app.add_option("--vm-memory", vm_megabytes, "MiB that one Lua state may hold (default 1024); 0: no limit")
      ->transform(whole_number(0, kOptionBytesMax >> 20));
  app.add_option("--cpu-limit", cpu_seconds, "seconds of processor time for one request; 0: no limit")
      ->check(seconds_from(0));
  app.add_option("--request-timeout", request_seconds, "seconds until a handler's time is over; 0: no limit")
      ->check(seconds_from(0));
}

void ServerCommandLine::define_proxies(CLI::App& app) {
  app.add_option("--proxy-protocol", announcing_proxies,
                 "ADDRESS,NETWORK/LENGTH,unix:.. of load balancers whose connections begin with a PROXY header")
      ->allow_extra_args(false);
  app.add_option("--trusted-proxy", trusted_proxies,
                 "likewise, of proxies whose Forwarded or X-Forwarded-* headers are believed")
      ->allow_extra_args(false);
}

void ServerCommandLine::define_process(CLI::App& app) {
  app.add_option("--user", user, "become this user once the sockets and certificates are open");
  app.add_option("--group", group, "and this group, instead of the user's");
  app.add_option("--pid-file", server.pid_file, "file for the process id");
  app.add_option("--config", config_file_, "TOML file with these options")->configurable(false);
  app.add_flag("-t,--check", check, "load the certificates and the app, and tell whether they are good")
      ->configurable(false);
  app.add_flag("--print-config", print_config_, "print the options as a file for --config")->configurable(false);
  app.add_flag("-v,--version", version_, "print the version")->configurable(false);
}

void ServerCommandLine::define(CLI::App& app) {
  app.option_defaults()->always_capture_default();
  app.add_option("app", server.app, "Lua file that returns a handler");
  CLI::Option* listening =
      app.add_option("--listen", listen,
                     "[http://|https://]ADDRESS:PORT or unix:PATH, repeatable (default 127.0.0.1:8080); without a "
                     "scheme it is HTTPS if there is a certificate")
          ->allow_extra_args(false);
  app.add_option("--host", host, "address to listen on, with --port")->excludes(listening);
  app.add_option("--port", port, "port to listen on, with --host")
      ->transform(whole_number(0, 65535))
      ->excludes(listening);
  app.add_option("--workers", runtime.workers, "worker threads (default: one per core)")
      ->transform(whole_number(1, 1024))
      ->default_str("");
  app.add_option("--backend", runtime.backend, "io_uring, libev or auto");
  app.add_option("--vms", server.vms, "Lua states of each worker (default 1)")->transform(whole_number(1, 64));
  app.add_option("--compat", server.compat, "put ours in the place of another library, repeatable: socket (LuaSocket)")
      ->allow_extra_args(false)
      ->check(CLI::IsMember(std::vector<std::string>(lua::kCompatNames.begin(), lua::kCompatNames.end())));
  app.add_option("--compress", server.limits.compression_level,
                 "compress responses, 1 (fast) to 9 (small); 0, the default: as they are")
      ->transform(whole_number(0, 9));
  app.add_option("--static", folders, "DIR or DIR=PREFIX, repeatable: files that are served before the app is asked")
      ->allow_extra_args(false);
  app.add_option("--static-cache", cache_control, "Cache-Control of those files, e.g. 'max-age=3600'")
      ->check(header_value());
  define_limits(app);
  limit_options_.define(app, server.limits);
  define_tls(app);
  define_observe(app, server.observe);
  define_proxies(app);
  app.add_option("--trace", runtime.trace, "file for a timeline, for Perfetto or chrome://tracing");
  app.add_flag("--stats", runtime.stats, "print what was counted, at the end");
  app.add_flag("--dev", server.development, "show tracebacks in error pages, and --watch");
  app.add_flag("--watch", server.watch, "load the app again when one of its files has changed");
  define_process(app);
}

std::optional<int> ServerCommandLine::parse(int argc, char** argv) {
  CLI::App app("HTTP server that hands requests to Lua", "evluaserver");
  define(app);
  // `evluaserver check app.lua` is what people try first.
  std::vector<std::string> arguments(argv + 1, argv + argc);
  if (!arguments.empty() && arguments.front() == "check") arguments.front() = "--check";
  if (const std::string valueless = find_valueless(arguments); !valueless.empty()) {
    std::fprintf(stderr, "evluaserver: %s has no value\n", valueless.c_str());
    return 2;
  }
  std::reverse(arguments.begin(), arguments.end());  // as CLI11 wants them
  try {
    app.parse(arguments);
    if (!version_) take_from_elsewhere(app);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  if (version_) {
    std::printf("%s\n", version_line("evluaserver").c_str());
    return 0;
  }
  if (print_config_) {
    tell_defaults(app);
    print_config(app);
    return 0;
  }
  address_given_ = !listen.empty() || app.count("--host") + app.count("--port") != 0;
  add_folders();
  if (server.app.empty() && server.folders.empty()) {
    std::fprintf(stderr, "evluaserver: which app? usage: evluaserver app.lua [options], or --static DIR; see --help\n");
    return 2;
  }
  server.watch |= server.development;
  server.tls.http2 = server.limits.http2 = !no_http2_;
  if (!complete_observe(server.observe, server.limits) || !limit_options_.complete(server.limits)) return 2;
  server.grace = duration_from_seconds(grace_seconds);
  server.stop_limit = duration_from_seconds(stop_seconds);
  server.start_limit = duration_from_seconds(start_seconds);
  server.vm_memory = std::size_t{vm_megabytes} << 20;
  if (cpu_seconds > 0) server.cpu_limit = duration_from_seconds(cpu_seconds);
  if (request_seconds > 0) server.limits.handler_timeout = duration_from_seconds(request_seconds);
  return std::nullopt;
}

void ServerCommandLine::take_from_elsewhere(CLI::App& app) {
  if (config_file_.empty()) config_file_ = variable_value("config");
  take_from_environment(app, "config");
  if (!config_file_.empty()) take_from_file(app, config_file_);
}

/// Of options that stand for nothing until it is known where we run.
void ServerCommandLine::tell_defaults(CLI::App& app) const {
  const char* backend = std::getenv("EVLUA_BACKEND");
  app.get_option("--workers")->default_str(std::to_string(worker_count(runtime)));
  app.get_option("--backend")->default_str(backend != nullptr && *backend != '\0' ? backend : "auto");
  limit_options_.tell_defaults(app, server.limits);
}

bool ServerCommandLine::complete(const http::HandedSockets& handed) {
  if (!address_given_) {
    for (const net::Address& address : handed.addresses()) {
      if (address.to_string() != server.observe.admin) listen.push_back(address.to_string());
    }
  }
  return parse_addresses() && check_addresses() && check_tls() && parse_proxies();
}

/// False after printing what is wrong.
bool ServerCommandLine::parse_addresses() {
  if (listen.empty()) {
    const bool v6 = host.find(':') != std::string::npos;
    listen.push_back((v6 ? "[" + host + "]" : host) + ":" + std::to_string(port));
  }
  const bool secure = !certificates.empty() || server.tls_development;
  for (const std::string& text : listen) {
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
    server.listen.push_back({*address, secure && !plain});
  }
  return true;
}

/// Two listeners cannot have the same address. False after printing which.
bool ServerCommandLine::check_addresses() const {
  const Result<net::Address> admin = net::Address::parse(server.observe.admin);
  std::set<std::string> seen;
  for (const ListenAddress& listening : server.listen) {
    if (listening.address.any_port()) continue;
    const std::string name = listening.address.to_string();
    const bool is_admin = admin && admin->to_string() == name;
    if (!is_admin && seen.insert(name).second) continue;
    std::fprintf(stderr, "evluaserver: --listen %s is %s\n", name.c_str(),
                 is_admin ? "the address of --admin, too" : "given twice");
    return false;
  }
  return true;
}

/// False after printing what is wrong.
bool ServerCommandLine::check_tls() {
  tls::ServerOptions& options = server.tls;
  const char* wrong = nullptr;
  if (certificates.size() != keys.size()) {
    wrong = "as many --tls-key as --tls-cert are needed";
  } else if (staples.size() > certificates.size()) {
    wrong = "there are more --tls-ocsp than --tls-cert";
  } else if ((client_certificates != "off") != !options.client_ca.empty()) {
    wrong = "--tls-client and --tls-client-ca belong together";
  } else if (client_certificates != "off" && !any_tls()) {
    wrong = "--tls-client needs HTTPS: --tls-cert and --tls-key, or --tls-auto-dev, and an address without http://";
  }
  if (wrong != nullptr) {
    std::fprintf(stderr, "evluaserver: %s\n", wrong);
    return false;
  }
  for (std::size_t i = 0; i < certificates.size(); ++i) {
    const std::string staple = i < staples.size() ? staples[i] : std::string();
    options.certificates.push_back({certificates[i], keys[i], staple});
  }
  if (client_certificates == "optional") options.client_certificates = tls::ClientCertificates::optional;
  if (client_certificates == "required") options.client_certificates = tls::ClientCertificates::required;
  tell_what_is_plain();
  return true;
}

bool ServerCommandLine::any_tls() const {
  return std::any_of(server.listen.begin(), server.listen.end(), [](const ListenAddress& at) { return at.tls; });
}

void ServerCommandLine::tell_what_is_plain() const {
  if (client_certificates == "off") return;
  for (const auto& [address, tls] : server.listen) {
    if (tls) continue;
    Log::warn("http://%s is open to clients without a certificate, --tls-client is for HTTPS",
              address.to_string().c_str());
  }
}

/// False after printing what is wrong.
bool ServerCommandLine::parse_proxies() {
  const auto parse = [](const char* option, const std::vector<std::string>& given, http::AddressList& out) {
    if (given.empty()) return true;
    std::string all = given.front();
    for (std::size_t i = 1; i < given.size(); ++i) all += "," + given[i];
    auto list = http::AddressList::parse(all);
    if (!list) {
      std::fprintf(stderr, "evluaserver: %s: %s\n", option, list.error().c_str());
      return false;
    }
    out = std::move(*list);
    return true;
  };
  return parse("--proxy-protocol", announcing_proxies, server.limits.proxy_protocol) &&
         parse("--trusted-proxy", trusted_proxies, server.limits.trusted_proxies);
}

/// DIR=PREFIX; a folder whose name has an equals sign needs the prefix.
void ServerCommandLine::add_folders() {
  for (const std::string& text : folders) {
    const std::size_t equals = text.find_last_of('=');
    http::StaticFolder folder;
    folder.directory = text.substr(0, equals);
    folder.prefix = equals == std::string::npos ? "/" : text.substr(equals + 1);
    if (!folder.prefix.starts_with('/')) folder.prefix.insert(0, "/");
    folder.cache_control = cache_control;
    server.folders.push_back(std::move(folder));
  }
}

}  // namespace evlua::tools
