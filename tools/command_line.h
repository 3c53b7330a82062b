// evluaserver's options: from the command line, the environment and a file, under the same names.
//
// What is said on the command line counts most, then the environment (EVLUASERVER_MAX_BODY for --max-body), then the
// file that --config names.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tools/limit_options.h"
#include "tools/runtime.h"
#include "tools/server_app.h"

namespace CLI {
class App;
}

namespace evlua::tools {

struct ServerCommandLine {
  RuntimeOptions runtime;
  ServerOptions server;
  std::vector<std::string> listen;
  std::string host = "127.0.0.1";
  unsigned port = 8080;
  double grace_seconds = 30;
  double stop_seconds = 10;
  double start_seconds = 60;
  double cpu_seconds = 0;
  double request_seconds = 0;
  unsigned vm_megabytes = 1024;
  std::vector<std::string> certificates, keys, staples;
  std::string client_certificates = "off";
  std::vector<std::string> folders;
  std::string cache_control;
  std::vector<std::string> announcing_proxies, trusted_proxies;
  std::string user, group;
  bool check = false;  ///< load everything, and serve nothing

  /// What there is to do: nothing more, with this exit code, after printing; or to serve.
  std::optional<int> parse(int argc, char** argv);
  /// Listens on what was handed to us, if no address was given. False after printing what is wrong.
  bool complete(const http::HandedSockets& handed);

 private:
  LimitOptions limit_options_;
  bool version_ = false;
  bool no_http2_ = false;
  bool print_config_ = false;
  std::string config_file_;
  bool address_given_ = false;

  void define(CLI::App& app);
  void define_tls(CLI::App& app);
  void define_limits(CLI::App& app);
  void define_proxies(CLI::App& app);
  void define_process(CLI::App& app);
  void take_from_elsewhere(CLI::App& app);
  void tell_defaults(CLI::App& app) const;
  bool parse_addresses();
  bool check_addresses() const;
  bool check_tls();
  bool any_tls() const;
  void tell_what_is_plain() const;
  bool parse_proxies();
  void add_folders();
};

}  // namespace evlua::tools
