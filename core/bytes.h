// A growable run of bytes that is cheap to append to and keeps its memory when cleared. One thread at a time.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <utility>

#include "core/check.h"

namespace evlua {

class Bytes {
 public:
  Bytes() = default;
  Bytes(Bytes&& other) noexcept { swap(other); }
  Bytes& operator=(Bytes&& other) noexcept {
    swap(other);
    return *this;
  }
  ~Bytes() { std::free(data_); }

  void swap(Bytes& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(capacity_, other.capacity_);
  }

  char* data() noexcept { return data_; }
  const char* data() const noexcept { return data_; }
  std::size_t size() const noexcept { return size_; }
  std::size_t capacity() const noexcept { return capacity_; }
  bool empty() const noexcept { return size_ == 0; }
  std::string_view view() const noexcept { return {data_, size_}; }

  /// Room for `more` bytes behind the end: write there, then `commit` what was written.
  char* reserve(std::size_t more) noexcept {
    if (capacity_ - size_ < more) grow(more);
    return data_ + size_;
  }
  void commit(std::size_t written) noexcept {
    EVLUA_DCHECK(written <= capacity_ - size_);
    size_ += written;
  }

  void append(std::string_view bytes) noexcept {
    if (bytes.empty()) return;
    std::memcpy(reserve(bytes.size()), bytes.data(), bytes.size());
    size_ += bytes.size();
  }

  /// Keeps the first `size` bytes.
  void truncate(std::size_t size) noexcept {
    EVLUA_DCHECK(size <= size_);
    size_ = size;
  }

  /// Takes out `count` bytes at `from`.
  void erase(std::size_t from, std::size_t count) noexcept {
    std::memmove(data_ + from, data_ + from + count, size_ - from - count);
    size_ -= count;
  }

  /// Forgets the content, keeps the memory.
  void clear() noexcept { size_ = 0; }
  /// Gives the memory back too.
  void release() noexcept {
    std::free(std::exchange(data_, nullptr));
    size_ = capacity_ = 0;
  }

 private:
  void grow(std::size_t more) noexcept {
    std::size_t wanted = capacity_ < 128 ? 256 : capacity_ * 2;
    if (wanted < size_ + more) wanted = size_ + more;
    void* memory = std::realloc(data_, wanted);
    EVLUA_CHECK(memory != nullptr);
    data_ = static_cast<char*>(memory);
    capacity_ = wanted;
  }

  char* data_ = nullptr;
  std::size_t size_ = 0;
  std::size_t capacity_ = 0;
};

}  // namespace evlua
