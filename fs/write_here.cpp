#include "fs/write_here.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>

#include "core/io_await.h"

namespace evlua::fs {

namespace {
constexpr std::size_t kPiece = 1U << 30;
}  // namespace

Task<Result<std::int32_t>> write_here(int fd, std::string_view bytes, Instant deadline) {
  const auto piece = static_cast<std::uint32_t>(std::min(bytes.size(), kPiece));
  const off_t begin = ::lseek(fd, 0, SEEK_CUR);  // fails for what has no position
  IoAwait op(OpCode::write, fd, OpArgs{.write = {bytes.data(), piece, -1}});
  op.until(deadline);
  const Result<std::int32_t> wrote = co_await op;
  // io_uring forgets to move the position where it could write some of it only: the rest would be written over that,
  // and a disk that is full would take everything.
  const bool is_cut = wrote && *wrote > 0 && static_cast<std::uint32_t>(*wrote) < piece;
  if (is_cut && begin >= 0 && (::fcntl(fd, F_GETFL) & O_APPEND) == 0) (void)::lseek(fd, begin + *wrote, SEEK_SET);
  co_return wrote;
}

}  // namespace evlua::fs
