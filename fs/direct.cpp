// Files that are read and written past the page cache.
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "core/io_await.h"
#include "fs/file.h"

namespace evlua::fs {

namespace {

constexpr std::size_t kDirectPiece = std::size_t{1} << 20;
constexpr std::uint32_t kUsualAlignment = 4096;  // enough for every device, where the kernel does not say (before 6.1)

struct Freed {
  void operator()(char* memory) const noexcept { std::free(memory); }
};
using AlignedMemory = std::unique_ptr<char, Freed>;

std::uint8_t bits_of(std::uint32_t power_of_two) noexcept {
  return static_cast<std::uint8_t>(std::bit_width(power_of_two) - 1);
}

/// What memory must be a multiple of and lie at a multiple of.
std::size_t memory_unit_of(std::size_t alignment, std::uint8_t memory_bits) noexcept {
  return std::max({alignment, std::size_t{1} << memory_bits, sizeof(void*)});
}

/// Null when there is no memory. `size` must be a multiple of `alignment`.
AlignedMemory aligned_memory(std::size_t alignment, std::size_t size) noexcept {
  return AlignedMemory(static_cast<char*>(std::aligned_alloc(alignment, size)));
}

}  // namespace

int File::learn_alignment() noexcept {
  struct statx info {};
  if (::statx(fd_, "", AT_EMPTY_PATH, STATX_TYPE | STATX_DIOALIGN, &info) != 0) return errno;
  if ((info.stx_mask & STATX_DIOALIGN) == 0) info.stx_dio_offset_align = info.stx_dio_mem_align = kUsualAlignment;
  if (info.stx_dio_offset_align == 0 || info.stx_dio_mem_align == 0) return EOPNOTSUPP;
  // Not 0 bits, which stand for files that are not open so.
  alignment_bits_ = std::max(bits_of(info.stx_dio_offset_align), std::uint8_t{1});
  memory_alignment_bits_ = bits_of(info.stx_dio_mem_align);
  return 0;
}

Task<Result<std::size_t>> File::read_direct(void* data, std::size_t size, std::int64_t offset, Instant deadline) {
  const auto unit = static_cast<std::int64_t>(alignment());
  const std::int64_t begin = offset / unit * unit;
  const auto skipped = static_cast<std::size_t>(offset - begin);
  const std::size_t wanted = std::min(size, kDirectPiece);
  const std::size_t whole = (skipped + wanted + alignment() - 1) / alignment() * alignment();
  const std::size_t memory_unit = memory_unit_of(alignment(), memory_alignment_bits_);
  const AlignedMemory memory = aligned_memory(memory_unit, (whole + memory_unit - 1) / memory_unit * memory_unit);
  if (memory == nullptr) co_return fail(ENOMEM, OpCode::read);
  IoAwait op(OpCode::read, fd_, OpArgs{.read = {memory.get(), static_cast<std::uint32_t>(whole), begin}});
  op.until(deadline);
  const Result<std::int32_t> got = co_await op;
  if (!got) co_return fail(got.error());
  const auto there = static_cast<std::size_t>(*got);
  if (there <= skipped) co_return std::size_t{0};
  const std::size_t taken = std::min(there - skipped, wanted);
  std::memcpy(data, memory.get() + skipped, taken);
  co_return taken;
}

Task<Result<void>> File::write_direct(std::string_view bytes, std::int64_t offset, Instant deadline) {
  if (offset % alignment() != 0 || bytes.size() % alignment() != 0) co_return fail(EINVAL, OpCode::write);
  const std::size_t memory_unit = memory_unit_of(alignment(), memory_alignment_bits_);
  const std::size_t room = std::max(std::min(bytes.size(), kDirectPiece) / memory_unit, std::size_t{1}) * memory_unit;
  const AlignedMemory memory = aligned_memory(memory_unit, room);
  if (memory == nullptr) co_return fail(ENOMEM, OpCode::write);
  while (!bytes.empty()) {
    const std::size_t piece = std::min(bytes.size(), room);
    std::memcpy(memory.get(), bytes.data(), piece);
    IoAwait op(OpCode::write, fd_, OpArgs{.write = {memory.get(), static_cast<std::uint32_t>(piece), offset}});
    op.until(deadline);
    const Result<std::int32_t> wrote = co_await op;
    if (!wrote) co_return fail(wrote.error());
    const std::size_t done = static_cast<std::size_t>(*wrote) / alignment() * alignment();
    if (done == 0) co_return fail(EIO, OpCode::write);
    bytes.remove_prefix(done);
    offset += static_cast<std::int64_t>(done);
  }
  co_return Result<void>();
}

}  // namespace evlua::fs
