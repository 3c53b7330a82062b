#include "fs/directory.h"

#include <cerrno>
#include <cstring>

#include "core/blocking.h"
#include "core/worker.h"

namespace evlua::fs {

namespace {

constexpr std::size_t kBatch = 256;

const char* type_of(unsigned char type) noexcept {
  switch (type) {
    case DT_REG: return "file";
    case DT_DIR: return "directory";
    case DT_LNK: return "link";
    case DT_FIFO: return "fifo";
    case DT_SOCK: return "socket";
    case DT_CHR: return "char device";
    case DT_BLK: return "block device";
    default: return "unknown";
  }
}

int read_batch(DIR* handle, std::vector<Entry>& batch) {
  while (batch.size() < kBatch) {
    errno = 0;
    const dirent* entry = ::readdir(handle);
    if (entry == nullptr) return errno;
    if (std::strcmp(entry->d_name, ".") == 0 || std::strcmp(entry->d_name, "..") == 0) continue;
    batch.push_back({entry->d_name, type_of(entry->d_type)});
  }
  return 0;
}

}  // namespace

Directory::~Directory() { close(); }

void Directory::close() noexcept {
  if (handle_ != nullptr) ::closedir(std::exchange(handle_, nullptr));
}

Task<Result<Directory>> Directory::open(std::string path) {
  DIR* handle = nullptr;
  int error = 0;
  auto call = blocking(Worker::current().pool(), [&] {
    handle = ::opendir(path.c_str());
    error = errno;
    return 0;
  });
  const std::optional<int> ran = co_await call;
  if (!ran) co_return fail(ECANCELED, OpCode::open);
  if (handle == nullptr) co_return fail(error, OpCode::open);
  co_return Directory(handle);
}

Task<Result<std::vector<Entry>>> Directory::next_batch() {
  std::vector<Entry> batch;
  auto call = blocking(Worker::current().pool(), [&] { return read_batch(handle_, batch); });
  const std::optional<int> error = co_await call;
  if (!error) co_return fail(ECANCELED, OpCode::read);
  if (*error != 0) co_return fail(*error, OpCode::read);
  co_return batch;
}

}  // namespace evlua::fs
