#include "net/http/static_handler.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>
#include <utility>

#include "core/blocking.h"
#include "core/worker.h"
#include "net/http/accept.h"
#include "net/http/files.h"
#include "net/http/media_types.h"
#include "net/http/syntax.h"

namespace evlua::http {

namespace {

constexpr std::string_view kIndex = "index.html";

int digit(char byte) noexcept {
  if (is_digit(byte)) return byte - '0';
  return (byte | 0x20) - 'a' + 10;
}

/// Decodes %XX; nothing for what cannot be decoded or holds a NUL, or a slash that was hidden.
std::optional<std::string> decode_path(std::string_view text) {
  std::string decoded;
  decoded.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    char byte = text[i];
    if (byte == '%') {
      if (i + 2 >= text.size() || !is_hex_digit(text[i + 1]) || !is_hex_digit(text[i + 2])) return std::nullopt;
      byte = static_cast<char>(digit(text[i + 1]) * 16 + digit(text[i + 2]));
      if (byte == '/') return std::nullopt;
      i += 2;
    }
    if (byte == '\0' || byte == '\\') return std::nullopt;
    decoded += byte;
  }
  return decoded;
}

/// Names without a dot in front, one slash between them; perhaps one at the end.
bool is_plain(std::string_view path) noexcept {
  while (!path.empty()) {
    const std::size_t slash = std::min(path.find('/'), path.size());
    const std::string_view name = path.substr(0, slash);
    if (name.empty() || (name[0] == '.' && name != ".well-known")) return false;
    path.remove_prefix(std::min(slash + 1, path.size()));
  }
  return true;
}

struct Sibling {
  std::string_view suffix;
  std::string_view coding;
};
constexpr std::array<Sibling, 3> kSiblings = {{{".br", "br"}, {".zst", "zstd"}, {".gz", "gzip"}}};

struct Chosen {
  OpenFile file;
  std::string_view media_type;
  bool varies = false;  ///< siblings were looked for
  std::string_view coding = {};
};

/// The file, or a sibling that the client would rather have. EAGAIN when that would have to wait.
Result<Chosen> choose_file(const Exchange& exchange, const StaticFolders::Found& found, bool may_wait) {
  Result<OpenFile> file = open_file(found.fd, found.path.c_str(), may_wait);
  if (!file) return fail(file.error());
  const std::string_view media_type = media_type_of(found.path);
  Chosen chosen{std::move(*file), media_type, found.folder->precompressed && is_compressible(media_type)};
  if (!chosen.varies) return chosen;
  std::string room;
  const std::string_view accepted = exchange.header_list("accept-encoding", room).value_or(std::string_view());
  const int least = std::max(1, identity_weight(accepted));
  std::array<Sibling, 3> siblings = kSiblings;
  std::stable_sort(siblings.begin(), siblings.end(), [accepted](const Sibling& left, const Sibling& right) {
    return coding_weight(accepted, left.coding) > coding_weight(accepted, right.coding);
  });
  for (const Sibling& sibling : siblings) {
    if (coding_weight(accepted, sibling.coding) < least) break;
    Result<OpenFile> better = open_file(found.fd, (found.path + std::string(sibling.suffix)).c_str(), may_wait);
    if (!better && better.error().is(EAGAIN)) return fail(better.error());
    if (!better) continue;
    return Chosen{std::move(*better), media_type, true, sibling.coding};
  }
  return chosen;
}

/// What begin_file makes of it.
std::unique_ptr<FileBody> begin(Exchange& exchange, const StaticFolders::Found& found, Chosen chosen) {
  if (chosen.varies) exchange.vary_by_coding();
  const FileOptions options{chosen.media_type, chosen.coding, found.folder->cache_control};
  return begin_file(exchange, std::move(chosen.file), options);
}

/// A folder is asked for without the slash behind it: links in its index would lead elsewhere.
void redirect(Exchange& exchange) {
  std::string target(exchange.path());
  target += '/';
  if (!exchange.query_string().empty()) target += "?" + std::string(exchange.query_string());
  static_cast<void>(exchange.set_status(301));
  static_cast<void>(exchange.set_header("Location", target));
  static_cast<void>(exchange.send({}));
}

}  // namespace

// -- folders --------------------------------------------------------------------------------------------------------

StaticFolders::~StaticFolders() {
  for (const Open& open : folders_) ::close(open.fd);
}

Result<void> StaticFolders::add(StaticFolder folder) {
  while (folder.prefix.ends_with('/')) folder.prefix.pop_back();
  const int fd = ::open(folder.directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return fail(errno, OpCode::open);
  folders_.push_back({std::move(folder), fd});
  return {};
}

bool StaticFolders::find(std::string_view path, Found& found) const {
  std::size_t longest = 0;
  for (const Open& open : folders_) {
    const std::string& prefix = open.folder.prefix;
    const bool itself = path.size() == prefix.size() && !prefix.empty();
    const bool within =
        path.starts_with(prefix) && (itself || (path.size() > prefix.size() && path[prefix.size()] == '/'));
    if (!within || (found.folder != nullptr && prefix.size() < longest)) continue;
    longest = prefix.size();
    found.folder = &open.folder;
    found.fd = open.fd;
  }
  if (found.folder == nullptr) return false;
  if (path.size() == longest) {
    found.path = ".";
    return true;
  }
  std::optional<std::string> decoded = decode_path(path.substr(longest + 1));
  if (!decoded || !is_plain(*decoded)) return false;
  found.path = std::move(*decoded);
  if (found.path.empty() || found.path.ends_with('/')) found.path += kIndex;
  return true;
}

// -- requests -------------------------------------------------------------------------------------------------------

/// Outlives the exchange's time with us.
struct StaticHandler::Work : Runnable {
  Task<void> task;
};

bool StaticHandler::pass_on(Exchange& exchange) noexcept {
  if (next_ != nullptr) return next_->handle(exchange);
  exchange.fail(404);
  return true;
}

bool StaticHandler::handle(Exchange& exchange) noexcept {
  const bool reads = exchange.method() == "GET" || exchange.is_head();
  StaticFolders::Found found;
  if (!reads || !folders_.find(exchange.path(), found)) return pass_on(exchange);
  Result<Chosen> chosen = choose_file(exchange, found, false);
  std::unique_ptr<FileBody> body;
  if (chosen) {
    body = begin(exchange, found, std::move(*chosen));
    if (body == nullptr || try_send_file(exchange, body)) return true;
  } else if (chosen.error().is(EISDIR)) {
    redirect(exchange);
    return true;
  } else if (!chosen.error().is(EAGAIN)) {
    return pass_on(exchange);
  }
  auto* work = new Work;
  work->run = [](Runnable& self) noexcept { delete static_cast<Work*>(&self); };
  exchange.user = this;
  exchange.defer();
  work->task = serve_later(exchange, std::move(found), std::move(body));
  work->task.start(TaskContext{&Worker::current().pinned(), nullptr, kNever}, *work);
  return false;
}

/// The disk has to be asked for the file (`body` is null then), or for its content, or the client has to be waited for.
Task<void> StaticHandler::serve_later(Exchange& exchange, StaticFolders::Found found, std::unique_ptr<FileBody> body) {
  if (body == nullptr) {
    auto choosing = blocking(scheduler_.pool(), [&] { return choose_file(exchange, found, true); });
    std::optional<Result<Chosen>> chosen = co_await choosing;
    if (*chosen) {
      body = begin(exchange, found, std::move(**chosen));
    } else if (chosen->error().is(EISDIR)) {
      redirect(exchange);
    } else {
      exchange.user = nullptr;
      const bool complete = pass_on(exchange);
      if (complete) exchange.complete();
      co_return;
    }
  }
  if (body != nullptr) {
    const Result<void> sent = co_await send_file(exchange, std::move(body));
    static_cast<void>(sent);  // finish notices what is missing
  }
  exchange.complete();
}

// Nothing of ours lasts longer than its client: the socket is shut down already.
void StaticHandler::abandon(Exchange& exchange) noexcept {
  if (exchange.user != this && next_ != nullptr) next_->abandon(exchange);
}

void StaticHandler::expire(Exchange& exchange) noexcept {
  if (exchange.user != this && next_ != nullptr) next_->expire(exchange);
}

void StaticHandler::examine(Exchange& exchange) noexcept {
  if (exchange.user != this && next_ != nullptr) next_->examine(exchange);
}

}  // namespace evlua::http
